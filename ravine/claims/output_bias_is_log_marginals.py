"""Slide 36: the output's bias set to the marginals: softmax(b) = c starts at the entropy of c, not at ln K."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, at_least, at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.init import output_bias
from ravine.optimizer import Optimizer
from ravine.racing.estimate import mean
from ravine.rules import SGD

SHARES = (0.9, 0.05, 0.05)
EXAMPLES, INPUTS, LR = 2000, 100, 0.1
ENTROPY = -sum(c * math.log(c) for c in SHARES)


def _labels() -> Tensor:
    """Classes in exactly those shares."""
    return torch.cat([torch.full((round(c * EXAMPLES),), k) for k, c in enumerate(SHARES)])


def _layer(marginal: bool, std: float, chance: torch.Generator) -> torch.nn.Linear:
    layer = torch.nn.Linear(INPUTS, len(SHARES), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.normal_(0, 1, generator=chance).mul_(std)
        layer.bias.zero_()
    if marginal:
        output_bias(layer, _labels())
    return layer


def _loss(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.cross_entropy(layer(x), _labels())


def _losses(layer: torch.nn.Linear, x: Tensor, steps: int) -> list[float]:
    """Along full-batch gradient descent."""
    optimizer, found = Optimizer(layer.parameters(), SGD(), lr=LR), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = _loss(layer, x)
        found.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return found


def _measure(trial: Trial) -> Findings:
    x = torch.randn(EXAMPLES, INPUTS, generator=trial.torch("inputs"), dtype=torch.float64)
    zero = [_loss(_layer(marginal, 0.0, trial.torch("w")), x).item() for marginal in (False, True)]
    small = mean([_loss(_layer(True, 0.01, trial.torch("w", i)), x).item() for i in range(20)])
    runs = [_losses(_layer(marginal, 0.01, trial.torch("w", 0)), x, 400) for marginal in (False, True)]
    steps = next((k for k, loss in enumerate(runs[0]) if loss <= ENTROPY), 400)
    checks: list[Check] = [
        within("loss at the start, weights 0, b = 0", zero[0], math.log(3), tol=1e-12),
        within("loss at the start, weights 0, softmax(b) = c", zero[1], ENTROPY, tol=1e-12),
        within("loss at the start, weights of std 0.01, softmax(b) = c", small, ENTROPY, tol=0.01),
        at_least("steps to the entropy from b = 0", steps, 50),
    ]
    series = [
        Series(name, range(1, 401, 4), run[::4]) for name, run in zip(("b = 0", "softmax(b) = c"), runs, strict=True)
    ]
    series.append(Series("entropy of c", [1, 400], [ENTROPY, ENTROPY], kind="reference"))
    gaussian, errors = _gaussian(trial)
    checks += errors
    caption = "Softmax regression on inputs that say nothing: from b = 0 the first steps are spent on the bias."
    figure = Figure(caption, [Panel("step", "loss (nats)", series, log="x")])
    return Findings(checks, [figure], [gaussian], NOTES)


def _gaussian(trial: Trial) -> tuple[Table, list[Check]]:
    """The same for a Gaussian output with a precision β, eq. 8.24: its loss at the start, weights 0."""
    y = 5 + 3 * torch.randn(EXAMPLES, generator=trial.torch("y"), dtype=torch.float64)
    b, beta = output_bias(torch.nn.Linear(1, 2, dtype=torch.float64), y, kind="precision")
    best = 0.5 * math.log(2 * math.pi * math.e * float(1 / beta))

    def loss(b: float, beta: float) -> float:
        return float((beta * (y - b) ** 2 - math.log(beta) + math.log(2 * math.pi)).mean() / 2)

    set_, plain = loss(float(b), float(beta)), loss(0.0, 1.0)
    grid = [loss(float(b) + db, float(beta) * f) for db in (-0.1, 0, 0.1) for f in (0.9, 1, 1.1)]
    rows = [
        ("b = 0, β = 1", f"{plain:.4f}"),
        ("b = mean, β = 1", f"{loss(float(b), 1.0):.4f}"),
        ("b = mean, β = 1/variance", f"{set_:.4f}"),
        ("½ ln(2πe s²)", f"{best:.4f}"),
    ]
    checks = [
        within("Gaussian output: loss with b = mean, β = 1/variance", set_, best, tol=1e-12),
        at_most("its excess over the nine values around it", set_ - min(grid), 0),
    ]
    return Table(
        "Gaussian output with precision β (eq. 8.24): negative log-likelihood at the start", ("set to", "nats"), rows
    ), checks


NOTES = (
    "With weights near 0 the output is what the bias says, so the best bias is that of the marginals; then the loss "
    "starts at their entropy and every step is spent on what the inputs tell.",
    "The steps saved depend on the learning rate and on how skewed the classes are; here 0.1, and shares of 90, 5 and "
    "5 %.",
)

claim = Claim(
    slide=(36,),
    kind="EXACT",
    statement="The bias of an output unit is set to obtain the right marginal statistics: for classes of frequencies "
    "c solve softmax(b) = c; a variance or precision parameter is set to the marginal one.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.4, p. 305-306, eq. 8.24",
    equation="softmax(b) = c: loss H(c) instead of ln K;   b = mean, β = 1/s²: loss ½ ln(2πe s²)",
    claimed="for c = (0.9, 0.05, 0.05) 0.3944 instead of 1.0986; at least 50 steps saved",
    setting="2,000 examples of three classes in exact shares, 100 normal inputs that say nothing about them; weights 0 "
    "or of std 0.01 (20 draws), gradient descent at 0.1; 2,000 normal outputs of mean 5 and std 3; float64.",
    measure=_measure,
    seconds=3,
)
