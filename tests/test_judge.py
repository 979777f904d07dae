"""From curves to words: crossings, goals, the verdict on pairs, what a verdict lists, and the gates.

Simulations have fixed seeds; a count must stay below what chance exceeds with probability 1e-3 at the claimed share.
"""

import functools
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import ravine
from ravine.core.record import Record, plain
from ravine.core.spec import parse
from ravine.racing import gates
from ravine.racing.crossing import crossing, freeze, value_at
from ravine.racing.judge import compare, judge, judged_pairs, sentence
from ravine.racing.outcome import Outcome, Tried
from ravine.racing.points import Point
from ravine.racing.statistics import detectable
from ravine.racing.verdict import Tuning, Verdict, assemble_verdict, works_of

NAN, INF = math.nan, math.inf
HORIZON = 1000.0
DECIDED = ("faster", "slower")


def at_most(share: float, trials: int) -> int:
    return int(stats.binom.ppf(0.999, trials, share))


# crossing


@pytest.mark.parametrize(
    ("metric", "better", "wanted"),
    [
        ([0.0, 0.4, 0.8, 0.9], "higher", 15.0),  # interpolated: half way from 0.4 to 0.8
        ([1.0, 0.9, 0.5, 0.1], "lower", 17.5),
        ([0.0, 0.7, 0.5, 0.7, 0.8], "higher", 25.0),  # a single evaluation past the goal does not count
        ([0.0, 0.7, 0.5, 0.7, 0.5], "higher", None),
        ([0.0, 0.5, 0.5, 0.7], "higher", 25.0),  # the last evaluation needs no second
        ([0.0, 0.5, 0.6, 0.6], "higher", 20.0),  # at the goal is past it
        ([0.7, 0.8, 0.9, 0.9], "higher", 1.0),  # past it from the start: one, so that ratios exist
        ([0.7, 0.5, 0.7, 0.7], "higher", 15.0),  # ... but not where the start was luck
        ([0.0, 0.1, 0.2, 0.3], "higher", None),
        ([0.0, 0.5, NAN, 0.7, 0.8], "higher", 30.0),  # nothing to interpolate from: where it was seen
        ([0.0, 0.7, NAN, 0.7, 0.8], "higher", 30.0),  # two that are apart are not two in a row
        ([0.0, NAN, NAN, NAN], "higher", None),
        ([0.0, 0.5, INF, INF], "higher", None),
        ([9.0, 5.0, -INF, -INF], "lower", None),
        ([0.9], "higher", 1.0),
        ([0.5], "higher", None),
        ([], "higher", None),
    ],
)
def test_crossings(metric, better, wanted):
    assert crossing([10 * i for i in range(len(metric))], metric, 0.6, better) == (
        None if wanted is None else pytest.approx(wanted)
    )


def test_a_first_evaluation_that_is_late_counts_its_work():
    assert crossing([40, 50], [0.7, 0.8], 0.6, "higher") == 40


@st.composite
def curves(draw):
    steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=12))
    work = list(itertools.accumulate(steps, initial=0))
    value = st.floats(-100, 100) | st.just(NAN)
    return work, draw(st.lists(value, min_size=len(work), max_size=len(work))), draw(st.floats(-100, 100))


@given(curves(), st.sampled_from(["higher", "lower"]))
def test_a_crossing_lies_on_the_curve_where_it_first_stays_past_the_goal(curve, better):
    work, metric, goal = curve
    sign = 1 if better == "higher" else -1
    past = [sign * value >= sign * goal for value in metric]  # False for NaN
    settled = [i for i in range(len(past)) if past[i] and all(past[i : i + 2])]
    found = crossing(work, metric, goal, better)
    if not settled:
        assert found is None
        return
    i = settled[0]
    assert found is not None
    assert found <= max(1, work[i])
    if i and found > 1:
        assert work[i - 1] <= found
        if not math.isnan(metric[i - 1]):
            assert np.interp(found, work[i - 1 : i + 1], metric[i - 1 : i + 1]) == pytest.approx(goal, abs=1e-9)


@given(curves())
def test_a_crossing_is_the_same_for_the_mirrored_metric(curve):
    work, metric, goal = curve
    mirrored = crossing(work, [-value for value in metric], -goal, "lower")
    assert crossing(work, metric, goal, "higher") == mirrored


@given(curves(), st.floats(0, 50))
def test_a_harder_goal_is_never_crossed_sooner(curve, harder):
    work, metric, goal = curve
    easy, hard = (crossing(work, metric, g, "higher") for g in (goal, goal + harder))
    assert hard is None or (easy is not None and easy <= hard + 1e-9)


# goals


