"""One parameter: what its rule is given, where it begins, and its step in the loop."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.chance import Label, noise_for
from ravine.engine.rounding import (
    COMPENSATION,
    by_chance,
    compensated,
    is_low,
    kept_by_rule,
    real,
    to_nearest,
    widened,
)

State = dict[str, Any]


def label_of(seed: int, group: Mapping[str, Any], number: int, i: int) -> Label:
    """What a parameter's noise is drawn from: the seed, and its name, or its place where it has none."""
    return (seed, group["param_names"][i]) if "param_names" in group else (seed, number, i)


def fresh(p: Tensor, rule: Rule, rounding: str) -> dict[str, Tensor]:
    """The state of a parameter that has not moved."""
    if reason := rule.refuses(p):  # of one that had no shape yet when the optimizer was made
        raise RavineError(f"'{rule}' cannot move a parameter of shape {tuple(p.shape)}: {reason}")
    state = rule.start(widened(real(p)))
    if hasattr(p, "to_local") and any(x.ndim and x.shape != p.shape for x in state.values()):
        raise RavineError(
            f"'{rule}' keeps matrices beside the weights, which cannot be sharded yet (a DTensor of {tuple(p.shape)}): "
            "use DistributedDataParallel, or another rule for sharded weights"
        )
    if rounding == "kahan" and is_low(p.dtype):
        state[COMPENSATION] = torch.zeros_like(real(p))
    return state


def given(p: Tensor, state: State, maximize: bool) -> tuple[Tensor, Tensor, int, dict[str, Tensor]]:
    """What a rule is given of a parameter for its next step: gradient, value, the step's number, and its state."""
    assert p.grad is not None
    seen, g = widened(real(p)), widened(real(p.grad.to_dense()))
    return -g if maximize else g, seen, state["step"] + 1, kept_by_rule(state)


def move(p: Tensor, state: State, how: Any, label: Label) -> None:
    """A step in the loop, how it is made being a `ravine.engine.bucket.How`."""
    own = real(p)
    g, seen, t, kept = given(p, state, how.maximize)
    more = how.told.more(p, label, t) if how.rule.asks else None
    u, scale, new = how.rule.move(g, seen, t, kept, how.lr, how.totals, more)
    new = {key: x.clone() if x is g else x for key, x in new.items()}  # the user's gradient is not ours to keep
    if not is_low(own.dtype):
        own.sub_(u, alpha=scale)
    elif how.rounding == "kahan":
        moved, new[COMPENSATION] = compensated(own, u, scale, state[COMPENSATION])
        own.copy_(moved)
    elif how.rounding == "stochastic":
        own.copy_(by_chance(own, u, scale, noise_for(own, label, t)))
    else:
        own.copy_(to_nearest(own, u, scale))
    state.update(new, step=t)
