"""The points at which an optimizer is tried: quasi-random in its declared space, listed before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy.stats import qmc

from ravine.core.composition import make_rule, plain
from ravine.core.space import Dimension
from ravine.core.spec import Group, Spec, Value
from ravine.solving import dimensions, solver_call

Place = tuple[int, int, str]  # group, link, argument


@dataclass(frozen=True)
class Knob:
    """One hyperparameter of a spec that a race may tune: where it is written, its range, and its default."""

    place: Place
    dimension: Dimension
    default: float


@dataclass(frozen=True)
class Point:
    """One setting: the spec with everything filled in, and the tuned values by name."""

    spec: Spec
    setting: Mapping[str, float] = field(default_factory=dict)


def knobs(spec: Spec, points: int) -> dict[str, Knob]:
    """What a race with this many points tunes in `spec`: the declared space, less what is written in the spec.

    Names are those of the hyperparameters, with the role before them where the spec has several groups.
    """
    found: dict[str, Knob] = {}
    if (call := solver_call(spec)) is not None:
        tuned = dimensions(call).items()
        return {
            name: Knob((0, 0, name), one, default) for name, (one, default) in tuned if 1 < points >= one.points
        }
    for g, group in enumerate(plain(spec).groups):
        prefix = f"{group.role}." if len(spec.groups) > 1 else ""
        for place, dimension, default in _free(g, group):
            name, n = f"{prefix}{place[2]}", 1
            while name in found:
                n += 1
                name = f"{prefix}{place[2]}_{n}"
            if points >= dimension.points and points > 1:
                found[name] = Knob(place, dimension, default)
    return found


def _free(g: int, group: Group) -> list[tuple[Place, Dimension, float]]:
    """The hyperparameters of a group that are declared tunable and not written."""
    whole = make_rule(tuple(link.without("lr") for link in group.links))
    free: list[tuple[Place, Dimension, float]] = []
    rate = whole.dimensions().get("lr")
    if rate is not None and all(link.get("lr") is None for link in group.links):
        free.append(((g, 0, "lr"), rate, whole.lr))
    for i, link in enumerate(group.links):
        rule = make_rule((link.without("lr"),))
        for name, dimension in rule.dimensions().items():
            if name != "lr" and link.get(name) is None:
                free.append(((g, i, name), dimension, rule.numbers()[name]))
    return free


def default_point(spec: Spec, tuned: Mapping[str, Knob]) -> Point:
    """The default setting, which is always one of the points."""
    return _point(spec, tuned, {name: knob.default for name, knob in tuned.items()})


def points(spec: Spec, count: int, seed: int, extra: int = 0) -> list[Point]:
    """The default and `count - 1` quasi-random points; only the one where nothing is left to tune.

    With `extra`, that many more: the continuation of the same sequence.
    """
    tuned = knobs(spec, count)
    if not tuned:
        return [default_point(spec, tuned)]
    return [default_point(spec, tuned), *_scattered(spec, tuned, count - 1 + extra, seed)]


def widened(spec: Spec, count: int, seed: int, best: Point, extra: int) -> tuple[list[Point], list[str]]:
    """`extra` points beside the range of each hyperparameter whose best value lies in its outer tenth; their names."""
    tuned = knobs(spec, count)
    strips = {name: knob.dimension.beyond(best.setting[name]) for name, knob in tuned.items()}
    names = [name for name, strip in strips.items() if strip is not None]
    if not names:
        return [], []
    beyond = {name: Knob(knob.place, strips[name] or knob.dimension, knob.default) for name, knob in tuned.items()}
    return _scattered(spec, beyond, extra, seed + 1), names


def _scattered(spec: Spec, tuned: Mapping[str, Knob], count: int, seed: int) -> list[Point]:
    """Scrambled Halton points (Halton 1960; Owen 2017): any number of them is evenly spread, and more can be added."""
    cube = qmc.Halton(d=len(tuned), scramble=True, rng=seed).random(count)
    dimensions = {name: knob.dimension for name, knob in tuned.items()}
    settings = [dict(zip(dimensions, row, strict=True)) for row in cube.tolist()]
    return [_point(spec, tuned, {name: _tidy(dimensions[name], at) for name, at in s.items()}) for s in settings]


def _tidy(dimension: Dimension, fraction: float) -> float:
    """The value at `fraction`, to three digits of what is searched, so that specs can be read."""
    value = dimension.at(fraction)
    if dimension.scale == "log1m":
        return round(1 - float(f"{1 - value:.3g}"), 8)
    return float(f"{value:.3g}")


def _point(spec: Spec, tuned: Mapping[str, Knob], setting: Mapping[str, float]) -> Point:
    spec = plain(spec)
    groups = [list(group.links) for group in spec.groups]
    for name, knob in tuned.items():
        g, i, argument = knob.place
        values: dict[str, Value] = {argument: setting[name]}
        groups[g][i] = groups[g][i].including(**values)
    filled = tuple(
        Group(tuple(links), group.schedules, group.role) for links, group in zip(groups, spec.groups, strict=True)
    )
    return Point(Spec(filled), dict(setting))