def test_goals_are_the_medians_at_50_75_and_90_percent():
    work = [0, 50, 100]
    runs = [(work, [0.0, 0.5 + d, 1.0 + d]) for d in (-0.1, 0.0, 0.3)]
    assert freeze(runs, 100, "higher") == pytest.approx({"50": 0.5, "75": 0.75, "90": 0.9})
    falling = [(work, [-value for value in metric]) for _, metric in runs]
    assert freeze(falling, 100, "lower") == pytest.approx({"50": -0.5, "75": -0.75, "90": -0.9})


def test_goals_leave_out_runs_that_diverged_and_never_get_easier():
    good = ([0, 50, 100], [0.0, 0.8, 0.2])
    diverged = ([0, 20], [0.0, NAN])
    assert freeze([good, diverged], 100, "higher") == pytest.approx({"50": 0.8, "75": 0.8, "90": 0.8})
    assert math.isinf(freeze([diverged], 100, "higher")["75"])
    assert math.isnan(value_at(*diverged, 50))
    assert math.isnan(value_at([0, 20], [0.0, 0.5], 50)), "a run that crashed at 20 has no value at 50"
    assert math.isnan(value_at([], [], 0))


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_goals_are_nested_and_mirror_with_the_metric(runs):
    work = [0, 25, 50, 75, 100]
    goals = freeze([(work, metric) for metric in runs], 100, "higher")
    assert goals["50"] <= goals["75"] <= goals["90"]
    mirrored = freeze([(work, [-value for value in metric]) for metric in runs], 100, "lower")
    assert goals == pytest.approx({name: -value for name, value in mirrored.items()})


# the verdict on pairs


def drawn(rng, *scales, runs=10, spread=0.15):
    """Log-normal works of optimizers a, b, c, ... whose medians are `scales`."""
    return {
        name: np.exp(rng.normal(math.log(m), spread, runs)) for name, m in zip("abcdefghijkl", scales, strict=False)
    }


def word(works, a="a", b="b", **more):
    (found,) = (pair for pair in judge(works, HORIZON, **more) if (pair["a"], pair["b"]) == (a, b))
    return found


def test_identical_works_tie_at_ratio_one():
    works = np.array([100.0, 130, 90, 240, 150])
    found = word({"a": works, "b": works.copy()})
    assert (found["verdict"], found["ratio"], found["low"], found["high"], found["p"]) == ("tie", 1, 1, 1, 1)


def test_a_clear_difference_has_its_direction_ratio_and_interval():
    rng = np.random.default_rng(0)
    b = np.exp(rng.normal(5, 0.3, 10))
    logs = rng.normal(math.log(0.5), 0.1, 10)
    found = word({"a": b * np.exp(logs), "b": b})
    theirs = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert found["verdict"] == "faster"
    assert (found["ratio"], found["low"], found["high"]) == pytest.approx(
        (math.exp(logs.mean()), math.exp(theirs.low), math.exp(theirs.high))
    )
    assert found["p"] == found["p_unadjusted"] == 2 / 1024
    assert found["bound"] == ""
    assert found["detectable"] == pytest.approx(math.exp(detectable(logs, 0.05)))
    assert word({"a": b, "b": b * np.exp(logs)})["verdict"] == "slower"


OPPOSITE = {"faster": "slower", "slower": "faster", "lower": "upper", "upper": "lower"}
some_works = st.lists(st.floats(50, 1000) | st.just(INF), min_size=6, max_size=9)


@given(st.tuples(some_works, some_works), st.floats(0.3, 3))
def test_swapping_the_names_turns_everything_round(columns, factor):
    n = min(map(len, columns))
    x, y = (np.array(column[:n]) for column in columns)
    y = np.minimum(y * factor, HORIZON) if np.isfinite(y).all() else y
    one = word({"a": x, "b": y})
    other = word({"a": y, "b": x})
    assert other["verdict"] == OPPOSITE.get(one["verdict"], one["verdict"])
    assert other["bound"] == OPPOSITE.get(one["bound"], one["bound"])
    assert (1 / other["ratio"], 1 / other["high"], 1 / other["low"]) == pytest.approx(
        (one["ratio"], one["low"], one["high"])
    )
    for key in ("p", "detectable", "success_p"):
        assert other[key] == pytest.approx(one[key])


def test_a_tie_needs_the_90_percent_interval_within_a_tenth():
    rng = np.random.default_rng(1)
    b = np.exp(rng.normal(5, 0.2, 10))
    noise = rng.normal(size=10)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    half = stats.t.ppf(0.95, 9) / math.sqrt(10)  # of a 90 % interval, in standard deviations
    inside, outside = (
        np.exp(noise * limit / half) * b for limit in (0.99 * math.log(1 / 0.9), 1.01 * math.log(1 / 0.9))
    )
    assert word({"a": inside, "b": b})["verdict"] == "tie"
    assert word({"a": outside, "b": b})["verdict"] == "not enough runs"


