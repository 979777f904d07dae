"""Plain recurrent nets of tanh units that say one number at the end, many copies at once, each a row of weights."""

import torch
from torch import Tensor

INPUTS = 2


def parts(weights: Tensor, units: int) -> list[Tensor]:
    """Views of (R, size): input (R, 2, n), recurrent (R, n, n) and output weights (R, n, 1); biases of both layers."""
    sizes = [INPUTS * units, units * units, units, units, 1]
    into, recurrent, out, bias, offset = torch.split(weights, sizes, 1)
    shaped = [into.view(-1, INPUTS, units), recurrent.view(-1, units, units), out[:, :, None]]
    return [*shaped, bias[:, None], offset[:, :, None]]


def start(recurrent: Tensor, chance: torch.Generator) -> Tensor:
    """The weights of a copy with that recurrent matrix (to, from); input and output weights N(0, 0.1²), biases 0."""
    units = len(recurrent)
    into, out = (0.1 * torch.randn(size, generator=chance) for size in (INPUTS * units, units))
    return torch.cat([into, recurrent.T.flatten(), out, torch.zeros(units + 1)])


def states(weights: Tensor, x: Tensor, units: int) -> list[Tensor]:
    """h_0 = 0 and h_t = tanh(x_t U + h_{t-1} W + b), each (R, n, units), for sequences x of (R, n, T, 2)."""
    into, recurrent, _, bias, _ = parts(weights, units)
    found = [x.new_zeros(*x.shape[:2], units)]
    for t in range(x.shape[2]):
        found.append(torch.baddbmm(x[:, :, t] @ into + bias, found[-1], recurrent).tanh_())
    return found


def answers(weights: Tensor, x: Tensor, units: int) -> Tensor:
    """What each copy says at the end of its sequences: (R, n)."""
    _, _, out, _, offset = parts(weights, units)
    return (states(weights, x, units)[-1] @ out + offset)[..., 0]


def gradient(weights: Tensor, x: Tensor, y: Tensor, units: int) -> Tensor:
    """Of each copy's mean squared error, by backpropagation through time: (R, size).

    By hand, since all products with states are one product here: autograd makes one for each step, and takes twice
    as long.
    """
    _, recurrent, out, _, offset = parts(weights, units)
    h, back = states(weights, x, units), recurrent.mT.contiguous()
    error = 2 / x.shape[1] * (h[-1] @ out + offset - y[..., None])
    deltas, delta = [], error @ out.mT
    for state in reversed(h[1:]):
        deltas.append(delta * (1 - state * state))
        delta = deltas[-1] @ back
    delta = torch.stack(deltas[::-1], 1).flatten(1, 2)
    before, given = torch.stack(h[:-1], 1).flatten(1, 2), x.transpose(1, 2).flatten(1, 2)
    slopes = [given.mT @ delta, before.mT @ delta, h[-1].mT @ error, delta.sum(1), error.sum(1)]
    return torch.cat([slope.flatten(1) for slope in slopes], 1)


def clipped(slope: Tensor, most: float) -> Tensor:
    """Each copy's gradient, shortened to that norm where it is longer."""
    norms: Tensor = slope.norm(dim=1, keepdim=True)
    return slope / (norms / most).clamp(min=1)
