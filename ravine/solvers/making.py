"""From the text of a spec to the solver that it means."""

from collections.abc import Mapping
from typing import Any

from ravine.core.composition import COMPOSITIONS
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.core.spec import Call, SpecError, parse_links
from ravine.solvers.base import Direction, Search

_TORCHS = {
    "max_iter": "iterations= of the optimizer, or max_evaluations= of ravine.minimize", "history_size": "history=",
    "max_eval": "most= of the search, as in search='strong_wolfe(most=20)'", "line_search_fn": "search=",
    "tolerance_grad": "tol= of ravine.minimize", "tolerance_change": "tol= of ravine.minimize",
}  # fmt: skip


def make_direction(solver: str | Direction, hyperparameters: Mapping[str, Any]) -> Direction:
    """The direction that a spec and hyperparameters beside it mean; search= may be a `Search` too."""
    if isinstance(solver, Direction):
        return solver
    if not isinstance(solver, str):
        raise RavineError(f"solver= must be a spec such as 'lbfgs(history=10)' or a Direction, got {solver!r}")
    given = {key: str(one) if isinstance(one, Search) else one for key, one in hyperparameters.items()}
    call = _call(solver).including(**given)
    for name in dict(call.arguments):
        if name in _TORCHS:
            raise RavineError(f"{call.name}: {name}= is torch's name; here it is {_TORCHS[name]}")
    return Direction.make(call)


def _call(solver: str) -> Call:
    form = "a solver's spec looks like lbfgs(history=10) or newton_cg(search='trust_region')"
    if not solver.strip():
        raise RavineError(f"solver= is empty: {form}")
    try:
        calls = parse_links(solver)
    except SpecError as error:
        shown = str(error).rsplit("\n", 1)[0]  # its last line shows a rule's
        raise SpecError(f"{shown}\n{form[0].upper()}{form[1:]}") from None
    if len(calls) != 1:
        raise RavineError(f"a solver stands alone, it cannot be chained: '{solver}'")
    if calls[0].name not in Direction.family() and _is_rule(calls[0].name):
        raise RavineError(
            f"'{calls[0].name}' is an update rule, not a solver: rules train networks, by ravine.train(task, "
            f"'{calls[0].name}') or ravine.Optimizer. Solvers: {', '.join(sorted(Direction.registry))}"
        )
    return calls[0]


def _is_rule(name: str) -> bool:
    import ravine.rules  # noqa: F401  # makes their names known

    return name in COMPOSITIONS or name in Rule.family()