def test_a_small_but_certain_difference_is_no_tie():
    b = np.exp(np.random.default_rng(2).normal(5, 0.2, 10))
    assert word({"a": b * 0.97, "b": b})["verdict"] == "faster"


def test_holm_is_applied_over_the_judged_pairs():
    rng = np.random.default_rng(3)
    works = drawn(rng, 100, 103, 106, 100, 160)
    found = judge(works, HORIZON)
    assert [(pair["a"], pair["b"]) for pair in found] == list(itertools.combinations("abcde", 2))
    order = sorted(found, key=lambda pair: pair["p_unadjusted"])
    running = itertools.accumulate((p["p_unadjusted"] * (10 - k) for k, p in enumerate(order)), max)
    assert [pair["p"] for pair in order] == pytest.approx([min(1, p) for p in running])
    assert all((pair["p"] < 0.05) == (pair["verdict"] in DECIDED) for pair in found)
    spared = [pair for pair in found if pair["p_unadjusted"] < 0.05 <= pair["p"]]
    assert spared, "a difference that only one test alone would have called"
    logs = np.log(works["a"] / works["b"])
    assert found[0]["detectable"] == pytest.approx(math.exp(detectable(logs, 0.05 / 10)))


def test_with_five_seeds_or_fewer_nothing_is_ever_called_faster_or_slower():
    for runs in (1, 2, 3, 4, 5):
        works = {"a": np.full(runs, 10.0) + np.arange(runs), "b": np.full(runs, 900.0)}
        found = word(works)
        assert found["verdict"] == "not enough runs"
        assert found["p"] == 2.0 ** (1 - runs)
        assert (found["low"] is None) == (found["detectable"] is None) == (runs == 1)
    works = {"a": np.full(6, 10.0) + np.arange(6), "b": np.full(6, 900.0)}
    assert word(works)["verdict"] == "faster"


# censored runs


def censored(works, count):
    """The same with its last `count` runs never reaching the goal."""
    return np.where(np.arange(len(works)) < len(works) - count, works, INF)


def test_with_80_percent_success_censored_runs_count_as_the_horizon():
    a, b = np.linspace(100, 190, 10), np.linspace(300, 390, 10)
    found = word({"a": censored(a, 2), "b": b})
    logs = np.log(np.where(np.arange(10) < 8, a, HORIZON) / b)
    assert found["ratio"] == pytest.approx(math.exp(logs.mean()))
    assert found["bound"] == ""


def test_below_80_percent_the_ratio_is_a_bound_and_ranks_are_tested():
    a, b = np.linspace(100, 190, 10), np.linspace(300, 390, 10)
    upper = word({"a": a, "b": censored(b, 3)})
    assert (upper["bound"], upper["verdict"], upper["p"]) == ("upper", "faster", 2 / 1024)
    assert upper["ratio"] > (a / np.where(np.arange(10) < 7, b, 1e9)).prod() ** 0.1  # the true one is lower still
    lower = word({"a": censored(a, 3), "b": b})
    assert lower["bound"] == "lower"
    signed = stats.rankdata([*a[:7], *[9e9] * 3, *b])
    flips = np.array(list(itertools.product((1, -1), repeat=10))) @ (signed[:10] - signed[10:])
    assert lower["p_unadjusted"] == pytest.approx(np.mean(np.abs(flips) >= abs(flips[0])))
    assert word({"a": censored(a, 3), "b": censored(b, 3)})["bound"] == "both"
    assert word({"a": censored(a, 3), "b": censored(b, 1)})["bound"] == "both"


def test_seven_of_nine_is_below_80_percent():
    a, b = np.linspace(100, 190, 9), np.linspace(300, 390, 9)
    assert word({"a": censored(a, 1), "b": b})["bound"] == ""
    assert word({"a": censored(a, 2), "b": b})["bound"] == "lower"


def test_censored_pairs_tie_only_where_all_runs_are_the_same_and_one_arrived():
    a = np.linspace(100, 101, 10)
    for cut in (3, 5, 9):
        same = word({"a": censored(a, cut), "b": censored(a, cut)})
        assert (same["verdict"], same["p"], same["bound"]) == ("tie", 1.0, "both")
        alike = word({"a": censored(a, cut), "b": censored(a * (1 + 1e-12 * (-1) ** np.arange(10)), cut)})
        assert (alike["verdict"], alike["bound"]) == ("not enough runs", "both")
    assert word({"a": a[:1], "b": a[:1]})["verdict"] == "tie"


