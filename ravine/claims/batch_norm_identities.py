"""Slide 52: what batch normalization makes of a layer, and what it makes the gradient forget."""

import torch
from torch import Tensor, nn

from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.strategies.batch_norm import BatchNorm

DELTA = 1e-8
SCALES = (0.1, 0.5, 1.0, 3.0, 10.0, 100.0)
UNITS, INPUTS, EXAMPLES, BATCHES = 8, 12, 64, 40


def _normalized(h: Tensor) -> Tensor:
    made: Tensor = BatchNorm(h.shape[1], eps=DELTA).to(h.dtype)(h)
    return made


def _worst(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def _measure(trial: Trial) -> Findings:
    draw = trial.torch("data")
    u, w, r = (torch.randn(*shape, generator=draw, dtype=torch.float64)
               for shape in ((EXAMPLES, INPUTS), (INPUTS, UNITS), (EXAMPLES, UNITS)))  # fmt: skip
    made = _normalized(3 + u @ w)
    checks = [
        at_most("largest |mean| of a unit over the batch", made.mean(0).abs().max().item(), 1e-6, claimed=0),
        at_most("largest |variance - 1|", (made.var(0, correction=0) - 1).abs().max().item(), 1e-6, claimed=0),
    ]
    gradients = []
    for a in SCALES:
        scaled = (a * w).requires_grad_()
        out = _normalized(u @ scaled)
        gradients.append(torch.autograd.grad((r * out).sum(), scaled)[0])
        checks.append(at_most(f"BN((aW)u) against BN(Wu), a = {a:g}", _worst(out.detach(), _normalized(u @ w)), 1e-6))
    one = gradients[SCALES.index(1.0)]
    checks += [
        at_most(f"a ∂/∂(aW) against ∂/∂W, a = {a:g}", _worst(a * g, one), 1e-6, claimed=0)
        for a, g in zip(SCALES, gradients, strict=True)
    ]
    h = (u @ w).requires_grad_()
    g = torch.autograd.grad((r * _normalized(h)).sum(), h)[0]
    size = g.abs().max()
    checks += [
        at_most("component of the gradient along a shift of H", (g.sum(0).abs().max() / size).item(), 1e-9, claimed=0),
        at_most(
            "along a change of its scale", ((g * (h - h.mean(0))).sum(0).abs().max() / size).item(), 1e-6, claimed=0
        ),
        *_chain(trial),
        *_evaluated(trial),
    ]
    norms = [g.norm().item() for g in gradients]
    lines = [
        Series("measured", SCALES, norms, kind="points"),
        Series("‖∂/∂W‖ / a", SCALES, [norms[SCALES.index(1.0)] / a for a in SCALES], kind="reference"),
    ]
    caption = "A weight matrix a times as large has a gradient 1/a as large, and the same outputs."
    return Findings(
        checks, [Figure(caption, [Panel("factor a of the weights", "norm of the gradient", lines, log="xy")])]
    )


def _chain(trial: Trial) -> list:  # type: ignore[type-arg]  # of checks
    """A linear chain whose last hidden layer is normalized: y = v BN(w_4 w_3 w_2 w_1 x)."""
    draw = trial.torch("chain")
    x = torch.randn(EXAMPLES, 1, generator=draw, dtype=torch.float64)
    weights = [nn.Parameter(1 + torch.rand(1, 1, generator=draw, dtype=torch.float64)) for _ in range(4)]

    def output(factor: float) -> Tensor:
        h = factor * x
        for w in weights:
            h = h @ w
        return 0.7 * _normalized(h).detach()

    plain = output(1.0)
    return [
        *(
            at_most(f"change of y, a lower weight times {c:g}", _worst(output(c), plain), 1e-6, claimed=0)
            for c in (0.5, 7)
        ),
        at_most("y plus its opposite, a lower weight times -1", _worst(output(-1.0), -plain), 1e-6, claimed=0),
        within("largest |y|, a lower weight times 0", output(0.0).abs().max().item(), 0, tol=0),
    ]


def _evaluated(trial: Trial) -> list:  # type: ignore[type-arg]  # of checks
    """In evaluation averages of the batches' means and variances, unrolled from all batches, take their place."""
    draw = trial.torch("evaluation")
    rho = 0.1
    norm = BatchNorm(UNITS, eps=DELTA, momentum=rho).double().train()
    means, variances = [], []
    for i in range(BATCHES):
        h = i / BATCHES + torch.randn(EXAMPLES, UNITS, generator=draw, dtype=torch.float64)
        norm(h)
        means.append(h.mean(0))
        variances.append(h.var(0))
    shares = torch.tensor([rho * (1 - rho) ** (BATCHES - 1 - i) for i in range(BATCHES)], dtype=torch.float64)
    mean, variance = shares @ torch.stack(means), (1 - rho) ** BATCHES + shares @ torch.stack(variances)
    norm.eval()
    h = 5 + torch.randn(EXAMPLES, UNITS, generator=draw, dtype=torch.float64)
    made, alone = norm(h).detach(), torch.cat([norm(row[None]) for row in h]).detach()
    return [
        at_most("evaluation against (H - running μ) / √(δ + running σ²)",
                _worst(made, (h - mean) / (DELTA + variance).sqrt()), 1e-9, claimed=0),
        at_most("evaluation of an example alone against in its batch", _worst(alone, made), 1e-12, claimed=0),
    ]  # fmt: skip


claim = Claim(
    slide=(52,),
    kind="EXACT",
    statement="Batch normalization gives every unit mean 0 and variance 1 over the batch; so neither scale nor shift "
    "of what lies below shows, and the gradient has no part that would change them. In evaluation, averages kept while "
    "training take the place of the batch's mean and variance.",
    source="Kan Ren's slides, slide 52; Goodfellow, Bengio & Courville 2016, sec. 8.7.1, eq. 8.35-8.37; Ioffe & "
    "Szegedy 2015, sec. 3.3",
    equation="H' = (H - μ) / √(δ + σ²);   BN((aW)u) = BN(Wu),   ∂/∂(aW) = (1/a) ∂/∂W",
    claimed="all to rounding, and to δ = 1e-8 over the variance; in a linear chain only a sign and a zero show",
    setting=f"{EXAMPLES} examples, {INPUTS} inputs, {UNITS} units, weights scaled by 0.1 to 100; a chain of four "
    f"layers of one unit; {BATCHES} batches for the averages, with momentum 0.1; float64.",
    measure=_measure,
    seconds=1,
)
