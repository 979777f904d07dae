"""Slide 9: examples that repeat one another tell nothing new: one of m copies gives the whole gradient."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ravine.claims._stacked import digits
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported, shown, within
from ravine.core.seeds import GlobalStream


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """The gradient of the mean loss, and the floating-point operations that it took."""
    with FlopCounterMode(display=False) as counter:
        parts = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return torch.cat([part.flatten() for part in parts]), counter.get_total_flops()


def _measure(trial: Trial) -> Findings:
    ((x, y),) = digits(trial.torch("digits"), 50)
    with GlobalStream(trial.seeds(1)[0]):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).double()
    checks, rows = [], []
    for different, copies in ((1, 1000), (50, 20)):
        small, little = _gradient(model, x[:different], y[:different])
        whole, much = _gradient(model, x[:different].repeat(copies, 1), y[:different].repeat(copies))
        apart = ((small - whole).norm() / whole.norm()).item()
        what = f"{different} different, {copies} copies of each"
        checks.append(at_most(f"‖g_small - g‖ / ‖g‖, {what}", apart, 1e-12, claimed=0))
        checks.append(within(f"operations for the whole over those for the few, {what}", much / little, copies, tol=0))
        rows.append((different * copies, different, shown(apart), little, much))
    noise = 1e-3 * torch.randn(1000, 64, dtype=torch.float64, generator=trial.torch("noise"))
    small, _ = _gradient(model, x[:1], y[:1])
    whole, _ = _gradient(model, x[:1] + noise, y[:1].expand(1000))
    apart = ((small - whole).norm() / whole.norm()).item()
    checks.append(reported("‖g_small - g‖ / ‖g‖, 1 of 1,000 copies with pixel noise of 0.001", apart))
    columns = ["examples", "different", "‖g_small - g‖ / ‖g‖", "operations, the few", "operations, all"]
    return Findings(checks, tables=[Table("The gradient of the few for that of all", columns, rows)])


claim = Claim(
    slide=(9,),
    kind="EXACT",
    statement="Training sets are redundant: in the worst case, m identical examples, one of them gives the correct "
    "gradient at 1/m of the cost.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.1.3",
    equation="(1/m) Σ ∇L(x, y) = ∇L(x, y)",
    claimed="the same gradient, to rounding, for 1/m of the operations",
    setting="MLP 64-64-64-10 (ReLU, float64); one digit copied 1,000 times, and 50 digits copied 20 times each. "
    "Operations are those of the matrix products, forward and backward, as torch counts them.",
    measure=_measure,
    seconds=1,
)
