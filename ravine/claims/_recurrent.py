"""Random recurrent nets h <- tanh(W h + x), and how a small difference between two states grows."""

import torch
from torch import Tensor


def growth(
    gain: float, nets: int, chance: torch.Generator, *, size: int, steps: int, settle: int, drive: float = 0.0
) -> tuple[Tensor, Tensor]:
    """ln ‖dh_T/dh_0 v‖ for T = 1 ... steps and random v, and ln ρ_eff: (nets, steps), (nets,).

    W has independent entries of variance gain²/size, x of variance drive²; `settle` steps forget the start.
    ρ_eff = gain (E φ'²)^½ over the states met: the spectral radius of diag(φ') W, were φ' independent of W.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    w, h, v = gain / size**0.5 * normal(nets, size, size), normal(nets, size, 1), normal(nets, size, 1)
    slopes, logs, found = [], torch.zeros(nets, dtype=torch.float64), []
    for step in range(-settle, steps):
        both = w @ torch.cat([h, v / v.norm(dim=1, keepdim=True)], 2)
        h = torch.tanh(both[..., :1] + (drive * normal(nets, size, 1) if drive else 0))
        if step >= 0:
            slope = 1 - h**2
            v = slope * both[..., 1:]
            logs = logs + v.norm(dim=1)[:, 0].log()
            found.append(logs)
            slopes.append(slope.square().mean((1, 2)))
    return torch.stack(found, 1), torch.stack(slopes).mean(0).mul(gain**2).log() / 2