def test_where_nobody_arrives_nothing_is_said():
    never = np.full(10, INF)
    for pair in judge(dict.fromkeys("abc", never), HORIZON):
        assert (pair["verdict"], pair["p"], pair["success_p"]) == ("not enough runs", 1.0, 1.0)


def test_the_word_follows_the_ranks_that_were_tested_not_the_mean_of_a_bound():
    # b is lucky five times at once and never arrives fifteen times; a arrives always, just before the horizon.
    a, b = np.full(20, 900.0), np.array([1.0] * 5 + [INF] * 15)
    found = word({"a": a, "b": b})
    assert found["ratio"] > 1
    assert found["bound"] == "upper"
    assert found["p"] < 0.05
    assert found["verdict"] == "faster"
    assert word({"a": b, "b": a})["verdict"] == "slower"


def test_success_rates_are_compared_by_mcnemar():
    a = np.linspace(100, 190, 10)
    assert word({"a": a, "b": censored(a, 7)})["success_p"] == pytest.approx(2 / 2**7)
    assert word({"a": censored(a, 7), "b": censored(a, 7)})["success_p"] == 1.0


# larger fields


def test_a_field_too_large_for_its_seeds_is_judged_against_the_first_and_the_best_in_tuning():
    works = drawn(np.random.default_rng(4), *[100] * 8)
    pairs = judged_pairs(works, "e")
    assert pairs == [p for p in itertools.combinations("abcdefgh", 2) if "a" in p or "e" in p]
    assert len(judge(works, HORIZON, "e")) == len(pairs) == 13
    assert judged_pairs(works, None) == judged_pairs(works, "a") == [("a", other) for other in "bcdefgh"]
    seven = {name: works[name] for name in "abcdefg"}
    assert judged_pairs(seven, "e") == list(itertools.combinations("abcdefg", 2))
    assert judged_pairs({"a": works["a"]}, "a") == []


def test_which_pairs_are_judged_does_not_depend_on_the_runs_they_are_judged_by():
    rng = np.random.default_rng(5)
    found = {tuple(judged_pairs(drawn(rng, *[100] * 9, spread=1), "c")) for _ in range(20)}
    assert len(found) == 1


# false alarms and power


@pytest.mark.parametrize(("optimizers", "races"), [(5, 2000), (12, 1000)])
def test_equal_optimizers_are_rarely_called_faster_or_slower(optimizers, races):
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(races):
        pairs = judge(drawn(rng, *[100] * optimizers), HORIZON, "b")
        alarms += any(pair["verdict"] in DECIDED for pair in pairs)
    print(f"{alarms} of {races} simulated races of {optimizers} equal optimizers had a false alarm")
    assert alarms <= at_most(0.05, races)
    assert alarms >= races * 0.01, "a test that never fires would have no power either"


def test_equal_optimizers_of_which_half_the_runs_are_censored_are_rarely_called_different():
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        works = {k: np.where(v > 100, INF, v) for k, v in drawn(rng, 100, 100, 100).items()}
        alarms += any(pair["verdict"] in DECIDED for pair in judge(works, 120.0))
    assert alarms <= at_most(0.05, 1000)


def test_power_at_the_stated_detectable_effect_is_80_percent_for_two_optimizers():
    effect = math.exp(detectable(_with_spread(0.15 * math.sqrt(2)), 0.05))
    rng = np.random.default_rng(8)
    called = [word(drawn(rng, 100, 100 * effect))["verdict"] for _ in range(2000)]
    assert abs(called.count("faster") / 2000 - 0.80) <= 0.03
    assert called.count("slower") == 0


def test_power_at_the_stated_detectable_effect_for_five_optimizers():
    """The effect is stated at the level of the first of ten pairs, where it is found in 65 % (test_statistics.py);
    with four pairs that differ, Holm's later steps bring it to 71 % a pair, and to 93 % for at least one.
    """
    effect = math.exp(detectable(_with_spread(0.15 * math.sqrt(2)), 0.05 / 10))
    rng = np.random.default_rng(9)
    found = []
    for _ in range(1500):
        pairs = judge(drawn(rng, 100, 100, 100, 100, 100 * effect), HORIZON)
        found.append([pair["verdict"] == "faster" for pair in pairs if pair["b"] == "e"])
    assert abs(np.mean(found) - 0.71) <= 0.03
    assert np.mean(np.any(found, axis=1)) >= 0.9


def _with_spread(spread, n=10):
    values = np.random.default_rng(0).normal(size=n)
    return (values - values.mean()) / values.std(ddof=1) * spread


