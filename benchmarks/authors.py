"""Trajectories of this package's rules beside those of their authors' packages, on one small problem.

    python benchmarks/authors.py [--only adan,lamb]

Both train the same two-layer network from the same weights on the same batches for 50 steps. The difference at a step
is the largest of a weight, over the largest distance that any weight has moved; the table shows the largest of all
steps. Where authors publish no package for Python, pytorch-optimizer's or heavyball's rule stands in. A package that is
not installed is skipped. One more comparison is one more `Row`.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine import Optimizer, optim, rules
from ravine.core.composition import make_rule
from ravine.core.spec import parse_links

Params = list[nn.Parameter]
SAME = 1e-11  # of the distance moved: rounding, and no more
STEPS, WIDTH = 50, 6


@dataclass(frozen=True)
class Row:
    """A comparison.

    ours: a spec, with `lr`, or a function from parameters to an optimizer of ours.
    module, package: what to import, and what its distribution is called.
    theirs: from that module and parameters to their optimizer.
    differs: why the two are not the same to rounding, and how far apart that takes them; empty where they are.
    judged: what brings their optimizer's parameters to those that are to be judged, and what brings them back; None
        compares where gradients are taken.
    """

    name: str
    ours: str | Callable[[Params], torch.optim.Optimizer]
    module: str
    package: str
    theirs: Callable[[Any, Params], torch.optim.Optimizer]
    lr: float = 0.01
    differs: str = ""
    upto: float = SAME
    dtype: torch.dtype = torch.float64
    judged: tuple[Callable[[Any], None], Callable[[Any], None]] | None = (lambda _: None, lambda _: None)


KOZISTR = ("pytorch_optimizer", "pytorch_optimizer")
DECAY = {"weight_decay": 0.1, "weight_decouple": True}


def vectors_apart(ps: Params) -> Optimizer:
    """LARS with vectors under plain momentum, as most packages have it."""
    lars, plain = rules.LARS(0.9, 0.1, 0.02), rules.Momentum(0.9)
    return Optimizer([
        {"params": [p for p in ps if p.ndim > 1], "rule": lars},
        {"params": [p for p in ps if p.ndim < 2], "rule": plain},
    ], lr=0.1)  # fmt: skip


def in_train_mode(optimizer: Any) -> Any:
    """Begun as schedulefree wants it."""
    optimizer.train()
    return optimizer


ROWS = [
    Row(
        "adabelief", lambda ps: optim.AdaBelief(ps, 0.01, weight_decay=0.1),
        "adabelief_pytorch", "adabelief-pytorch",
        lambda m, ps: m.AdaBelief(ps, lr=0.01, weight_decay=0.1, print_change_log=False),
    ),
    Row(
        "adabelief, not rectified", "adabelief(rectify=false)",
        "adabelief_pytorch", "adabelief-pytorch",
        lambda m, ps: m.AdaBelief(ps, lr=0.01, rectify=False, print_change_log=False),
    ),
    Row(
        "adan", lambda ps: optim.Adan(ps, 0.01, weight_decay=0.1),
        *KOZISTR, lambda m, ps: m.Adan(ps, 0.01, weight_decay=0.1),
    ),
    Row(
        "adan, decoupled decay", lambda ps: optim.Adan(ps, 0.01, weight_decay=0.1, no_prox=True),
        *KOZISTR, lambda m, ps: m.Adan(ps, 0.01, **DECAY),
    ),
    Row(
        "adopt", "adopt",
        *KOZISTR, lambda m, ps: m.ADOPT(ps, lr=0.01),
        differs="theirs clips at the second gradient by 2^(1/4), the paper and the authors' code by 1", upto=1.0,
    ),
    Row(
        "adopt, clipped alike", "adopt + decay(weight_decay=0.1)",
        *KOZISTR, lambda m, ps: m.ADOPT(ps, lr=0.01, clip_lambda=lambda step: (step - 1) ** 0.25, **DECAY),
    ),
    Row("ademamix", "ademamix", *KOZISTR, lambda m, ps: m.AdEMAMix(ps, lr=0.01, alpha=2.0)),
    Row(
        "ademamix, warm-up of 30", "ademamix(alpha=5, warmup=30) + decay(weight_decay=0.1)",
        *KOZISTR, lambda m, ps: m.AdEMAMix(ps, lr=0.01, t_alpha_beta3=30, **DECAY),
    ),
    Row(
        "adafactor, torch's form", lambda ps: optim.Adafactor(ps, weight_decay=0.1),
        "torch", "torch", lambda m, ps: m.optim.Adafactor(ps, weight_decay=0.1),
    ),
    Row(
        "adafactor", "adafactor",
        *KOZISTR, lambda m, ps: m.AdaFactor(ps, betas=(None, 0.999)),
    ),
    Row(
        "adafactor, first moment", "adafactor(beta1=0.9, relative_step=false)",
        *KOZISTR,
        lambda m, ps: m.AdaFactor(ps, lr=0.01, betas=(0.9, 0.999), relative_step=False, momentum_dtype=torch.float64),
    ),
    Row(
        "lamb", "lamb(bias_correction=false, weight_decay=0.1)",
        *KOZISTR, lambda m, ps: m.Lamb(ps, lr=0.01, weight_decay=0.1, weight_decouple=False, adam_debias=True),
        differs="theirs adds eps = 1e-6 to the norm of the step below the ratio", upto=1e-5,
    ),
    Row(
        "lars", vectors_apart,
        *KOZISTR, lambda m, ps: m.LARS(ps, lr=0.1, weight_decay=0.1, trust_coefficient=0.02),
    ),
    Row(
        "lion", "lion(beta1=0.9, beta2=0.99) + decay(weight_decay=0.1)",
        "lion_pytorch", "lion-pytorch", lambda m, ps: m.Lion(ps, lr=0.01, weight_decay=0.1),
    ),
    Row(
        "lion, cautious", "lion + cautious(form='paper')",
        *KOZISTR, lambda m, ps: m.Lion(ps, lr=0.01, weight_decay=0.0, cautious=True),
    ),
    Row(
        "prodigy", lambda ps: optim.Prodigy(ps, eps=1e-25),
        "prodigyopt", "prodigyopt", lambda m, ps: m.Prodigy(ps, eps=1e-25),
    ),
    Row(
        "prodigy, all options", lambda ps: optim.Prodigy(ps, eps=1e-25, **PRODIGY),
        "prodigyopt", "prodigyopt", lambda m, ps: m.Prodigy(ps, eps=1e-25, **PRODIGY),
    ),
    Row(
        "prodigy, default eps", "prodigy",
        "prodigyopt", "prodigyopt", lambda m, ps: m.Prodigy(ps), lr=1.0,
        differs="theirs multiplies eps by the d of the next step, Algorithm 4 by that of the present one", upto=1e-2,
    ),
]  # fmt: skip
ROWS += [
    Row(
        "schedule_free(sgd)", lambda ps: optim.SGDScheduleFree(ps, 0.1, weight_decay=0.1, warmup_steps=10, r=0.5),
        "schedulefree", "schedulefree",
        lambda m, ps: in_train_mode(m.SGDScheduleFree(ps, lr=0.1, weight_decay=0.1, warmup_steps=10, r=0.5)),
        judged=(lambda o: o.eval(), lambda o: o.train()),
    ),
    Row(
        "schedule_free_adamw", lambda ps: optim.AdamWScheduleFree(ps, 0.01, weight_decay=0.1, warmup_steps=10),
        "schedulefree", "schedulefree",
        lambda m, ps: in_train_mode(m.AdamWScheduleFree(ps, lr=0.01, weight_decay=0.1, warmup_steps=10)),
        judged=(lambda o: o.eval(), lambda o: o.train()),
    ),
    Row(
        "lookahead(adam)", lambda ps: optim.Lookahead(optim.Adam(ps, 0.01)),
        *KOZISTR, lambda m, ps: m.Lookahead(torch.optim.Adam(ps, 0.01), pullback_momentum="none"), judged=None,
    ),
]  # fmt: skip
PRODIGY: dict[str, Any] = {
    "weight_decay": 0.1, "use_bias_correction": True, "safeguard_warmup": True, "d_coef": 0.8, "growth_rate": 1.3,
    "beta3": 0.9, "d0": 1e-4,
}  # fmt: skip


def problem(dtype: torch.dtype) -> tuple[Params, Callable[[int], Tensor]]:
    """The weights of a small network, and its loss on the batch of a step."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    ps = [nn.Parameter(0.5 * random(*shape)) for shape in ((WIDTH, 4), (WIDTH,), (3, WIDTH), (3,))]
    batches = [(random(16, 4), random(16, 3)) for _ in range(STEPS)]

    def loss(step: int) -> Tensor:
        x, y = batches[step]
        return ((torch.tanh(x @ ps[0].t() + ps[1]) @ ps[2].t() + ps[3] - y) ** 2).mean()

    return ps, loss


