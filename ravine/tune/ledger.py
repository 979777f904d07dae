"""What a test has spent and seen so far, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from ravine.tune.decide import EXPONENT, Sweep, Try
from ravine.tune.trial import Trial


@dataclass(frozen=True)
class Answer:
    """An lr with its interval, or None, and why."""

    suggestion: float | None
    low: float | None
    high: float | None
    diverges_at: float | None
    reason: str

    @classmethod
    def unknown(cls, reason: str, diverges_at: float | None = None) -> Self:
        """No lr can be told."""
        return cls(None, None, None, diverges_at, reason)


@dataclass
class Ledger:
    """Sweeps and tries as they come in; `begin` starts a run for a seed, `observe` is told what has been spent."""

    begin: Callable[[int], Trial]
    seeds: list[int]
    budget: int
    steps: int
    exponent: float = EXPONENT
    observe: Callable[[int], None] | None = None
    sweeps: list[Sweep] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    spent: int = 1  # the dry run before it

    def left(self) -> int:
        """Evaluations of the gradient that may still be spent."""
        return self.budget - self.spent

    def swept(self, sweep: Sweep) -> None:
        """Take in one seed's sweep."""
        self.sweeps.append(sweep)
        self._spend(sweep.evaluations)

    def tried(self, one: Try) -> Try:
        """Take in one run at a fixed lr."""
        self.tries.append(one)
        self._spend(one.evaluations)
        return one

    def sweep_of(self, seed: int) -> Sweep:
        """The sweep of that seed."""
        return next(sweep for sweep in self.sweeps if sweep.seed == seed)

    def curve(self) -> dict[str, Any]:
        """All of it as plain lists."""
        return {"sweeps": [one.content() for one in self.sweeps], "validation": [one.content() for one in self.tries]}

    def _spend(self, evaluations: int) -> None:
        self.spent += evaluations
        if self.observe is not None:
            self.observe(self.spent)