@functools.cache
def real_runs(goal=0.5):
    """Work to the goal of 60 real training runs of one optimizer, one seed each."""
    task = ravine.task("quadratic")
    found = []
    for seed in range(60):
        moments = list(ravine.train(task, "sgd(lr=0.1)", steps=150, every=5, seed=seed))
        found.append(crossing([m.work for m in moments], [m.metric for m in moments], goal, task.better))
    return found


def test_races_of_one_optimizer_against_itself_on_other_seeds_raise_few_false_alarms():
    """Acceptance: over 200 races drawn from real runs on disjoint seeds, at most 5 % contain faster or slower."""
    pool = real_runs()
    assert None not in pool, "the goal is one that every run reaches"
    works = np.array(pool)
    assert 0.05 < np.log(works).std() < 1, "the runs differ, as runs do"
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        seeds = rng.permutation(60)[:50].reshape(5, 10)
        pairs = judge(dict(zip("abcde", works[seeds], strict=True)), 150.0)
        alarms += any(pair["verdict"] in DECIDED for pair in pairs)
    print(f"{alarms} of 200 races of equal optimizers contain faster or slower")
    assert alarms <= 10


# the sentence


def pair(a, b, verdict, ratio, bound=""):
    return {"a": a, "b": b, "verdict": verdict, "ratio": ratio, "bound": bound}


@pytest.mark.parametrize(
    ("pairs", "ending"),
    [
        ([pair("adam", "sgd", "faster", 0.5)], "It is faster than sgd (0.50x its work)."),
        ([pair("sgd", "adam", "slower", 2.0)], "It is faster than sgd (0.50x its work)."),
        ([pair("adam", "sgd", "tie", 0.98)], "It ties with sgd (0.98x its work)."),
        ([pair("adam", "sgd", "not enough runs", 0.7)], "It cannot be told from sgd (0.70x its work)."),
        ([pair("adam", "sgd", "slower", 1.1)], "It is slower than sgd (1.10x its work)."),
        ([pair("adam", "sgd", "faster", 0.4, "upper")], "It is faster than sgd (at most 0.40x its work)."),
        ([pair("sgd", "adam", "slower", 2.5, "lower")], "It is faster than sgd (at most 0.40x its work)."),
        ([pair("sgd", "adam", "faster", 0.8, "upper")], "It is slower than sgd (at least 1.25x its work)."),
        ([pair("adam", "sgd", "not enough runs", 1.0, "both")], "It cannot be told from sgd (1.00x its work)."),
        ([pair("sgd", "momentum", "faster", 0.5)], "120 gradient evaluations (median)."),
        ([], "120 gradient evaluations (median)."),
        (
            [
                pair("sgd", "adam", "slower", 4.0),
                pair("adam", "adamw", "tie", 1.0),
                pair("momentum", "adam", "slower", 2.0),
                pair("nesterov", "adam", "slower", 1.6),
            ],
            "It is faster than sgd (0.25x its work), momentum (0.50x its work) and nesterov (0.62x its work); "
            "it ties with adamw (1.00x its work).",
        ),
    ],
)
def test_the_sentence(pairs, ending):
    said = sentence("digits-mlp", "accuracy 0.97", [("adam", 120.4), ("sgd", 300.0)], pairs)
    opening = "On digits-mlp, adam reached accuracy 0.97 with the least work: 120 gradient evaluations (median)."
    assert said.startswith(opening)
    assert said.endswith(ending)
    assert said.count("It ") + said.count("; it ") == len({p["verdict"] for p in pairs if "adam" in (p["a"], p["b"])})


def test_the_sentence_where_nobody_arrives():
    said = sentence("digits-mlp", "accuracy 0.97", [], [pair("a", "b", "not enough runs", 1.0, "both")])
    assert said == (
        "No optimizer reached accuracy 0.97 on digits-mlp in half of its runs: give more steps, or an easier goal."
    )


# outcomes and the whole verdict


def outcome(name, work_to_goal, final=0.9, seed=0, status="done", lr=0.1, steps=100, **end):
    """A run that jumps past 0.6 at `work_to_goal` and ends at `final`; None never gets there."""
    grid = range(0, steps + 1, 10)
    late = steps + 1 if work_to_goal is None else work_to_goal
    rows = [{"work": w, "metric": 0.65 if w >= late else 0.55} for w in grid[:-1]] + [{"work": steps, "metric": final}]
    if status != "done":
        rows = rows[:5]
    closing = {"status": status, "test": final - 0.01, "observed": {}} | end
    spec = parse(f"{name}(lr={lr})")
    header = {"id": f"{name}-{lr}-{seed}", "optimizer": name, "seed": seed, "steps": steps}
    return Outcome.of(Record(header, rows, closing), Point(spec, {"lr": lr}), "higher")


