"""The race's statistics against independent references: brute force, scipy, the literature's examples, simulation.

Simulations have fixed seeds. Where a share is measured, it must lie within `ERRORS` standard errors of what is claimed,
which a correct implementation would miss with probability 1e-4 if the seed were drawn anew.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ravine.racing.judge import ALPHA, judgeable, runs_needed
from ravine.racing.statistics import (
    detectable,
    holm,
    mcnemar,
    median_interval,
    ranks,
    sign_flip,
    smallest_p,
    t_interval,
    wilson,
)

ERRORS = 3.9  # two-sided normal quantile of 1e-4


def share_error(share: float, trials: int) -> float:
    return ERRORS * math.sqrt(share * (1 - share) / trials)


# sign_flip


def every_flip(differences) -> Fraction:
    """The share of all sign patterns whose sum is at least as far from zero, in exact arithmetic."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    sums = (abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns)
    return Fraction(sum(total >= observed for total in sums), len(patterns))


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_sign_flip_is_the_share_of_all_flips_ties_included(tenths):
    exact = every_flip([Fraction(value, 10) for value in tenths])
    assert sign_flip(np.array(tenths) / 10) == pytest.approx(float(exact), abs=1e-12)


def test_sign_flip_counts_sums_that_are_equal_on_paper():
    assert 0.1 + 0.2 - 0.3 != 0
    assert sign_flip(np.array([0.1, 0.2, -0.3])) == 1.0
    assert sign_flip(np.array([0.2, -0.1, 0.0, 0.3, -0.2, -0.6, 0.4])) == 1.0


@pytest.mark.parametrize("n", [3, 6, 10, 13])
def test_sign_flip_equals_scipys_exact_permutation_test(n):
    x, y = np.random.default_rng(n).normal(size=(2, n)) + np.array([[0.5], [0]])
    theirs = stats.permutation_test(
        (x, y), lambda a, b: np.sum(a - b), permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip(x - y) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [5, 8, 12])
def test_sign_flip_of_signed_ranks_is_wilcoxons_exact_test(n):
    differences = np.random.default_rng(n).normal(0.4, 1, size=n)
    signed = np.sign(differences) * stats.rankdata(np.abs(differences))
    assert sign_flip(signed) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, abs=1e-12)


@pytest.mark.parametrize("n", range(1, 15))
def test_the_smallest_p_is_reached_exactly_when_all_differences_agree(n):
    differences = np.random.default_rng(n).uniform(0.1, 1, size=n)
    assert sign_flip(differences) == sign_flip(-differences) == smallest_p(n) == 2.0 ** (1 - n)


def test_sign_flip_of_equal_runs_is_one():
    assert sign_flip(np.zeros(10)) == 1.0


def test_sign_flip_is_exact_where_all_flips_are_too_many_to_list_at_once():
    differences = np.random.default_rng(5).normal(450, 1000, size=21).astype(int)
    sums = np.zeros(1, dtype=int)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])  # all 2^21 of them, in whole numbers
    exact = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert sign_flip(differences / 1000) == pytest.approx(exact, rel=1e-12)
    assert sign_flip(np.ones(30)) == 2.0**-29


def test_beyond_the_exact_sizes_sign_flip_is_sampled_with_a_stated_error_and_always_the_same():
    differences = np.random.default_rng(5).normal(250, 1000, size=41)
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt(np.square(differences).sum()))
    found = sign_flip(differences)
    assert abs(found - normal) <= share_error(normal, 20_000) + 0.01
    assert found == sign_flip(differences)
    assert 0 < sign_flip(np.ones(50)) <= 3 / 20_000  # the observed pattern counts, so p is never 0


def test_sign_flip_holds_its_level_for_skewed_differences():
    # Differences of equals are symmetric whatever the runs' own distribution: here heavily skewed ones.
    rng = np.random.default_rng(1)
    runs = rng.exponential(size=(4000, 2, 8)) ** 2
    p = np.array([sign_flip(a - b) for a, b in runs])
    for level in (2 / 256, 4 / 256, 12 / 256):  # attainable levels: each holds with equality
        assert abs(np.mean(p <= level + 1e-12) - level) <= share_error(level, len(p))


