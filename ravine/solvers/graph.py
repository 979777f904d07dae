"""Products of the Hessian from the kept graph of a gradient."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.curvature.linear import refuse_ends
from ravine.curvature.twice import checked

_AT_ONCE = 64  # columns that are differentiated together; they take as much memory as so many products


def products(gradients: Sequence[Tensor], inputs: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """From a block of vectors (n, k) to the Hessian's products with them; n numbers in the order of `inputs`."""
    curved = [i for i, g in enumerate(gradients) if g.requires_grad]
    checked(lambda: refuse_ends([gradients[i] for i in curved]))
    sizes = [one.numel() for one in inputs]

    def one(v: Tensor, batched: bool = False) -> Tensor:
        lead = v.shape[:-1]
        pieces = [part.reshape(*lead, *p.shape) for part, p in zip(torch.split(v, sizes, -1), inputs, strict=True)]
        made = torch.autograd.grad(
            [gradients[i] for i in curved], list(inputs), [pieces[i] for i in curved],
            retain_graph=True, allow_unused=True, is_grads_batched=batched,
        )  # fmt: skip
        flat = [
            v.new_zeros(*lead, p.numel()) if g is None else g.detach().reshape(*lead, -1)
            for g, p in zip(made, inputs, strict=True)
        ]
        return torch.cat(flat, -1)

    def apply(block: Tensor) -> Tensor:
        if not curved:
            return torch.zeros_like(block)
        rows = block.T.contiguous()
        if len(rows) > 1:
            try:
                return torch.cat([one(some, batched=True) for some in torch.split(rows, _AT_ONCE)]).T
            except (RuntimeError, NotImplementedError):  # an operation that cannot be vmapped: one after the other
                pass
        return torch.stack([checked(partial(one, row)) for row in rows], 1)

    return apply


def check_loss(loss: object, owner: str = "the closure must return the loss") -> None:
    """Raise unless a loss is one number of a tensor."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise RavineError(f"{owner}, a tensor of one number, got {found}: take its mean or sum")
    if loss.is_complex():
        raise RavineError(f"{owner}, a real number, got one of {loss.dtype}: take its .abs() or .real")