def test_only_a_run_that_ended_well_reached_the_goal():
    assert outcome("sgd", 20).work_to(0.6) == pytest.approx(15)
    assert outcome("sgd", None, final=0.5).work_to(0.6) == INF
    for status in ("diverged", "failed"):
        broken = outcome("sgd", 20, status=status, reason="KeyError: 'spam'")
        assert crossing(broken.work, broken.metric, 0.6, "higher") is not None
        assert broken.work_to(0.6) == INF
        assert math.isnan(broken.final)
        assert broken.row(0.6, tuned=True) == {
            "id": "sgd-0.1-0", "seed": 0, "spec": "sgd(lr=0.1)", "setting": {"lr": 0.1}, "work_to_goal": INF,
            "final_metric": pytest.approx(NAN, nan_ok=True), "status": status, "reason": "KeyError: 'spam'",
        }  # fmt: skip


def tried(*outcomes):
    return Tried(outcomes[0].point, outcomes)


def test_points_are_ranked_by_work_over_all_goals_then_by_result_and_failures_last():
    goals = (0.6, 0.64)
    best_first = [
        tried(outcome("sgd", 20, lr=1)),
        tried(outcome("sgd", 40, lr=2)),
        tried(outcome("sgd", None, final=0.62, lr=3)),  # reaches the first goal only, and at the last moment
        tried(outcome("sgd", None, final=0.58, lr=4)),
        tried(outcome("sgd", None, final=0.55, lr=5)),
        tried(outcome("sgd", 20, status="diverged", lr=6)),
    ]
    mixed = [best_first[i] for i in (3, 0, 5, 1, 4, 2)]
    assert sorted(mixed, key=lambda one: one.rank(goals)) == best_first
    (only,) = best_first[2].outcomes
    # A goal that is never reached counts as ten times the budget of 100.
    assert best_first[2].rank(goals) == (0, pytest.approx((math.log(only.work_to(0.6)) + math.log(1000)) / 2))


def test_finalists_are_ranked_over_their_seeds_and_luck_on_one_does_not_carry():
    steady = tried(*(outcome("sgd", 40, seed=s, lr=1) for s in range(3)))
    lucky = tried(outcome("sgd", 20, lr=2), *(outcome("sgd", None, final=0.5, seed=s, lr=2) for s in (1, 2)))
    frail = tried(outcome("sgd", 20, lr=3), *(outcome("sgd", 20, status="diverged", seed=s, lr=3) for s in (1, 2)))
    early = tried(outcome("sgd", 10, lr=4))  # best on the first seed, but tried on no other
    for other in (lucky, frail):
        assert steady.rank([0.6]) < other.rank([0.6])
        assert other.outcomes[0].work_to(0.6) < steady.outcomes[0].work_to(0.6)
    assert Tuning([early, lucky, steady, frail], []).chosen([0.6]) == 2
    assert Tuning([early], []).chosen([0.6]) == 0


def test_where_no_goal_is_set_points_are_ranked_by_the_mean_final_metric():
    good, poor = (tried(*(outcome("sgd", None, final=f, seed=s) for s in (0, 1))) for f in (0.58, 0.52))
    broken = tried(outcome("sgd", None, final=0.59), outcome("sgd", 20, seed=1, status="failed"))
    assert good.rank(()) < poor.rank(()) < broken.rank(())
    assert good.rank(()) == (1, pytest.approx(-0.58))


def field(**works):
    """A verdict on optimizers whose runs took `works`, with two points tried each."""
    tuning = {name: Tuning([tried(outcome(name, 60, lr=9)), tried(outcome(name, 40, lr=0.1))], []) for name in works}
    runs = {name: [outcome(name, w, 0.9 if w else 0.5, seed=s) for s, w in enumerate(ws)] for name, ws in works.items()}
    task = {"name": "mine", "metric": "accuracy", "better": "higher", "batch_size": 8}
    return assemble_verdict(task, 100, {"50": 0.58, "75": 0.6, "90": 0.64}, tuning, runs)


def test_the_verdict_lists_what_was_promised_and_is_json():
    found = field(sgd=[80, 90, 80, 70, 80, 90], adam=[20, 30, 20, 40, 30, None])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"task", "goal", "goals", "budget", "optimizers", "pairs"} <= found.keys()
    assert (found["task"], found["goal"], found["budget"]) == ("mine", 0.6, 100)
    adam = found["optimizers"]["adam"]
    assert {"spec", "success_rate", "work_to_goal", "final_metric", "diverged"} <= adam.keys()
    assert adam["success_rate"] == pytest.approx(5 / 6)
    assert adam["work_to_goal"] == {"median": pytest.approx(25), "low": pytest.approx(15), "high": None}
    assert adam["final_metric"] == 0.9
    assert adam["test_metric"] == pytest.approx(0.89)
    assert set(adam["work_to_goals"]) == {"50", "75", "90"}
    (judged,) = found["pairs"]
    assert {"a", "b", "ratio", "low", "high", "p", "verdict"} <= judged.keys()
    assert (judged["a"], judged["b"]) == ("sgd", "adam")
    assert judged["ratio"] > 1
    assert found["sentence"].startswith("On mine, adam reached accuracy 0.6 with the least work: 25 gradient")


