"""Which constant makes the scale of a normalization the identity: 1, or 0 where the module adds 1 itself."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def neutral(module: nn.Module) -> float | None:
    """The constant for `weight` with which a normalization gives numbers of its own size, as a copy of it shows.

    1 for torch's own. Another's runs once on normal numbers with a weight of 0: what comes out as zeros is multiplied
    by the weight, so 1; what comes out half as large as with a weight of 1 is multiplied by 1 + weight, as in Gemma, so
    0. None where it is neither or does not run: it takes (4, n), (4, n, 3) or (4, n, 3, 3) for n weights.
    """
    if type(module).__module__.startswith("torch.nn."):
        return 1.0
    try:
        tried = copy.deepcopy(module).eval()
    except Exception:  # a module may hold anything, and one that cannot be copied is not tried
        return None
    weight = tried.get_parameter("weight")
    for shape in ((4,), (4, 3), (4, 3, 3)):
        x = torch.randn(4, weight.numel(), *shape[1:], generator=torch.Generator().manual_seed(0))
        found = [_with(tried, weight, value, x.to(weight)) for value in (0.0, 1.0)]
        if found[0] is not None and found[1] is not None:
            nothing, one = (float(t.float().square().mean().sqrt()) for t in found if t is not None)
            if nothing == 0 and one > 0:
                return 1.0
            return 0.0 if abs(one / nothing - 2) < 0.01 and abs(nothing - 1) < 0.1 else None
    return 1.0 if isinstance(module, _TORCHS) else None


_TORCHS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


def _with(module: nn.Module, weight: Tensor, value: float, x: Tensor) -> Tensor | None:
    """What a module gives for x with all weights at `value` and no bias; None where it does not run."""
    try:
        with torch.no_grad():
            for p in module.parameters():
                p.fill_(value if p is weight else 0.0)
            made = module(x)
    except Exception:  # of any kind: the shape was a guess
        return None
    return made if isinstance(made, Tensor) and made.shape == x.shape and bool(made.isfinite().all()) else None


def as_new(owner: _NormBase, scale: Tensor) -> None:
    """A scale of 1, behind statistics of nothing yet: those of before were of other weights."""
    owner.reset_running_stats()
    scale.fill_(1.0)
