"""A whole model initialized by role."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ravine.core.errors import RavineError
from ravine.core.roles import unwrapped
from ravine.core.spec import Spec
from ravine.init.activations import Activation, Function, activation
from ravine.init.chain import assumed, chain, is_norm
from ravine.init.fixup import Fixup
from ravine.init.flow import Flow
from ravine.init.parts import MATRIX, RECURRENT, Part, parts
from ravine.init.plan import Plan, Step
from ravine.init.random_walk import RandomWalk
from ravine.init.report import Report
from ravine.init.settings import Settings, settings
from ravine.init.strategy import Source, Strategy
from ravine.init.trace import trace


def apply(
    model: nn.Module,
    spec: "str | Spec | Strategy",
    generator: torch.Generator | None = None,
    activation: "str | Function | None" = None,
    example: Any = None,
    leave: Sequence[str] = (),
) -> Report:
    """Initialize all trainable parameters of `model` in place, by role, and report what was done and why.

    spec: one strategy for all matrices, `"orthogonal(gain='auto')"`, or one per role, `"hidden: he; output: glorot;
        rest: lecun"`. Roles are input, hidden, output, embedding, recurrent, norm, bias and rest. `he + zero_residual`
        lets residual branches begin at zero.
    generator: where all numbers come from, drawn parameter by parameter in the order of the modules.
    activation: the activation behind every layer but the last. Without it, gains that need it take the one behind each
        layer: of modules in an `nn.Sequential`, or of what is seen while the model runs on `example`.
    example: inputs on which the model can run: a tensor, a tuple of arguments, or a dict of them.
    leave: names of parameters to leave alone, with wildcards, as in `["*.scale"]`.

    Packed weights (attention, recurrent gates, groups of convolutions) are taken as the matrices they are; tied weights
    are drawn once; frozen ones are left. Normalizations become 1 and 0, biases 0, forget gates 1, embeddings N(0, 1).
    Raises `RavineError` before anything has changed: unknown roles and shapes, parameters that are not understood, lazy
    or meta ones, an example that does not fit or is not finite, and where it is not clear which activation is meant.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> apply(model, "glorot", torch.Generator().manual_seed(0))["2.weight"].what
    'glorot'
    """
    if not isinstance(model, nn.Module):
        given = f"the class {model.__name__}, not an instance" if isinstance(model, type) else repr(model)
        raise RavineError(f"apply initializes a model, an nn.Module; got {given}")
    Source(generator, torch.float32, None)  # refuses what is no generator, before anything has changed
    wanted = settings(spec)
    found = parts(model)
    if not found:
        raise RavineError("the model has no parameters")
    _check_roles(wanted, found)
    one = None if activation is None else _activation(activation)
    plan = Plan(wanted, found, _flow(unwrapped(model), wanted, found, one, example), one)
    steps = plan.steps([leave] if isinstance(leave, str) else leave)
    with torch.no_grad():
        for step in steps:
            _do(step, generator)
        for step in steps:
            if step.centre:
                _centre(step)
    return Report(wanted.text, tuple(step.row for step in steps))


def _activation(given: "str | Function") -> Activation:
    return activation(given)


def _check_roles(wanted: Settings, found: list[Part]) -> None:
    roles = {part.role for part in found}
    for role in wanted.strategies:
        if role != "rest" and role not in roles:
            raise RavineError(
                f"no parameter of this model has the role '{role}'; its roles are {', '.join(sorted(roles))}"
            )


def _flow(model: nn.Module, wanted: Settings, found: list[Part], one: Activation | None, example: Any) -> Flow | None:
    """What stands before and behind each weight, as far as the spec needs it."""
    if example is not None:
        return trace(model, example)
    asking = [s for s in wanted.strategies.values() if s.asks or isinstance(s, RandomWalk)]
    if one is not None:
        matrices = [part for part in found if part.kind in MATRIX and not isinstance(part.owner, RECURRENT)]
        last = {id(part.parameter) for part in matrices if _linear(part)}
        return assumed([id(p.parameter) for p in matrices], one, last, any(is_norm(m) for m in model.modules()))
    flow = chain(model)
    if flow is None and asking and any(not isinstance(p.owner, RECURRENT) for p in found if p.kind in MATRIX):
        raise RavineError(
            f"'{wanted.text}': the gain depends on the activation behind each layer, which the modules of a "
            f"{type(model).__name__} do not tell; pass example=inputs, so that it is seen, or activation='relu'"
        )
    if flow is None and any(isinstance(s, Fixup) for s in wanted.strategies.values()):
        raise RavineError(f"'{wanted.text}': pass example=inputs, so that residual branches are seen")
    return flow


def _linear(part: Part) -> bool:
    """Whether no activation stands behind a matrix by what it is for."""
    return part.role == "output" or isinstance(part.owner, nn.MultiheadAttention) or "out_proj" in part.name


def _do(step: Step, generator: torch.Generator | None) -> None:
    p = step.part.parameter.detach()
    if step.fill is not None:
        step.fill(p)
    elif step.strategy is not None:
        views = step.part.matrices(step.turned) if step.part.kind in MATRIX else [p]
        for view, gain in zip(views, step.gains, strict=True):
            role = step.row.role
            view.copy_(step.strategy(tuple(view.shape), role, gain, generator, p.dtype, p.device))
        padding = getattr(step.part.owner, "padding_idx", None)
        if step.part.kind == "table" and padding is not None:
            p[padding].zero_()


def _centre(step: Step) -> None:
    """b = -W 1 centre, in the layer's own bias."""
    bias = step.part.owner.get_parameter("bias")
    sums = [
        view.flatten(1).sum(1, dtype=torch.promote_types(view.dtype, torch.float32)) for view in step.part.matrices()
    ]
    bias.copy_(-step.centre * torch.cat(sums))