def trajectory(
    make: Callable[[Params], torch.optim.Optimizer], dtype: torch.dtype,
    judged: Sequence[Callable[[Any], None]] | None = None,
) -> list[Tensor]:  # fmt: skip
    """All weights, before the first step and after each: those to be judged, or None, where they rest."""
    ps, loss = problem(dtype)
    optimizer = make(ps)

    def evaluated(step: int) -> Tensor:
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        return value

    def seen() -> Tensor:
        return torch.cat([p.detach().double().flatten() for p in ps])

    found = [seen()]
    for step in range(STEPS):
        if isinstance(optimizer, Optimizer):
            optimizer.step(partial(evaluated, step))
            with optimizer.swapped() if judged else contextlib.nullcontext():
                found.append(seen())
        else:
            evaluated(step)
            optimizer.step()
            begin, end = judged or (lambda _: None, lambda _: None)
            begin(optimizer)
            found.append(seen())
            end(optimizer)
    return found


def difference(row: Row, module: Any) -> float:
    def written(ps: Params) -> Optimizer:
        return Optimizer(ps, make_rule(parse_links(str(row.ours))), row.lr)

    ours = trajectory(row.ours if callable(row.ours) else written, row.dtype, row.judged)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = trajectory(lambda ps: row.theirs(module, ps), row.dtype, row.judged)
    moved = [(b - theirs[0]).abs().max().item() for b in theirs]
    assert moved[-1] > 1e-4, f"{row.name}: their weights have hardly moved"
    apart = [(a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True)]
    return max(a / max(moved[: i + 1]) for i, a in enumerate(apart) if max(moved[: i + 1]) > 0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default="", help="rows whose names begin with one of these, separated by commas")
    only = tuple(name for name in arguments.parse_args().only.split(",") if name)
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # peers that compile themselves, for 50 steps
    torch.set_num_threads(1)
    print(f"{'ours':26s}{'theirs':28s}{'largest difference':>20s}")
    for row in ROWS:
        if only and not row.name.startswith(only):
            continue
        try:
            module = importlib.import_module(row.module)
        except ImportError:
            print(f"{row.name:26s}{row.package} is not installed")
            continue
        found = difference(row, module)
        package = f"{row.package} {importlib.metadata.version(row.package)}"
        why = f"   {row.differs}" if row.differs else ""
        wrong = "" if found <= row.upto else f"   MORE than the {row.upto:.0e} that is explained"
        print(f"{row.name:26s}{package:28s}{found:20.1e}{why}{wrong}", flush=True)


if __name__ == "__main__":
    main()
