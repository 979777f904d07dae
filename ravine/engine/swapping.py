"""The parameters that count, where gradients are taken at others."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ravine.engine.group import rule_of
from ravine.engine.rounding import kept_by_rule, real, widened


@contextmanager
def judged(groups: Iterable[Mapping[str, Any]], states: Mapping[Tensor, Any]) -> Iterator[None]:
    """Inside, every parameter is the one to be judged; outside, to the bit what it was."""
    resting: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for group in groups:
                rule = rule_of(group)
                for p in group["params"] if rule.judges_elsewhere else ():
                    if state := states.get(p):
                        resting.append((p, p.detach().clone()))
                        real(p).copy_(rule.judgement(widened(real(p)), kept_by_rule(state)))
        yield
    finally:
        with torch.no_grad():
            for p, value in resting:
                p.copy_(value)
