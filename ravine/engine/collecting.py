"""Gradients gathered over several calls of `step` for one move of the parameters."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ravine.core.rule import Rule
from ravine.engine.rounding import real, widened

State = dict[str, Any]


def gathers(group: dict[str, Any], rule: Rule, state_of: Callable[[Tensor, Rule], State]) -> bool:
    """Whether this call only gathers the group's gradients; if so, it has."""
    if rule.collects == 1:
        return False
    group["collected"] = (group.get("collected", 0) + 1) % rule.collects
    if not group["collected"]:
        return False
    (first, *_) = rule.links
    for p in (p for p in group["params"] if p.grad is not None):
        state = state_of(p, rule)
        g = widened(real(p.grad.to_dense()))
        kept = first.collect(-g if group["maximize"] else g, **rule.part(0, state))
        for key, value in kept.items():
            state[rule.key(0, key)].copy_(value)
    return True


@contextmanager
def completed(due: Iterable[tuple[int, dict[str, Any], Rule, float]], states: Mapping[Tensor, Any]) -> Iterator[None]:
    """Inside, parameters that had gradients in earlier calls and none in the last have one of zeros, and move too."""
    gathering = [group for _, group, rule, _ in due if rule.collects > 1]
    waiting = [p for group in gathering for p in group["params"] if p.grad is None and states.get(p)]
    for p in waiting:
        p.grad = torch.zeros_like(p)
    try:
        yield
    finally:
        for p in waiting:
            p.grad = None