# holm


def naive_holm(p):
    """Holm 1979 word for word: the i-th smallest of m is compared with alpha / (m - i + 1), stopping at a failure."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    for place, i in enumerate(order):
        adjusted[i] = max(min(1.0, (len(p) - k) * p[order[k]]) for k in range(place + 1))
    return adjusted


def test_holm_gives_the_worked_example():
    # 4 x 0.005, then 3 x 0.01, then 2 x 0.03; 1 x 0.04 may not come out below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=0, max_size=12))
def test_holm_equals_the_definition(p):
    assert holm(p) == pytest.approx(naive_holm(p), abs=1e-15)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p, alpha):
    rejected, order = set(), sorted(range(len(p)), key=lambda i: p[i])
    for place, i in enumerate(order):
        if min(1.0, (len(p) - place) * p[i]) >= alpha:
            break
        rejected.add(i)
    assert {i for i, adjusted in enumerate(holm(p)) if adjusted < alpha} == rejected


# success rates


def test_wilson_equals_the_formula_and_a_published_value():
    n, z = 10, stats.norm.ppf(0.975)
    for k in range(n + 1):
        middle = (k / n + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
        assert wilson(k, n) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3
    assert wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_is_the_binomial_test_of_the_runs_that_differ():
    a = [True] * 9 + [False] * 1 + [True] * 4
    b = [False] * 9 + [True] * 1 + [True] * 4
    by_hand = 2 * (1 + 10) / 2**10  # nine against one of ten, and the mirror image
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(by_hand)
    assert mcnemar([True, False], [True, False]) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_mcnemar_never_depends_on_the_runs_that_agree(pairs):
    differing = [(x, y) for x, y in pairs if x != y]
    wins = sum(x for x, _ in differing)
    n = len(differing)
    tail = sum(math.comb(n, k) for k in range(max(wins, n - wins), n + 1))
    assert mcnemar(*zip(*pairs, strict=True)) == pytest.approx(min(1.0, 2 * tail / 2**n))


# intervals


@pytest.mark.parametrize("confidence", [0.90, 0.95])
@pytest.mark.parametrize("n", [2, 5, 10])
def test_t_intervals_cover_at_the_stated_confidence(n, confidence):
    samples = np.random.default_rng(n).normal(3.0, 2.0, size=(4000, n))
    intervals = np.array([t_interval(sample, confidence) for sample in samples])
    covered = np.mean((intervals[:, 0] <= 3) & (intervals[:, 1] >= 3))
    assert abs(covered - confidence) <= share_error(confidence, len(samples))


def test_a_t_interval_equals_scipys_and_needs_two_values():
    values = np.array([1.0, 2.5, 2.0, 4.0])
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert t_interval(values, 0.9) == pytest.approx((theirs.low, theirs.high))
    assert t_interval(np.array([1.0]), 0.95) == (-math.inf, math.inf)


@pytest.mark.parametrize("n", [6, 8, 10, 15])
def test_median_intervals_cover_at_least_the_stated_95_percent(n):
    # The exact coverage of order statistics k and n + 1 - k is a binomial sum; the simulation holds it to the code.
    samples = np.random.default_rng(n).exponential(size=(1500, n))
    truth = math.log(2)
    found = [median_interval(sample) for sample in samples]
    k = int(np.searchsorted(np.sort(samples[0]), found[0][0])) + 1
    exact = 1 - 2 * stats.binom.cdf(k - 1, n, 0.5)
    wider = 1 - 2 * stats.binom.cdf(k, n, 0.5)
    assert exact >= 0.95 > wider, "the narrowest interval that covers 95 %"
    covered = np.mean([low <= truth <= high for low, high in found])
    assert abs(covered - exact) <= share_error(exact, len(samples))


def test_median_intervals_of_ten_runs_leave_out_one_at_each_end_and_keep_censored_ones():
    work = np.array([70, 10, 30, 20, 100, 50, 60, 40, 80, 90.0])
    assert median_interval(work) == (20, 90)
    assert median_interval(np.where(work > 70, math.inf, work)) == (20, math.inf)
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1, 3)
    assert median_interval(np.array([5.0])) == (5, 5)


# detectable


def standardized(n: int, spread: float) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=n)
    return (values - values.mean()) / values.std(ddof=1) * spread


@pytest.mark.parametrize(("cv", "effect"), [(0.065, 0.14), (0.15, 0.36)])
def test_detectable_gives_the_protocols_figures_for_ten_seeds_and_ten_pairs(cv, effect):
    differences = standardized(10, math.sqrt(2) * cv)  # of two runs that each vary by cv
    assert round(math.exp(detectable(differences, ALPHA / 10)) - 1, 2) == effect


def test_detectable_by_hand():
    # Quantiles of Student's t with nine degrees of freedom, from printed tables: 2.262 and 0.883.
    assert detectable(standardized(10, 1.0), 0.05) == pytest.approx((2.262 + 0.883) / math.sqrt(10), abs=2e-4)
    assert detectable(np.array([1.0]), 0.05) is None
    assert detectable(np.zeros(10), 0.05) == 0.0


@pytest.mark.parametrize(("runs", "pairs", "paired_t", "exact"), [(10, 1, 0.80, 0.79), (10, 10, 0.775, 0.65)])
def test_the_power_at_what_is_called_detectable(runs, pairs, paired_t, exact):
    """At one pair it is the 80 % that is claimed, for the t-test and for the exact test alike.

    At ten pairs the formula, whose two quantiles add up only roughly, gives 77.5 %; and since ten runs have no p
    between 4/1024 and 6/1024, the exact test then works at 0.0039 instead of 0.005 and finds 65 %. Holm's later steps
    make up for some of it, see test_judge.py.
    """
    effect = detectable(standardized(runs, 1.0), ALPHA / pairs)
    samples = np.random.default_rng(2).normal(effect, 1, size=(6000, runs))
    by_t = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < ALPHA / pairs)
    by_flips = np.mean([sign_flip(sample) < ALPHA / pairs for sample in samples])
    assert abs(by_t - paired_t) <= 0.005 + share_error(paired_t, len(samples))
    assert abs(by_flips - exact) <= 0.005 + share_error(exact, len(samples))


# how many runs tell how many pairs apart


def test_how_many_pairs_a_number_of_runs_can_tell_apart():
    assert smallest_p(10) == pytest.approx(0.002, abs=5e-5)  # the protocol's figure
    assert judgeable(5, 10)
    assert not judgeable(8, 10)
    assert not judgeable(2, 5)
    assert judgeable(2, 6)


@given(st.integers(1, 200))
def test_the_fewest_runs_needed_are_enough_and_one_fewer_is_not(pairs):
    needed = runs_needed(pairs)
    assert pairs * smallest_p(needed) < ALPHA
    assert needed == 2 or pairs * smallest_p(needed - 1) >= ALPHA


# ranks


def test_ranks_tie_censored_runs_last():
    a, b = ranks(np.array([10.0, math.inf, 20.0]), np.array([20.0, 5.0, math.inf]))
    assert a.tolist() == [2, 5.5, 3.5]
    assert b.tolist() == [3.5, 1, 5.5]


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1, 1e6) | st.just(math.inf)), min_size=1, max_size=15))
def test_ranks_only_see_the_order(pairs):
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    before, after = ranks(a, b), ranks(a * 2, b * 2)
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))
    assert sum(map(np.sum, before)) == len(pairs) * (2 * len(pairs) + 1)
    reached = np.isfinite(b)
    if not reached.all():
        assert before[1][~reached].min() > max(before[0].max(), before[1][reached].max(initial=0))
