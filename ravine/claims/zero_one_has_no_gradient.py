"""Slide 7: the 0-1 loss is flat almost everywhere, so descent needs a surrogate such as the log-likelihood."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.claims._stacked import cross_entropy, digits, errors
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import above, at_least, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing.estimate import mean

POINTS, WIDTH = 1000, 1e-7


def _zero_one(logits: Tensor, y: Tensor) -> Tensor:
    """Each model's share of wrong answers, by signs, through which autograd passes."""
    right = F.one_hot(y, 10).bool()
    best_other = logits.masked_fill(right, -torch.inf).amax(-1)
    return ((1 + (best_other - logits[..., right].view(best_other.shape)).sign()) / 2).mean(-1)


def _slopes(weights: Tensor, along: Tensor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Gradients of both losses at every point, and their central differences along a direction of each."""
    found = {}
    for name, loss in (("zero-one", _zero_one), ("likelihood", cross_entropy)):
        (found[f"{name} gradient"],) = torch.autograd.grad(loss(x @ weights, y).sum(), weights)
        with torch.no_grad():
            ahead, behind = (loss(x @ (weights + sign * WIDTH * along), y) for sign in (1, -1))
        found[f"{name} difference"] = (ahead - behind) / (2 * WIDTH)
    return found


def _line(weights: Tensor, along: Tensor, x: Tensor, y: Tensor) -> Figure:
    """Both losses on a line through one point."""
    ts = torch.linspace(-30, 30, 300, dtype=torch.float64)
    logits = x @ (weights[:1].detach() + ts[:, None, None] * along[:1])
    zero_one = Series("0-1 loss", ts.tolist(), _zero_one(logits, y).tolist())
    likelihood = Series("negative log-likelihood", ts.tolist(), cross_entropy(logits, y).tolist())
    caption = "On a line through weight space the 0-1 loss is a staircase, level on each tread; its surrogate leans."
    x_name = "distance along a random direction"
    return Figure(caption, [Panel(x_name, "share wrong", [zero_one]), Panel(x_name, "nats", [likelihood])])


def _measure(trial: Trial) -> Findings:
    ((x, y),) = digits(trial.torch("digits"), 100)
    chance = trial.torch("points")
    weights = torch.randn(POINTS, 64, 10, dtype=torch.float64, generator=chance).requires_grad_()
    along = torch.randn(POINTS, 64, 10, dtype=torch.float64, generator=chance)
    along /= along.flatten(1).norm(dim=1)[:, None, None]
    found = _slopes(weights, along, x, y)
    same = (_zero_one(x @ weights, y) - errors(x @ weights, y)).abs().max().item()
    norms = found["likelihood gradient"].flatten(1).norm(dim=1)
    foretold = (found["likelihood gradient"] * along).sum((1, 2))
    apart = (found["likelihood difference"] - foretold).abs().max().item()
    checks = [
        within("largest entry of a gradient of the 0-1 loss", found["zero-one gradient"].abs().max().item(), 0, tol=0),
        within(
            "largest difference quotient of the 0-1 loss", found["zero-one difference"].abs().max().item(), 0, tol=0
        ),
        at_least("smallest gradient norm of the log-likelihood", norms.min().item(), 0.01),
        at_most("its difference quotients, farthest from the gradient", apart, 1e-6),
        within("the 0-1 loss by signs, farthest from the share of wrong answers", same, 0, tol=1e-12),
        above("mean gradient norm of the log-likelihood", mean(norms.tolist())),
    ]
    return Findings(checks, [_line(weights, along, x, y)])


claim = Claim(
    slide=(7,),
    kind="EXACT",
    statement="The 0-1 loss gives descent nothing to go by: its derivative is 0 wherever it has one. The negative "
    "log-likelihood, its surrogate, has a useful gradient.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.2",
    equation="d/dθ mean [ŷ(x; θ) ≠ y] = 0 almost everywhere",
    claimed="at 1,000 random points gradient and difference quotient of the 0-1 loss are 0, the surrogate's never",
    setting="Softmax regression on 100 digits, 1,000 points with normal weights, float64; autograd, and central "
    "differences over 2e-7 along a random direction.",
    measure=_measure,
    seconds=1,
)
