"""`ravine.tune.lr_range`: which learning rate, within which bounds, and how do we know?"""

from collections.abc import Callable
from typing import Any

from torch import nn

from ravine.core.declared import check_value
from ravine.core.dry_run import dry_run
from ravine.core.errors import RavineError, unknown
from ravine.core.seeds import derive
from ravine.core.task import Task
from ravine.loop import check_device
from ravine.tune.book import book
from ravine.tune.decide import EXPONENT, PROPORTIONAL
from ravine.tune.ledger import Ledger
from ravine.tune.result import Result
from ravine.tune.search import LEAST, SMALLEST, search
from ravine.tune.trial import Subject, subject

METHODS = {"range": search, "book": book}
WIDE = 1e3  # of a rule that names no range of its own: its default lr, a thousandth and a thousand times


def lr_range(
    task: Task,
    spec: Any = "adam",
    seeds: int = 3,
    *,
    steps: int = 1000,
    budget: int = 300,
    method: str = "range",
    model: nn.Module | None = None,
    span: tuple[float, float] | None = None,
    seed: int = 0,
    device: str = "cpu",
    observe: Callable[[int], None] | None = None,
) -> Result:
    """Find a learning rate by a range test that is repeated over seeds and validated by short runs at fixed rates.

    spec: a spec, a rule, or a live optimizer (then with `model=`). Groups keep the ratios of their lrs: one factor
        moves all of them. Schedules are left out while testing; what is suggested is the lr that they multiply.
    seeds: of weights and data order, for the sweeps; validation uses two of them.
    steps: the length of the run that is planned, in gradient evaluations. A longer run wants a lower lr.
    budget: gradient evaluations that all of it may take (method "range").
    method: "range", or "book": a bit above the best of the first 100 iterations, which has no budget and takes more.
    model: a live module to start from, of which copies are trained.
    span: the lrs of the first group between which to look; ten times wider than a race would unless given.
    observe: is told the evaluations spent so far.

    Task, model, buffers, optimizer and all random states are left as they were. The answer may be that none can be
    told: `suggestion` is then None, and `reason` says what to do. Raises `RavineError` for what cannot be tested.

    >>> import ravine
    >>> found = ravine.tune.lr_range(ravine.task("digits-mlp"), "momentum")
    >>> found.suggestion is None or found.low <= found.suggestion <= found.high
    True
    """
    _check(task, method, seeds, steps, budget, seed)
    place = check_device(device)
    what = subject(task, spec, model, steps)
    looked = _span(what, span)
    if model is None:
        dry_run(task, device)
    exponent = PROPORTIONAL if what.proportional else EXPONENT
    names = [derive(seed, "learning rate", i) for i in range(seeds)]
    ledger = Ledger(lambda one: what.begin(one, place), names, budget, steps, exponent, observe)
    answer = METHODS[method](ledger, looked)
    suggestion = None if answer.suggestion is None else float(f"{answer.suggestion:.2g}")
    written, lrs = (str(what.spec or ""), ()) if suggestion is None else what.named(suggestion)
    return Result(
        task=task.name, method=method, suggestion=suggestion, low=answer.low, high=answer.high,
        diverges_at=answer.diverges_at, reason=answer.reason, spec=written, lrs=lrs, cost=ledger.spent, steps=steps,
        curve=ledger.curve(),
    )  # fmt: skip


def _check(task: Any, method: str, seeds: int, steps: int, budget: int, seed: int) -> None:
    if not isinstance(task, Task):
        raise RavineError(f"lr_range needs a ravine.Task such as ravine.task('digits-mlp'), got {type(task).__name__}")
    if method not in METHODS:
        raise unknown("method of finding a learning rate", str(method), METHODS)
    check_value("seeds", seeds, int, "[1, inf)")
    check_value("steps", steps, int, "[1, inf)")
    check_value("seed", seed, int, "[0, inf)")
    check_value("budget", budget, int, "[1, inf)")
    needed = SMALLEST + LEAST * max(0, seeds - 3)
    if method == "range" and budget < needed:
        raise RavineError(f"budget={budget} is too small for {seeds} seeds: sweeps and runs need {needed} or more")


def _span(what: Subject, given: Any) -> tuple[float, float]:
    """Between which lrs to look: those given, or those of the rule's own range and a good bit beyond its ends."""
    if given is not None:
        try:
            low, high = (float(end) for end in given)
        except (TypeError, ValueError):
            raise RavineError(f"span must be two lrs such as (1e-4, 1), got {given!r}") from None
        if not 0 < low < high < float("inf") or high / low < 10:
            raise RavineError(f"span must be two lrs 0 < low < high, a factor of ten apart or more, got {given!r}")
        return low, high
    tuned = what.rule.dimensions().get("lr") if what.rule is not None else None
    if tuned is not None:
        return tuned.low / 10, tuned.high * 10**0.5
    middle = what.rule.lr if what.rule is not None else what.lrs[0]
    return middle / WIDE, middle * WIDE
