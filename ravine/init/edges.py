"""The edge of chaos at every weight of a model."""

from ravine.init.activations import Activation
from ravine.init.flow import Flow, Place, Unknown
from ravine.init.gains import Edge, edge, start


def edges(flow: Flow, fallback: Activation | None) -> tuple[dict[int, Edge], dict[int, str]]:
    """The edge of chaos for every weight, by the variance that arrives at the activations before it.

    The second is what comes before those weights before which only the name of a function is known, and no fallback.
    """
    ordered = sorted(flow.places.items(), key=lambda item: item[1].order)
    before = {key: _one_origin(place, fallback) for key, place in ordered}
    longest = _longest(ordered, before)
    found: dict[int, Edge] = {}
    for key, place in ordered:
        f = before[key]
        if f is None or isinstance(f, Unknown):
            (behind,) = place.after if len(place.after) == 1 else (None,)
            named = behind is not None and not isinstance(behind, Unknown)
            begins = start(behind, longest.get(behind, 0)) if named and behind is not None else 1.0
            found[key] = Edge(1.0, begins**0.5, 0.0, begins)
            continue
        arriving = [1.0 if source is None or source not in found else found[source].after for source in _sources(place)]
        found[key] = edge(f, sum(arriving) / len(arriving))
    return found, {key: f.name for key, f in before.items() if isinstance(f, Unknown)}


def _one_origin(place: Place, fallback: Activation | None) -> Activation | None:
    kinds = {origin.f if origin else None for origin in place.before}
    f = next(iter(kinds)) if len(kinds) == 1 else None
    return fallback if isinstance(f, Unknown) and fallback is not None else f


def _sources(place: Place) -> list[int | None]:
    """The weights whose outputs the activation before a weight takes, None where they come normalized."""
    found: list[int | None] = []
    for origin in place.before:
        if origin is not None:
            found += [None] if origin.normalized or not origin.sources else sorted(origin.sources)
    return found


def _longest(ordered: list[tuple[int, Place]], before: dict[int, Activation | None]) -> dict[Activation, int]:
    """The longest chain of weights before each of which the activation is the same and nothing is normalized."""
    depth: dict[int, int] = {}
    longest: dict[Activation, int] = {}
    for key, place in ordered:
        f = before[key]
        depth[key] = 0 if f is None else 1 + max((depth.get(s, 0) for s in _sources(place) if s is not None), default=0)
        if f is not None:
            longest[f] = max(longest.get(f, 0), depth[key])
    return longest
