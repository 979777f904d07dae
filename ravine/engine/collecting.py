"""Gradients gathered over several calls of `step` for one move of the parameters."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ravine.core.rule import Rule
from ravine.engine.rounding import kept_by_rule, real, widened

State = dict[str, Any]


def gathers(group: Mapping[str, Any], rule: Rule) -> bool:
    """Whether the next call of `step` will only gather the group's gradients."""
    return int(group.get("collected", 0)) + 1 < rule.collects


def gathered(group: dict[str, Any], rule: Rule, state_of: Callable[[Tensor, Rule], State]) -> bool:
    """Take the group's gradients in, if this call only gathers; whether it does."""
    if not gathers(group, rule):
        return False
    (first, *_) = rule.links
    for p in (p for p in group["params"] if p.grad is not None):
        state = state_of(p, rule)
        g = widened(real(p.grad.to_dense()))
        kept = first.collect(-g if group["maximize"] else g, **rule.part(0, state))
        for key, value in kept.items():
            state[rule.key(0, key)].copy_(value)
    group["collected"] = group.get("collected", 0) + 1
    return True


@contextmanager
def completed(due: Iterable[tuple[int, dict[str, Any], Rule, float]], states: Mapping[Tensor, Any]) -> Iterator[None]:
    """Inside, parameters that had gradients in earlier calls and none in the last have one of zeros, and move too."""
    waiting = [
        p
        for _, group, rule, _ in due
        for p in (group["params"] if rule.collects > 1 else ())
        if p.grad is None and _has_gathered(rule, states.get(p, {}))
    ]
    for p in waiting:
        p.grad = torch.zeros_like(p)
    try:
        yield
    finally:
        for p in waiting:
            p.grad = None


def _has_gathered(rule: Rule, state: Mapping[str, Any]) -> bool:
    return any(bool(value.any()) for value in rule.part(0, kept_by_rule(state)).values())