def test_the_winners_curse_is_shown():
    tuning = field(sgd=[80, 90, 80, 70, 80, 90])["optimizers"]["sgd"]["tuning"]
    assert tuning["chosen"] == 1
    assert (tuning["value"], tuning["tuning_value"], tuning["rerun_value"]) == (
        "work to goal", pytest.approx(35), pytest.approx(75),
    )  # fmt: skip
    assert [point["spec"] for point in tuning["points"]] == ["sgd(lr=9)", "sgd(lr=0.1)"]
    assert tuning["work"] == 200


def test_an_optimizer_all_of_whose_runs_failed_is_listed_with_nothing_reached():
    ends = ("diverged", "failed", "failed")
    runs = {"sgd": [outcome("sgd", None, seed=s, status=status) for s, status in enumerate(ends)]}
    tuning = {"sgd": Tuning([tried(outcome("sgd", 20, status="failed"))], [])}
    task = {"name": "mine", "metric": "accuracy", "better": "higher", "batch_size": 8}
    found = assemble_verdict(task, 100, {"given": 0.6}, tuning, runs)
    entry = found["optimizers"]["sgd"]
    assert (entry["success_rate"], entry["diverged"], entry["failed"]) == (0, 1, 2)
    assert entry["work_to_goal"] == {"median": None, "low": None, "high": None}
    assert entry["final_metric"] is entry["test_metric"] is None
    assert found["sentence"].startswith("No optimizer reached accuracy 0.6 on mine")
    assert found["pairs"] == []


def test_optimizers_are_ranked_by_median_work_then_success_then_result():
    found = field(
        never=[None, None, None, None],  # ends at 0.5
        rarely=[20, None, None, None],
        slow=[80, 80, 80, 80],
        fast=[20, 20, 90, None],
    )
    assert found["ranking"] == ["fast", "slow", "rarely", "never"]


def test_the_best_in_tuning_is_what_a_large_field_is_judged_against():
    names = [f"n{i}" for i in range(8)]
    runs = {name: [outcome("sgd", 50, seed=s) for s in range(10)] for name in names}
    tuning = {name: Tuning([tried(outcome("sgd", 20 if name == "n5" else 50))], []) for name in names}
    task = {"name": "mine", "metric": "accuracy", "better": "higher", "batch_size": 8}
    found = assemble_verdict(task, 100, {"given": 0.6}, tuning, runs)
    assert {(p["a"], p["b"]) for p in found["pairs"]} == {
        p for p in itertools.combinations(names, 2) if "n0" in p or "n5" in p
    }


def test_a_verdict_reads_like_its_content():
    verdict = Verdict({"sentence": "All is well.", "pairs": [1]}, "runs/x")
    assert (str(verdict), verdict["pairs"], verdict.folder) == ("All is well.", [1], "runs/x")


def test_works_of_are_the_crossings():
    runs = {"sgd": [outcome("sgd", 20), outcome("sgd", None, final=0.5)]}
    assert works_of(runs, 0.6)["sgd"].tolist() == pytest.approx([15, INF])


# gates


def run(optimizer, seed=0, weights="w", order=("b0", "b1"), metric=(0.1, 0.5), status="done", **observed):
    rows = [{"work": i, "metric": value, "observed": {"seconds": i + len(optimizer)}} for i, value in enumerate(metric)]
    closing = {"status": status, "weights": weights, "order": list(order), "observed": observed}
    return Record({"optimizer": optimizer, "seed": seed}, rows, closing)


def test_the_same_seed_gate_sees_one_differing_number_and_overlooks_times():
    one = run("sgd")
    slower = Record(one.header, [row | {"observed": {"seconds": 99}} for row in one.rows], one.end)
    assert gates.same_numbers(one, slower) == {
        "name": "same seed, same numbers", "passed": True, "detail": "sgd twice on seed 0: 0 of 2 rows differ",
    }  # fmt: skip
    other = gates.same_numbers(one, run("sgd", metric=(0.1, 0.5000000001)))
    assert other["passed"] is False
    assert "1 of 2 rows differ" in other["detail"]
    assert gates.same_numbers(one, run("sgd", metric=(0.1,)))["passed"] is False
    assert gates.same_numbers(run("sgd", metric=()), run("sgd", metric=()))["passed"] is None


