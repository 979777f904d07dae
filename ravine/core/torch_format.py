"""How torch.optim writes down what a rule keeps, so that checkpoints go both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TorchFormat:
    """The words of torch's optimizer of the same name.

    state: its names of the rule's state.
    numbers: its arguments, each with the rule's number, or numbers, of the same meaning.
    fixed: the arguments that make torch's optimizer do what this rule does.
    counts: whether it counts steps.
    """

    state: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    counts: bool = True


MOMENTS: dict[str, str] = {"m": "exp_avg", "v": "exp_avg_sq"}
BETAS: dict[str, str | tuple[str, ...]] = {"betas": ("beta1", "beta2"), "eps": "eps"}
