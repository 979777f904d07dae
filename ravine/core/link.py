"""What a rule says of itself, and its pure methods: the contract that `ravine.Rule` documents."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.core.declared import Declared
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat

State = dict[str, Tensor]
SCOPES = ("element", "matrix", "tensor")  # from narrow to wide
DEAR = frozenset({"noise", "product", "sampled"})  # needs that go to `refresh` alone, where a rule has one


class Link(Declared):
    """The declarations and pure methods of a rule, with what holds where it says nothing."""

    kind: ClassVar[str] = "optimizer"
    entry_group: ClassVar[str] = "ravine.rules"
    scope: ClassVar[str] = "element"
    sparse: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    wraps: ClassVar[bool] = False
    leads: ClassVar[bool] = False
    takes_displacement: ClassVar[bool] = False
    rests_alone: ClassVar[bool] = False
    default_lr: ClassVar[float | None] = None
    space: ClassVar[Mapping[str, Dimension]] = {}

    @property
    def applies_lr(self) -> bool:
        return False

    @property
    def judges_elsewhere(self) -> bool:
        return False

    @property
    def collects(self) -> int:
        """The number of gradients that are gathered for one step; see `collect`."""
        return 1

    @property
    def refreshes_every(self) -> int:
        """The number of steps from one refresh to the next; 0 for a rule that has none."""
        return 0

    def init(self, p: Tensor) -> State:
        return {}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        raise NotImplementedError

    def summarize(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> dict[str, Tensor]:
        return {}

    def refresh(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> State:
        return {}

    def judged(self, p: Tensor, **state: Tensor) -> Tensor:
        return p

    def collect(self, g: Tensor, **state: Any) -> State:
        return {}

    def measure(self, g: Tensor, p: Tensor) -> dict[str, Tensor]:
        return {}

    def probe_at(self, g: Tensor, p: Tensor, measured: Mapping[str, Tensor]) -> Tensor:
        return p

    def refuses(self, p: Tensor) -> str:
        """Why the rule cannot move a parameter of this shape; empty where it can."""
        return "it is not a matrix" if self.scope == "matrix" and p.ndim < 2 else ""

    def in_torch(self) -> TorchFormat | None:
        """How torch.optim writes what this rule keeps; None where torch has no such rule."""
        return None

    def refreshes_at(self, t: int) -> bool:
        return bool(self.refreshes_every) and (t - 1) % self.refreshes_every == 0

    def needs_at(self, t: int, need: str) -> bool:
        """Whether the rule is handed `need` at step `t`."""
        return need in self.needs and (need not in DEAR or not self.refreshes_every or self.refreshes_at(t))

    @classmethod
    def summarizes(cls) -> bool:
        return cls.summarize is not Link.summarize

    @classmethod
    def probes(cls) -> bool:
        return cls.probe_at is not Link.probe_at

    @property
    def is_arithmetic(self) -> bool:
        """Whether `update` is handed nothing but gradient, state and numbers, which can be compiled."""
        return "loss" not in self.needs and (bool(self.refreshes_every) or not DEAR & self.needs)

    @property
    def applies(self) -> bool:
        """Whether lr is in what this link returns."""
        return self.applies_lr or self.takes_displacement

    @classmethod
    def arguments_of_specs(cls) -> list[str]:
        return ["lr", *super().arguments_of_specs()]  # which the group takes before the rule is made


def choose(condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition` holds, else `b`; for numbers as for tensors, so that a rule reads the same compiled."""
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


def log(x: Any) -> Any:
    """The natural logarithm of a number as of a tensor; minus infinity at zero, as torch has it."""
    return x.log() if isinstance(x, Tensor) else math.log(x) if x > 0 else -math.inf