def test_the_same_start_gate_compares_weights_and_orders_seed_by_seed():
    equal = {
        "sgd": [run("sgd", 0, "w0").end, run("sgd", 1, "w1").end],
        "adam": [run("adam", 0, "w0").end, run("adam", 1, "w1").end],
    }
    assert gates.same_start(equal)["passed"] is True
    weights = gates.same_start(equal | {"adam": [run("adam", 0, "w0").end, run("adam", 1, "w9").end]})
    assert weights["passed"] is False
    assert "weights differ on 1, data order on 0" in weights["detail"]
    orders = gates.same_start(equal | {"adam": [run("adam", 0, "w0", ["b0", "b9"]).end, run("adam", 1, "w1").end]})
    assert orders["passed"] is False
    assert "weights differ on 0, data order on 1" in orders["detail"]
    shorter = {
        "sgd": [run("sgd", order=["b0", "b1", "b2"]).end],
        "adam": [run("adam", order=["b0"], status="diverged").end],
    }
    assert gates.same_start(shorter)["passed"] is True
    crashed = {"sgd": [run("sgd").end], "adam": [{"status": "failed", "observed": {}}]}
    assert gates.same_start(crashed)["passed"] is True


def test_the_false_alarm_gate_passes_for_this_judge_and_catches_one_that_sees_ghosts():
    works = drawn(np.random.default_rng(10), 100, 200, 300, 120, 80)
    good = gates.no_false_alarms(works, HORIZON, judge)
    assert good["passed"] is True
    alarms = int(good["detail"].split()[0])
    assert 0 < alarms <= at_most(0.05, 1000)

    def hasty(works, horizon, best):
        pairs = itertools.combinations(works, 2)
        return [{"verdict": "faster" if compare(a, b, works, horizon).p < 0.05 else "tie"} for a, b in pairs]

    assert gates.no_false_alarms(works, HORIZON, hasty)["passed"] is False, "ten tests at 5 % without Holm"


def test_the_false_alarm_gate_simulates_censored_runs_too():
    rng = np.random.default_rng(3)
    works = {name: censored(np.exp(rng.normal(5, 0.2, 10)), 3) for name in "abcd"}
    found = gates.no_false_alarms(works, HORIZON, judge)
    assert found["passed"] is True
    assert "false alarms in 1000 simulated races" in found["detail"]


@pytest.mark.parametrize(
    "works",
    [
        {"a": np.array([1.0, 2, 3])},
        {"a": np.array([1.0, INF, INF]), "b": np.array([INF, 2.0, INF])},
        {"a": np.array([2.0, 2, 2]), "b": np.array([3.0, 3, 3])},
        {"a": np.array([2.0]), "b": np.array([3.0])},
    ],
)
def test_the_false_alarm_gate_says_when_it_could_not_look(works):
    found = gates.no_false_alarms(works, HORIZON, judge)
    assert found["passed"] is None
    assert found["detail"].startswith("not checked: ")


@pytest.mark.parametrize(
    ("better", "goal", "passed"),
    [("higher", 0.6, True), ("higher", 0.4, False), ("lower", 0.05, True), ("lower", 0.2, False)],
)
def test_the_swapped_labels_gate(better, goal, passed):
    found = gates.swapped_labels(run("sgd", metric=(0.1, 0.5, NAN, 0.3)), goal, better)
    assert found["passed"] is passed
    assert f"the goal is {goal}" in found["detail"]


def test_the_swapped_labels_gate_says_when_it_could_not_look():
    assert gates.swapped_labels(None, 0.5, "higher")["passed"] is None
    assert gates.swapped_labels(run("sgd", metric=(NAN,)), 0.5, "higher")["passed"] is None


def test_the_other_gates_count():
    ends = [
        run("sgd", seconds=10.0, evaluation_seconds=4.0).end,
        run("sgd", status="diverged").end,
        run("sgd", status="failed").end,
    ]
    assert gates.few_diverge(ends)["detail"] == "1 of 3 (33%), 1 failed"
    assert gates.cheap_evaluation(ends) == {
        "name": "share of time in evaluation", "passed": True, "detail": "40%, at most 50% is meant",
    }  # fmt: skip
    assert gates.cheap_evaluation([run("sgd", seconds=10.0, evaluation_seconds=6.0).end])["passed"] is False
    assert gates.cheap_evaluation([])["passed"] is True


def test_numbers_that_json_cannot_hold_become_null():
    assert plain({"a": [INF, NAN, 1.5], "b": {"c": -INF}}) == {"a": [None, None, 1.5], "b": {"c": None}}
