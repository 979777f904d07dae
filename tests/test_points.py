"""What a race will run, listed before it runs: the points of an optimizer, and the plan."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from ravine.assembly import parts
from ravine.core.composition import COMPOSITIONS
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.core.space import Dimension
from ravine.core.spec import Spec, parse
from ravine.racing import plan as planning
from ravine.racing.plan import FINALISTS, GOAL_SEEDS, REFERENCES, TUNING_SEEDS, Plan, Settings, entrants
from ravine.racing.points import default_point, knobs, points, widened

SPECS = [
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "nadamw @ warmup(steps=10) * cosine()",
    "adam(beta1=0.5) + decay",
    "momentum + decay(weight_decay=0.1)",
    "hidden: momentum; rest: adam",
]
BUDGETS = [1, 2, 8, 9, 16, 17, 33, 40]
every_race = pytest.mark.parametrize(("text", "count"), list(itertools.product(SPECS, BUDGETS)))


def settled(spec: Spec) -> dict[str, float]:
    """Every hyperparameter that `spec` ends up with, defaults filled in, by group."""
    found = {}
    for i, part in enumerate(parts(spec)):
        found |= {f"{i}.lr": part.lr} | {f"{i}.{key}": value for key, value in part.rule.numbers().items()}
    return found


# points


@every_race
def test_the_default_comes_first_and_the_count_is_right(text, count):
    spec = parse(text)
    found = points(spec, count, seed=1)
    assert settled(found[0].spec) == settled(spec)
    assert len(found) == (count if knobs(spec, count) else 1)
    assert len({str(point.spec) for point in found}) == len(found)


@every_race
def test_points_lie_in_their_ranges_are_written_out_and_readable(text, count):
    tuned = knobs(parse(text), count)
    for point in points(parse(text), count, seed=2)[1:]:
        assert point.setting.keys() == tuned.keys()
        assert parse(str(point.spec)) == point.spec
        for name, value in point.setting.items():
            group, link, argument = tuned[name].place
            dimension = tuned[name].dimension
            assert dimension.low <= value <= dimension.high or (value == 0 and dimension.zero)
            assert dimension.scale != "ends" or value in (dimension.low, dimension.high)
            assert point.spec.groups[group].links[link].get(argument) == value
            searched = 1 - value if dimension.scale == "log1m" else value
            assert f"{searched:.3g}" == f"{searched:.7g}", "three digits say it all"


@pytest.mark.parametrize("text", SPECS)
def test_the_same_seed_gives_the_same_points_and_another_seed_others(text):
    one, same, other = (points(parse(text), 12, seed) for seed in (3, 3, 4))
    assert one == same
    assert one[0] == other[0]
    assert all(a != b for a, b in zip(one[1:], other[1:], strict=True))


@pytest.mark.parametrize("text", SPECS)
def test_more_points_go_on_where_fewer_ended(text):
    assert points(parse(text), 12, seed=5)[:10] == points(parse(text), 10, seed=5)
    assert points(parse(text), 12, seed=5, extra=3)[:12] == points(parse(text), 12, seed=5)
    assert len(points(parse(text), 12, seed=5, extra=3)) == 15


@pytest.mark.parametrize("count", [8, 16, 32, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_points_are_spread_evenly_over_the_scale(count, seed):
    tried = points(parse("sgd"), count, seed)[1:]
    places = sorted(Dimension(1e-3, 10).fraction(point.setting["lr"]) for point in tried)
    gaps = np.diff([0, *places, 1])
    # Scrambled van der Corput points in base two: no gap is longer than two cells of the next power of two.
    assert max(gaps) <= 2 / 2 ** math.floor(math.log2(count - 1)) + 0.002
    assert min(np.diff(places)) > 0


def test_two_dimensions_are_filled_too():
    tuned = knobs(parse("momentum"), 16)
    tried = points(parse("momentum"), 64, seed=0)[1:]
    cells = {
        tuple(int(4 * min(0.999, knob.dimension.fraction(p.setting[name]))) for name, knob in tuned.items())
        for p in tried
    }
    assert len(cells) == 16, "every cell of a 4 x 4 grid is visited"


# what is tuned


def test_a_budget_unlocks_dimensions_as_the_protocol_says():
    """Fewer than 9 points tune lr only; 9-16 add momentum or beta1; 17-32 weight decay; more add beta2 and eps."""
    steps = {2: ["lr"], 8: ["lr"], 9: ["lr", "beta1"], 16: ["lr", "beta1"]}
    steps |= {17: ["lr", "beta1", "weight_decay"], 32: ["lr", "beta1", "weight_decay"]}
    steps |= {33: ["lr", "beta1", "beta2", "eps", "weight_decay"]}
    for count, names in steps.items():
        assert sorted(knobs(parse("adamw"), count)) == sorted(names)
        assert sorted(knobs(parse("nadam + decay"), count)) == sorted(names)
    assert list(knobs(parse("nesterov"), 8)) == ["lr"]
    assert list(knobs(parse("nesterov"), 9)) == list(knobs(parse("nesterov"), 99)) == ["lr", "momentum"]
    assert list(knobs(parse("sgd"), 99)) == ["lr"]
    assert knobs(parse("adamw"), 1) == {}


def test_the_starting_ranges_are_the_protocols():
    ranges = {
        "sgd": {"lr": (1e-3, 10)},
        "momentum": {"lr": (1e-3, 5), "momentum": (1 - 0.3, 1 - 5e-3)},
        "nesterov": {"lr": (1e-3, 5), "momentum": (1 - 0.3, 1 - 5e-3)},
        "adamw": {
            "lr": (1e-5, 1e-1), "beta1": (1 - 0.3, 1 - 4e-3), "beta2": (1 - 0.3, 1 - 1e-4), "eps": (1e-8, 1e-3),
            "weight_decay": (1e-4, 1),
        },
    }  # fmt: skip
    for text, wanted in ranges.items():
        found = {name: (k.dimension.low, k.dimension.high) for name, k in knobs(parse(text), 33).items()}
        assert found.keys() == wanted.keys()
        for name, ends in wanted.items():
            assert found[name] == pytest.approx(ends, rel=1e-12)
    scales = {name: knob.dimension.scale for name, knob in knobs(parse("adamw"), 33).items()}
    assert scales == {"lr": "log", "beta1": "log1m", "beta2": "log1m", "eps": "ends", "weight_decay": "log"}


@pytest.mark.parametrize("name", sorted(Rule.registry | COMPOSITIONS))
def test_every_default_lies_in_its_own_range(name):
    spec = parse(name)
    if name == "decay":
        spec = parse("sgd + decay")
    for knob in knobs(spec, 99).values():
        assert 0 <= knob.dimension.fraction(knob.default) <= 1


def test_what_is_written_is_fixed():
    assert list(knobs(parse("adam(lr=0.01)"), 33)) == ["beta1", "beta2", "eps"]
    assert list(knobs(parse("adam(beta1=0.5, eps=0.001)"), 33)) == ["lr", "beta2"]
    assert all(point.spec.groups[0].links[0].get("beta1") == 0.5 for point in points(parse("adam(beta1=0.5)"), 33, 0))
    assert knobs(parse("sgd(lr=0.1)"), 33) == {}
    assert [str(point.spec) for point in points(parse("sgd(lr=0.1)"), 33, 0)] == ["sgd(lr=0.1)"]
    assert [str(point.spec) for point in points(parse("adam(lr=0.1) @ cosine()"), 8, 0)] == ["adam(lr=0.1) @ cosine"]


def test_lr_written_with_a_later_link_is_fixed_as_well():
    assert "lr" not in knobs(parse("momentum + decay(lr=0.1)"), 8)


def test_groups_are_tuned_apart_under_the_names_of_their_roles():
    spec = parse("hidden: momentum; rest: adam(lr=0.003)")
    assert list(knobs(spec, 9)) == ["hidden.lr", "hidden.momentum", "rest.beta1"]
    for point in points(spec, 9, 0):
        hidden, rest = point.spec.groups
        assert (hidden.role, rest.role) == ("hidden", "rest")
        assert hidden.links[0].get("lr") == point.setting["hidden.lr"]
        assert rest.links[0].get("beta1") == point.setting["rest.beta1"]
        assert rest.links[0].get("lr") == 0.003
    assert list(knobs(parse("hidden: sgd"), 9)) == ["lr"]  # a single group needs no prefix


def test_links_of_one_name_are_told_apart_and_both_are_filled_in():
    spec = parse("adam + decay + decay")
    assert list(knobs(spec, 17)) == ["lr", "beta1", "weight_decay", "weight_decay_2"]
    point = points(spec, 17, 0)[3]
    first, second = point.spec.groups[0].links[1:]
    assert first.get("weight_decay") == point.setting["weight_decay"]
    assert second.get("weight_decay") == point.setting["weight_decay_2"]
    assert parts(point.spec)[0].rule.numbers()["weight_decay_2"] == point.setting["weight_decay_2"]


def test_a_schedule_stays_as_it_is_written():
    for point in points(parse("adam @ warmup(steps=10) * cosine()"), 8, 0):
        assert str(point.spec).endswith("@ warmup(steps=10) * cosine")


# widened ranges


def at(text, count, **fractions):
    """The point of `text` whose hyperparameters lie at these fractions of their ranges, half way elsewhere."""
    tuned = knobs(parse(text), count)
    spots = {name: knob.dimension.at(fractions.get(name, 0.5)) for name, knob in tuned.items()}
    return dataclasses.replace(default_point(parse(text), tuned), setting=spots)


@pytest.mark.parametrize(
    ("where", "outside"), [(0.0, -1), (0.09, -1), (0.11, 0), (0.5, 0), (0.89, 0), (0.91, 1), (1, 1)]
)
def test_a_best_value_in_the_outer_tenth_widens_the_range_on_that_side(where, outside):
    found, names = widened(parse("sgd"), 8, 0, at("sgd", 8, lr=where), 4)
    if not outside:
        assert (found, names) == ([], [])
        return
    assert names == ["lr"]
    assert len(found) == 4
    width = math.log(10 / 1e-3) / 4
    for point in found:
        lr = point.setting["lr"]
        beyond = math.log(1e-3 / lr) if outside < 0 else math.log(lr / 10)
        assert -0.005 <= beyond <= width + 0.005, "beside the range, within a quarter of its width, three digits"
        assert point.spec.groups[0].links[0].get("lr") == lr


def test_only_what_lies_at_an_edge_is_widened_and_the_rest_is_searched_again():
    tuned = knobs(parse("momentum"), 9)
    found, names = widened(parse("momentum"), 9, 0, at("momentum", 9, momentum=0.95), 6)
    assert names == ["momentum"]
    for point in found:
        assert 0.995 - 1e-9 <= point.setting["momentum"] < 1
        assert tuned["lr"].dimension.low <= point.setting["lr"] <= tuned["lr"].dimension.high
    assert {p.setting["lr"] for p in found}.isdisjoint(p.setting["lr"] for p in points(parse("momentum"), 9, 0, 2))
    found, names = widened(parse("momentum"), 9, 0, at("momentum", 9, momentum=0.95, lr=0.02), 6)
    assert names == ["lr", "momentum"]


@pytest.mark.parametrize("name", ["lr", "beta1", "beta2", "weight_decay"])
@pytest.mark.parametrize("where", ["low", "high"])
def test_widened_points_are_settings_that_the_rule_accepts(name, where):
    zero = knobs(parse("adamw"), 33)[name].dimension.zero
    where = 1.0 if where == "high" else zero  # where the range begins, behind the share of zeros
    found, names = widened(parse("adamw"), 33, 0, at("adamw", 33, **{name: where}), 16)
    assert names == [name]
    for point in found:
        parts(point.spec)


def test_what_is_left_out_or_one_of_two_values_has_no_edge():
    tuned = knobs(parse("adamw"), 33)
    values = {name: [p.setting[name] for p in points(parse("adamw"), 200, 0)] for name in ("weight_decay", "eps")}
    assert 0.15 < np.mean(np.array(values["weight_decay"]) == 0) < 0.25
    assert set(values["eps"]) == {1e-8, 1e-3}
    for name, value in (("weight_decay", 0.0), ("eps", 1e-8), ("eps", 1e-3)):
        assert tuned[name].dimension.beyond(value) is None


# settings and competitors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be in [1, inf), got 0"),
        ({"points": -1}, "points must be in [1, inf), got -1"),
        ({"seeds": 2.5}, "seeds must be a whole number, got 2.5"),
        ({"seeds": "ten"}, "seeds must be a whole number, got 'ten'"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"seed": -1}, "seed must be in [0, inf), got -1"),
        ({"goal": "high"}, "goal must be a number, got 'high'"),
        ({"goal": math.nan}, "goal must be in (-inf, inf), got nan"),
        ({"goal": math.inf}, "goal must be in (-inf, inf), got inf"),
        ({"every": 0}, "every must be in [1, 1000], got 0"),
        ({"steps": 20, "every": 21}, "every must be in [1, 20], got 21"),
    ],
)
def test_settings_are_checked_at_construction(change, message):
    with pytest.raises(RavineError) as error:
        Settings(**change)
    assert str(error.value) == message


def test_the_evaluation_grid_is_a_fiftieth_of_the_budget():
    assert (Settings(steps=1000).every, Settings(steps=60).every, Settings(steps=3).every) == (20, 1, 1)


def test_competitors_are_named_by_their_label_or_their_links():
    found = entrants("sgd, adam(lr=0.01) + decay, mine=hidden: momentum; rest: adam")
    assert {name: str(spec) for name, spec in found.items()} == {
        "sgd": "sgd",
        "adam+decay": "adam(lr=0.01) + decay",
        "mine": "hidden: momentum; rest: adam",
    }
    assert entrants(["sgd", parse("a=sgd")]) == {"sgd": parse("sgd"), "a": parse("sgd")}


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ("sgd, sgd(lr=0.1)", "two competitors are called 'sgd': give each a label, as in a=sgd(lr=0.1)"),
        ("a=sgd, a=adam", "two competitors are called 'a'"),
        ([], "a race needs at least one optimizer"),
        ([3], "a competitor is a spec such as 'adam(lr=0.001)', got 3 (int)"),
        (["sgd", "adamm"], "unknown optimizer 'adamm': did you mean 'adam'?"),
        ("sgd @ cosin", "unknown schedule 'cosin': did you mean 'cosine'?"),
        ("sgd,", "expected the name of an optimizer or schedule, found the end at position 4"),
    ],
)
def test_competitors_that_cannot_run_are_refused(optimizers, message):
    with pytest.raises(RavineError) as error:
        entrants(optimizers)
    assert message in str(error.value)


# the plan

TASK = {
    "name": "mine", "metric": "accuracy", "better": "higher", "goal": None, "batch_size": 8, "parameters": 42,
    "fingerprint": "f00d", "step_seconds": 1e-3, "evaluation_seconds": 1e-3, "can_swap": True,
}  # fmt: skip


def plan(optimizers="sgd, adam", task=(), source="mine.py:task", **settings):
    return Plan(Settings(**settings), source, TASK | dict(task), entrants(optimizers))


def test_the_plan_lists_every_point_and_seed_before_anything_runs():
    content = plan(points=4, seeds=6, steps=100).content()
    assert json.loads(json.dumps(content)) == content
    assert {name: len(entry["points"]) for name, entry in content["optimizers"].items()} == {"sgd": 4, "adam": 4}
    assert content["optimizers"]["adam"]["points"][0] == "adam(lr=0.001)"
    lr = {"low": 1e-5, "high": 1e-1, "scale": "log", "zero": 0.0}
    assert content["optimizers"]["adam"]["dimensions"] == {"lr": lr}
    assert len(content["optimizers"]["adam"]["reserve"]) == 1  # for when another's range is widened
    assert list(content["references"]) == list(REFERENCES)
    assert content["settings"]["every"] == 2
    assert content["goals"] is None


def test_the_default_race_has_five_optimizers_times_eight_points_and_ten_seeds():
    content = plan("sgd, momentum, nesterov, adam, adamw").content()
    assert {len(entry["points"]) for entry in content["optimizers"].values()} == {8}
    assert len(content["seeds"]["runs"]) == 10


def test_no_seed_serves_two_purposes():
    seeds = plan(seeds=50).content()["seeds"]
    assert (len(seeds["tuning"]), len(seeds["goal"]), len(seeds["runs"])) == (TUNING_SEEDS, GOAL_SEEDS, 50)
    everything = [*seeds["tuning"], *seeds["goal"], *seeds["runs"]]
    assert len(set(everything)) == len(everything)
    assert TUNING_SEEDS > 1
    assert 1 < FINALISTS <= 8


def test_more_seeds_keep_those_that_were_run():
    assert plan(seeds=12).seeds("run")[:10] == plan(seeds=10).seeds("run")


def test_a_given_goal_needs_no_references():
    assert list(plan().references) == list(REFERENCES)
    for given in (plan(goal=0.9), plan(task={"goal": 0.9})):
        assert given.references == {}
        assert given.given_goal == given.content()["given_goal"] == 0.9
    assert plan(goal=0.8, task={"goal": 0.9}).given_goal == 0.8
    assert plan(goal=0.0, task={"goal": 0.9}).given_goal == 0.0


CHANGES = [
    {"steps": 500}, {"points": 9}, {"seeds": 11}, {"goal": 0.5}, {"device": "cuda"}, {"seed": 1}, {"every": 7},
    {"optimizers": "sgd"}, {"optimizers": "adam, sgd(lr=0.1)"}, {"optimizers": "b=sgd, adam"}, {"source": "digits-mlp"},
    {"task": {"fingerprint": "beef"}}, {"task": {"name": "other"}}, {"task": {"goal": 0.4}},
    {"task": {"batch_size": 9}}, {"task": {"better": "lower"}},
]  # fmt: skip


def test_the_plans_name_changes_with_everything_that_decides_a_number():
    ids = [plan().content()["id"], *(plan(**change).content()["id"] for change in CHANGES)]
    assert len(set(ids)) == len(ids)
    assert plan(goal=1).content()["id"] == plan(goal=1.0).content()["id"]


def test_the_plans_name_does_not_change_with_the_machine_or_the_speed(monkeypatch):
    before = plan().content()["id"]
    monkeypatch.setattr(planning, "machine", lambda: {"system": "other", "cores": 999})
    assert plan(task={"step_seconds": 99.0, "evaluation_seconds": 99.0}).content()["id"] == before
    monkeypatch.setattr(planning, "versions", lambda: {"torch": "99.0"})
    assert plan().content()["id"] != before


@pytest.mark.parametrize(
    "change",
    ["task", "fingerprint", "optimizer", "spec", "seed", "steps", "every", "device", "kind"],
)
def test_a_unit_is_named_by_all_that_decides_its_numbers(change):
    one = plan().unit("sgd", parse("sgd(lr=0.1)"), 3, "run")
    value = getattr(one, change)
    other = dataclasses.replace(one, **{change: value + 1 if isinstance(value, int) else value + "x"})
    assert other.id != one.id
    assert dataclasses.replace(one).id == one.id
    assert type(one).of(one.header()) == one
    assert type(one).of(one.header() | {change: getattr(other, change)}) is None, "a header that was tampered with"
    assert type(one).of({key: value for key, value in one.header().items() if key != change}) is None


def test_when_one_range_is_widened_the_others_get_as_many_more_points_of_their_own():
    race = plan(points=8)
    assert race.extra == 2
    more = race.more_points(parse("sgd"))
    assert len(more) == 2
    assert not {str(p.spec) for p in more} & {str(p.spec) for p in race.points("sgd", parse("sgd"))}
    assert plan(points=2).extra == 1


@pytest.mark.parametrize(
    ("optimizers", "seeds", "wanted"),
    [
        ("sgd, adam", 5, "with 5 seeds no pair can come out as faster or slower: that takes 6 or more"),
        ("sgd, adam", 6, None),
        (
            "sgd, adam, momentum",
            6,
            "6 seeds cannot tell all pairs of 3 optimizers apart (that takes 7): only pairs with",
        ),
        ("sgd, adam, momentum, nesterov, adamw", 9, None),
        (
            "sgd, adam, momentum, nesterov, adamw",
            8,
            "8 seeds cannot tell all pairs of 5 optimizers apart (that takes 9)",
        ),
        ("sgd", 1, None),
    ],
)
def test_what_a_plan_cannot_tell_is_said_beforehand(optimizers, seeds, wanted):
    said = plan(optimizers, seeds=seeds).notes()
    assert len(said) == (wanted is not None)
    assert wanted is None or said[0].startswith(wanted)
