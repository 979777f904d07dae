"""Estimates of operators with known eigenvalues: errors cover the truth, and bounds hold."""

import itertools
import math
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ravine import curvature
from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.counted import Counted
from ravine.curvature.krylov import System, cg
from ravine.curvature.lanczos import Basis
from ravine.curvature.quadrature import quadrature

F64, F32 = torch.float64, torch.float32
TRIALS = 200


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def line(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=F64)


def matrix(values: Tensor, dtype: torch.dtype = F64) -> Tensor:
    """A symmetric matrix with these eigenvalues, in a random basis."""
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=seeded(99))).Q
    made = (q * values.to(F64)) @ q.T
    return ((made + made.T) / 2).to(dtype)


def operator(m: Tensor) -> Operator:
    return Operator(len(m), lambda v: m @ v, dtype=m.dtype)


DECAYING = torch.cat([torch.tensor([30.0, 10.0, -5.0], dtype=F64), line(-0.3, 1.0, 37)])


def covers(off: Tensor, error: Tensor) -> None:
    """At least 180 of 200 trials cover the truth, with a half-width of three times the true error at most."""
    assert len(off) == TRIALS
    assert int((off <= error).sum()) >= 180
    assert float(error.median()) <= 3 * float(off.square().mean().sqrt())


# ---------------------------------------------------------------- trace and diagonal


@pytest.mark.parametrize(
    "options",
    [{}, {"samples": 12}, {"method": "hutch++"}, {"method": "hutch++", "samples": 30}, {"tol": 0.2, "samples": 400}],
    ids=str,
)
def test_the_error_of_the_trace_covers(options: dict[str, Any]) -> None:
    m = matrix(torch.cat([DECAYING, line(0.0, 1.0, 40)]))
    A = operator(m)
    found = [curvature.trace(A, generator=seeded(seed), **options) for seed in range(TRIALS)]
    off = torch.tensor([abs(e.value - float(m.trace())) for e in found], dtype=F64)
    covers(off, torch.tensor([e.error for e in found], dtype=F64))
    assert all(e.products <= options.get("samples", 100) for e in found)


def test_hutch_plus_plus_wins_where_few_eigenvalues_carry_the_trace() -> None:
    A = operator(matrix(torch.cat([line(5.0, 9.0, 5), line(0.0, 0.01, 95)])))
    plain, better = (curvature.trace(A, generator=seeded(), method=method) for method in ("hutchinson", "hutch++"))
    assert better.error < plain.error / 50


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
@pytest.mark.parametrize("n", [1, 2, 20])
def test_what_is_exact_is_off_by_rounding_only(n: int, method: str, dtype: torch.dtype) -> None:
    diagonal = torch.rand(n, generator=seeded()).to(dtype) - 0.4
    A = Operator(n, lambda v: diagonal[:, None] * v, dtype=dtype)
    found = curvature.trace(A, generator=seeded(), method=method)
    assert abs(found.value - float(diagonal.double().sum())) <= found.error < 100 * torch.finfo(dtype).eps * n
    each = curvature.diagonal(A, generator=seeded())
    assert ((each.value - diagonal.double()).abs() <= each.error).all()
    assert (each.error < 100 * torch.finfo(dtype).eps).all()


def test_the_trace_stops_at_its_tolerance_or_says_that_it_did_not() -> None:
    A = operator(matrix(line(0.5, 1.5, 80)))
    early = curvature.trace(A, generator=seeded(), tol=0.05, samples=1000)
    assert early.converged
    assert early.products < 1000
    assert early.error <= 0.05 * early.value
    late = curvature.trace(operator(matrix(line(-1, 1, 80))), generator=seeded(), tol=1e-3)
    assert not late.converged
    assert "give more samples" in late.reason


def test_the_error_of_each_number_of_the_diagonal_covers() -> None:
    m = matrix(DECAYING)
    found = [curvature.diagonal(operator(m), generator=seeded(seed), samples=60) for seed in range(TRIALS)]
    off = torch.stack([(e.value - m.diagonal()).abs() for e in found])
    error = torch.stack([e.error for e in found])
    for i in range(len(m)):
        covers(off[:, i], error[:, i])


# ---------------------------------------------------------------- spectrum


def distance(found: Any, values: Tensor, by: float = 0.0) -> float:
    """The largest distance of cumulative shares, at all places that are not within rounding of an eigenvalue."""
    values = values.sort().values
    scale = float(values.abs().max())
    near = 1e-6 * scale
    x = torch.cat([values - 2 * near, values + 2 * near, (values[1:] + values[:-1]) / 2, line(-scale, scale, 300)])
    x = x[(x[:, None] - values).abs().amin(1) > near]
    true = (values <= x[:, None]).double().mean(1)
    return max(float((found.cumulative(x - by) - true).max()), float((true - found.cumulative(x + by)).max()))


SPECTRA: dict[str, tuple[Tensor, dict[str, int]]] = {
    "uniform": (line(-1, 1, 25), {}),
    "two values": (torch.cat([torch.zeros(90), torch.ones(10)]), {}),
    "n = 2": (torch.tensor([-1.0, 2.0]), {"starts": 12}),
    "as of a network": (
        torch.cat([torch.zeros(20), line(-0.05, 0.1, 16), line(0.2, 1, 6), torch.tensor([5.0, 10.0, 30.0])]),
        {"starts": 4},
    ),
    "not to the end": (line(-1, 1, 150), {"starts": 3, "steps": 20}),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_error_of_the_spectrum_covers(name: str) -> None:
    values, options = SPECTRA[name]
    A = operator(matrix(values))
    found = [curvature.spectrum(A, generator=seeded(seed), **options) for seed in range(TRIALS)]
    off = torch.tensor([distance(e, values) for e in found], dtype=F64)
    covers(off, torch.tensor([e.error for e in found], dtype=F64))


@pytest.mark.parametrize("steps", [10, 30])
def test_places_are_told_to_the_resolution(steps: int) -> None:
    """Where eigenvalues crowd closer than the steps can tell, the error holds for places within the resolution."""
    values = 10 ** line(-8, 0, 200)
    A = operator(matrix(values))
    found = [curvature.spectrum(A, generator=seeded(seed), starts=2, steps=steps) for seed in range(50)]
    assert sum(distance(e, values, e.resolution) <= e.error for e in found) >= 45


def test_the_share_below_a_place_covers() -> None:
    values = torch.cat([line(-1, -0.1, 10), line(0.1, 1, 30)])
    A = operator(matrix(values))
    for steps in (None, 15):
        found = [curvature.spectrum(A, generator=seeded(s), starts=2, steps=steps).below(0.0) for s in range(100)]
        assert sum(abs(e.value - 0.25) <= e.error for e in found) >= 90
        assert max(e.error for e in found) < (0.25 if steps is None else 0.35)


def test_the_quadrature_bounds_the_measure_of_its_vector() -> None:
    values = line(-1, 1, 60)
    m = matrix(values)
    lam, u = torch.linalg.eigh(m)
    v = torch.randn(60, dtype=F64, generator=seeded())
    true = (u.T @ v).square() / v.square().sum()
    x = line(-1.1, 1.1, 500)
    for steps in (2, 5, 20, 60):
        basis = Basis(operator(m), v)
        basis.extend(steps)
        made = quadrature(basis)
        for power in range(min(2 * steps, 12)):
            assert float((made.weights * made.nodes**power).sum()) == pytest.approx(float((true * lam**power).sum()))
        up_to = torch.stack([true[lam <= place].sum() for place in x])
        assert ((made.up_to(x) - up_to).abs() <= made.off(x) + 1e-9).all()


def test_the_averaged_rule_knows_one_moment_more_and_halves_the_error_of_the_density() -> None:
    values = torch.cat([line(-0.2, 1, 150), torch.zeros(40), torch.tensor([3.0, 5.0])])
    m, at, width = matrix(values), line(-0.5, 5.5, 600), 0.06
    lam, u = torch.linalg.eigh(m)

    def bells(nodes: Tensor, weights: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((at[:, None] - nodes) / width) ** 2) @ weights

    ratios = []
    for seed in range(10):
        v = torch.randn(len(m), dtype=F64, generator=seeded(seed))
        true = (u.T @ v).square() / v.square().sum()
        basis = Basis(operator(m), v)
        basis.extend(12)
        made = quadrature(basis)
        nodes, weights = made.averaged()
        assert len(nodes) == 23
        assert float(weights.min()) > 0
        for power in range(2 * 12 + 1):
            assert float(weights @ nodes**power) == pytest.approx(float(true @ lam**power), rel=1e-9)
        exact = bells(lam, true)
        gauss = (bells(made.nodes, made.weights) - exact).abs().sum()
        ratios.append(float((bells(nodes, weights) - exact).abs().sum() / gauss))
    assert statistics.median(ratios) < 0.6
    whole = Basis(operator(torch.eye(3, dtype=F64)), torch.ones(3, dtype=F64))
    whole.extend(3)
    torch.testing.assert_close(quadrature(whole).averaged()[0], torch.ones(1, dtype=F64))


def test_the_density_is_that_of_the_bells() -> None:
    values = line(-1, 1, 50)
    A, at = operator(matrix(values)), line(-1.5, 1.5, 40)
    true = torch.exp(-0.5 * ((at[:, None] - values) / 0.2) ** 2).mean(1) / (0.2 * math.sqrt(2 * math.pi))
    found = [curvature.spectrum(A, generator=seeded(seed), starts=4) for seed in range(60)]
    covered = torch.stack([(e.density(at, 0.2) - true).abs() <= e.density_error(at, 0.2) for e in found])
    assert float(covered.double().mean()) >= 0.9


def test_the_spectrum_says_when_its_error_is_too_large() -> None:
    A = operator(matrix(line(-1, 1, 50)))
    found = curvature.spectrum(A, generator=seeded(), starts=2, tol=0.01)
    assert not found.converged
    assert "give more starts or steps" in found.reason
    assert curvature.spectrum(A, generator=seeded(), starts=2, tol=0.5).converged


def test_the_picture(tmp_path: Path) -> None:
    for values in (DECAYING, torch.zeros(3), torch.tensor([2.0]), -line(1, 2, 5)):
        found = curvature.spectrum(operator(matrix(values)), generator=seeded(), starts=2)
        made = curvature.plot_spectrum(found, tmp_path / "spectrum.png", title="of a matrix")
        density, shares = made.axes
        assert density.get_yscale() == "log"
        assert "share of eigenvalues" in shares.get_ylabel()
        assert (tmp_path / "spectrum.png").stat().st_size > 5000


# ---------------------------------------------------------------- eigenpairs

EIGEN: dict[str, Tensor] = {
    "n = 1": torch.tensor([3.0]),
    "n = 2": torch.tensor([3.0, -1.0]),
    "identity": torch.ones(30),
    "zero": torch.zeros(30),
    "distinct": line(-2, 3, 60),
    "negative": line(-3, -1, 60),
    "multiple": torch.cat([torch.ones(20), line(0, 0.5, 80)]),
    "two pairs": torch.cat([torch.tensor([2.0, 2.0, 1.0, 1.0]), line(-0.2, 0.3, 150)]),
    "clustered": torch.cat([1 + 1e-7 * torch.arange(5), line(0, 0.1, 100)]),
    "low rank": torch.cat([torch.tensor([5.0, -5.0, 1.0]), torch.zeros(60)]),
}


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("name", EIGEN)
def test_no_eigenvalue_is_missed_or_told_twice(name: str, dtype: torch.dtype) -> None:
    values = EIGEN[name].to(F64)
    m = matrix(values, dtype)
    exact = torch.linalg.eigvalsh(m.double()).flip(0)
    scale = float(exact.abs().max())
    far = exact[exact.abs().argsort(descending=True)]
    for k in sorted({1, min(3, len(m)), min(6, len(m))}):
        for seed in range(4):
            ends = {"bottom": curvature.bottom}
            for which, true in (("algebraic", exact[:k]), ("bottom", exact[len(m) - k :]), ("magnitude", far[:k])):
                find = ends.get(which, partial(curvature.top, which=which))
                found = find(operator(m), k, generator=seeded(seed))
                assert found.converged
                assert found.value.shape == (k,)
                assert (found.value.diff() <= 0).all()
                value, error = found.value, found.error
                if which == "magnitude":  # of ±λ either may be taken
                    value, true, error = value.abs().sort().values, true.abs().sort().values, error.max()
                assert ((value - true).abs() <= error + 1e-4 * scale).all()
                residual = m.double() @ found.vectors.double() - found.vectors.double() * found.value
                assert (residual.norm(dim=0) <= found.error).all()
                gram = found.vectors.double().T @ found.vectors.double()
                torch.testing.assert_close(gram, torch.eye(k, dtype=F64), atol=1e-5, rtol=0)


def test_the_whole_spectrum_with_its_multiplicities() -> None:
    values = torch.cat([torch.full((6,), 2.0), torch.full((5,), -1.0), line(0, 1, 9)]).to(F64)
    found = curvature.top(operator(matrix(values)), 20, generator=seeded())
    torch.testing.assert_close(found.value, values.sort(descending=True).values, atol=1e-10, rtol=0)


def test_pairs_that_have_not_converged_say_so_and_keep_their_bound() -> None:
    m = matrix(line(0, 1, 400))
    found = curvature.top(operator(m), 3, tol=1e-8, most=12, generator=seeded())
    assert not found.converged
    assert "give more by most=" in found.reason
    exact = torch.linalg.eigvalsh(m)
    assert all((exact - value).abs().min() <= error for value, error in zip(found.value, found.error, strict=True))


def test_a_repeated_eigenvalue_is_looked_for() -> None:
    """One Krylov space holds it once; without the search beside it, the third would be 0.5."""
    values = torch.cat([torch.ones(3), line(-0.5, 0.5, 200)])
    basis = Basis(operator(matrix(values)), torch.randn(203, dtype=F64, generator=seeded()))
    basis.extend(25)  # a second copy comes out of rounding later on
    assert int((torch.linalg.eigvalsh(basis.tridiagonal) > 0.9).sum()) == 1
    for seed in range(20):
        found = curvature.top(operator(matrix(values)), 3, generator=seeded(seed))
        torch.testing.assert_close(found.value, torch.ones(3, dtype=F64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [F64, F32])
def test_uncertified_pairs_keep_their_bound_and_save_the_search(dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([9.0, 7.0, 7.0, 4.0]).to(F64), line(-0.5, 0.5, 300)])
    m = matrix(values, dtype)
    exact = torch.linalg.eigvalsh(m.double())
    for seed in range(20):
        quick = curvature.top(operator(m), 3, tol=0.02, certify=False, generator=seeded(seed))
        sure = curvature.top(operator(m), 3, tol=0.02, generator=seeded(seed))
        assert quick.products <= 9
        assert quick.products + 8 <= sure.products
        for value, error in zip(quick.value, quick.error, strict=True):
            assert (exact - value).abs().min() <= error
        residual = m.double() @ quick.vectors.double() - quick.vectors.double() * quick.value
        assert (residual.norm(dim=0) <= quick.error).all()
        torch.testing.assert_close(sure.value, values[:3], atol=0.05, rtol=0)
        assert int((quick.value > 6).sum()) == 2  # the second 7 is in no Krylov space of one vector


def test_where_rounding_spoils_lanczoss_relation_pairs_are_measured() -> None:
    """Of an operator that is not quite symmetric T does not hold all of A Q: residuals must not be read off it."""
    m = matrix(DECAYING)
    m = m + 1e-3 * torch.randn(len(m), len(m), dtype=F64, generator=seeded(1))
    for seed in range(10):
        found = curvature.top(operator(m), 3, tol=1e-5, generator=seeded(seed), most=30)
        residual = m @ found.vectors - found.vectors * found.value
        assert (residual.norm(dim=0) <= found.error).all()
        assert not found.converged


def test_lanczos_stays_orthogonal_and_tridiagonal() -> None:
    m = matrix(10 ** line(-10, 0, 120))
    basis = Basis(operator(m), torch.randn(120, dtype=F64, generator=seeded()))
    basis.extend(100)
    q = basis.vectors
    torch.testing.assert_close(q.T @ q, torch.eye(100, dtype=F64), atol=1e-13, rtol=0)
    torch.testing.assert_close(q.T @ m @ q, basis.tridiagonal, atol=1e-13, rtol=0)


# ---------------------------------------------------------------- condition number


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (line(1, 10, 60), {}, 10),
        (torch.cat([torch.zeros(50), line(1, 10, 250)]), {}, 10),
        (torch.cat([line(-4, -0.5, 100), line(1, 8, 100)]), {}, 16),
        (10 ** line(-6, 0, 80), {}, 1e6),
        (10 ** line(-6, 0, 80), {"tol": 10**-3.5}, None),
        (torch.ones(20), {}, 1),
        (torch.tensor([-3.0]), {}, 1),
    ],
)
def test_the_condition_number(values: Tensor, options: dict[str, Any], expected: float | None) -> None:
    size = values.abs()
    expected = expected or float(size.max() / size[size > 10**-3.5].min())
    for seed in range(5):
        found = curvature.condition_number(operator(matrix(values)), generator=seeded(seed), **options)
        assert found.converged
        assert found.reason == ""
        assert abs(found.value - expected) <= found.error + 1e-12 * expected
        assert found.error <= 0.01 * found.value


def test_a_lower_end_that_is_not_resolved_is_told() -> None:
    values = torch.cat([torch.tensor([1e-5]), 10 ** line(-4, 0, 400)])
    for seed in range(5):
        found = curvature.condition_number(operator(matrix(values)), most=60, generator=seeded(seed))
        assert not found.converged
        assert "the lower end is not resolved" in found.reason
        assert found.value <= 1e5 <= found.value + found.error
    zero = curvature.condition_number(operator(torch.zeros(4, 4, dtype=F64)))
    assert math.isnan(zero.value)
    assert (zero.converged, zero.reason) == (False, "no eigenvalue differs from zero")


def test_up_to_1000_the_lower_end_is_found_however_it_crowds() -> None:
    values = torch.cat([torch.zeros(100), line(-0.5, 1, 500)])
    size, A = values.abs(), operator(matrix(values))
    found = curvature.condition_number(A, generator=seeded())
    assert found.converged
    assert abs(found.value - float(1 / size[size > 1e-8].min())) <= found.error <= 0.01 * found.value
    fewer = curvature.condition_number(A, generator=seeded(), most=400)
    assert not fewer.converged
    assert fewer.value <= found.value <= fewer.value + fewer.error


def test_a_smallest_eigenvalue_that_the_vector_hardly_sees_is_not_denied() -> None:
    """The start has next to nothing along it, as one random vector in forty may: more than that is not claimed."""
    wrong = 0
    values = torch.cat([torch.tensor([0.01]), line(1, 10, 400)])
    A = operator(matrix(values))
    for seed in range(60):
        found = curvature.condition_number(A, generator=seeded(seed), most=400)
        wrong += found.converged and abs(found.value - 1000) > found.error
    assert wrong <= 6


# ---------------------------------------------------------------- negative curvature

MIXED = torch.cat([line(-3, -0.5, 30), torch.zeros(10), line(0.5, 4, 60)])


def test_the_index_is_exact_for_small_operators() -> None:
    m = matrix(MIXED)
    found = curvature.negative_curvature(operator(m), generator=seeded())
    assert (found.count.value, found.count.error, found.fraction.value) == (30, 0.0, 0.3)
    assert found.converged
    assert abs(found.value + 3) <= found.error
    assert float(found.direction @ m @ found.direction) == pytest.approx(-3)
    assert found.products == 100


def test_the_index_of_large_operators_has_an_interval() -> None:
    A = operator(matrix(MIXED))
    found = [curvature.negative_curvature(A, exact=0, starts=2, generator=seeded(seed)) for seed in range(40)]
    assert sum(abs(e.count.value - 30) <= e.count.error for e in found) >= 36
    assert max(e.count.error for e in found) < 15
    for e in found:
        assert abs(e.value + 3) <= e.error
        assert e.direction.norm() == pytest.approx(1)
    alone = curvature.negative_curvature(A, index=False, generator=seeded())
    assert alone.fraction is alone.count is None
    assert alone.products < 150 < found[0].products


@pytest.mark.parametrize("exact", [0, 500])
@pytest.mark.parametrize("values", [line(0.5, 2, 30), torch.zeros(5), torch.tensor([1.0])], ids=["spd", "zero", "one"])
def test_where_nothing_curves_down_there_is_no_direction(values: Tensor, exact: int) -> None:
    found = curvature.negative_curvature(operator(matrix(values)), exact=exact, generator=seeded())
    assert found.direction is None
    assert found.count.value == pytest.approx(0, abs=1e-9)
    assert found.converged


def test_eigenvalues_within_rounding_of_the_limit_are_told() -> None:
    m = torch.diag(torch.tensor([1.0, -1e-4, 0.5], dtype=F64))
    found = curvature.negative_curvature(operator(m))
    assert found.count.error == 1
    assert not found.count.converged


# ---------------------------------------------------------------- solve

SYSTEMS: dict[str, Tensor] = {
    "spd": line(1, 10, 60),
    "indefinite": torch.cat([line(-5, -1, 30), line(1, 5, 30)]),
    "ill": 10 ** line(-6, 0, 60),
    "singular": torch.cat([torch.zeros(6), line(1, 10, 54)]),
    "zero": torch.zeros(5),
    "identity": torch.ones(5),
    "n = 1": torch.tensor([2.0]),
    "n = 2": torch.tensor([-1.0, 4.0]),
}


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_residual_bound_always_holds(name: str, method: str, dtype: torch.dtype) -> None:
    m = matrix(SYSTEMS[name], dtype)
    n = len(m)
    for seed in range(3):
        b = torch.randn(n, dtype=F64, generator=seeded(seed)).to(dtype)
        for weights in (None, torch.rand(n, generator=seeded(seed)).to(dtype) + 0.5):
            for shift in (0.0, 0.3):
                found = curvature.solve(operator(m), b, method=method, precondition=weights, shift=shift)
                shifted = m.double() + shift * torch.eye(n, dtype=F64)
                residual = float((b.double() - shifted @ found.value.double()).norm() / b.double().norm())
                assert residual <= found.error
                assert residual <= 1.01
                assert found.converged == (found.stopped == "tolerance")
                assert found.converged == (not found.reason)
                if name in ("spd", "identity") or (method == "minres" and name == "indefinite" and not shift):
                    assert found.converged


def test_a_solution_is_that_of_the_dense_system() -> None:
    m, b = matrix(SYSTEMS["indefinite"]), torch.randn(60, dtype=F64, generator=seeded())
    found = curvature.solve(operator(m), b, tol=1e-12)
    torch.testing.assert_close(found.value, torch.linalg.solve(m, b), atol=1e-10, rtol=0)
    shifted = curvature.solve(operator(m), b, tol=1e-12, shift=9.0, method="cg")
    torch.testing.assert_close(shifted.value, torch.linalg.solve(m + 9 * torch.eye(60), b), atol=1e-10, rtol=0)


def test_cg_and_minres_minimize_over_the_krylov_space() -> None:
    """After k products CG has the least error in the norm of A, and MINRES the least residual, of all in the space."""
    m, b = matrix(line(1, 50, 40)), torch.randn(40, dtype=F64, generator=seeded())
    space = torch.linalg.qr(torch.stack([torch.linalg.matrix_power(m, k) @ b for k in range(5)], 1)).Q
    for method, best in (
        ("cg", space @ torch.linalg.solve(space.T @ m @ space, space.T @ b)),
        ("minres", space @ torch.linalg.lstsq(m @ space, b[:, None]).solution[:, 0]),
    ):
        found = curvature.solve(operator(m), b, method=method, most=6)
        assert (found.stopped, found.products) == ("limit", 6)
        torch.testing.assert_close(found.value, best, rtol=1e-8, atol=1e-10)


def test_what_is_too_small_to_be_squared_ends_the_iteration() -> None:
    A = Operator(1, lambda v: 2 * v, dtype=torch.float32)
    for size in (1e-21, 1e-24):  # r M r is the smallest number above zero, and z z is zero; both are zero
        system = System(Counted(A, 0), 0.0, lambda r: 1e-3 * r)
        assert list(cg(system, torch.tensor([size]))) == []
        assert system.stopped == ""


def test_a_preconditioner_saves_products() -> None:
    scales = 10 ** line(0, 4, 80)
    small = matrix(line(-0.3, 0.3, 80))
    m = scales.sqrt()[:, None] * (torch.eye(80, dtype=F64) + small) * scales.sqrt()
    b = torch.randn(80, dtype=F64, generator=seeded())
    weights = 1 / scales
    for method in ("cg", "minres"):
        plain = curvature.solve(operator(m), b, method=method)
        for given in (weights, Operator(80, lambda v: weights[:, None] * v, dtype=F64)):
            better = curvature.solve(operator(m), b, method=method, precondition=given)
            assert better.converged
            assert better.products < plain.products / 3


def test_negative_curvature_met_by_cg_is_reported() -> None:
    m = matrix(torch.cat([torch.tensor([-2.0]), line(1, 5, 40)]))
    b = torch.randn(41, dtype=F64, generator=seeded())
    found = curvature.solve(operator(m), b, method="cg")
    assert (found.stopped, found.converged) == ("negative curvature", False)
    assert float(found.negative @ m @ found.negative) == pytest.approx(found.curvature)
    assert found.curvature < 0
    assert "use method='minres', or a shift" in found.reason
    assert curvature.solve(operator(m), b, method="cg", shift=2.5).negative is None


def test_what_a_singular_operator_does_not_reach_is_left() -> None:
    m = matrix(SYSTEMS["singular"])
    b = torch.randn(60, dtype=F64, generator=seeded())
    found = curvature.solve(operator(m), b)
    assert found.stopped == "singular"
    least = float((b - m @ (torch.linalg.pinv(m, hermitian=True, rtol=1e-9) @ b)).norm() / b.norm())
    assert found.error == pytest.approx(least, rel=1e-6)
    assert curvature.solve(operator(m), m @ b).converged
    assert curvature.solve(operator(m), 0 * b).value.eq(0).all()


# ---------------------------------------------------------------- a network, layer by layer


def test_of_a_network_and_of_its_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(F64)
    model.register_parameter("scale", nn.Parameter(torch.ones(1, dtype=F64)))
    batch = torch.randn(10, 4, dtype=F64), torch.randint(0, 3, (10,))

    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model.scale * model(batch[0]), batch[1])

    H = curvature.hessian(model, loss, batch)
    dense = H.dense()
    values = torch.linalg.eigvalsh(dense)
    found = curvature.top(H, 3, generator=seeded())
    assert ((found.value - values.flip(0)[:3]).abs() <= found.error).all()
    layers = curvature.per_layer(lambda names: curvature.hessian(model, loss, batch, names), model)
    assert list(layers) == ["scale", "0", "2"]
    torch.testing.assert_close(sum(layer.dense().trace() for layer in layers.values()), dense.trace())
    model[2].requires_grad_(False)
    assert list(curvature.per_layer(len, model).items()) == [("scale", 1), ("0", 2)]


ESTIMATORS: dict[str, Callable[..., Any]] = {
    "trace": curvature.trace,
    "hutch++": lambda A, **options: curvature.trace(A, method="hutch++", **options),
    "diagonal": curvature.diagonal,
    "top": curvature.top,
    "bottom": curvature.bottom,
    "spectrum": curvature.spectrum,
    "condition": curvature.condition_number,
    "negative": curvature.negative_curvature,
    "negative, large": lambda A, **options: curvature.negative_curvature(A, exact=0, **options),
    "solve": lambda A, generator=None, **options: curvature.solve(A, torch.ones(40, dtype=F64), **options),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_products_are_counted_and_told_and_the_seed_decides(name: str) -> None:
    m, count, told = matrix(DECAYING), [0], []

    def apply(v: Tensor) -> Tensor:
        count[0] += v.shape[1]
        return m @ v

    def run(seed: int) -> Any:
        A = Operator(40, apply, dtype=F64)
        return ESTIMATORS[name](A, generator=seeded(seed), observe=lambda done, most: told.append((done, most)))

    found = run(0)
    assert found.products == count[0] == told[-1][0]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(0 < done <= most for done, most in told)
    torch.testing.assert_close(run(0).value, found.value, rtol=0, atol=0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_no_operator_or_not_finite_is_refused(name: str) -> None:
    with pytest.raises(RavineError, match=r"estimated of an Operator .*, got Tensor"):
        ESTIMATORS[name](matrix(DECAYING))
    with pytest.raises(RavineError, match=r"product \d+ with the operator is not finite"):
        ESTIMATORS[name](Operator(40, lambda v: v * float("nan"), dtype=F64))


A2, A2F = operator(matrix(line(1, 2, 2))), operator(matrix(line(1, 2, 2), F32))
ONES = torch.ones(2, dtype=F64)
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "k > n": (lambda: curvature.top(A2, 3), "k must be a whole number from 1 to 2, got 3"),
    "k = 0": (lambda: curvature.bottom(A2, 0), "k must be a whole number from 1 to 2, got 0"),
    "k is no number": (lambda: curvature.top(A2, 1.5), "k must be a whole number"),
    "which": (lambda: curvature.top(A2, which="largest"), "unknown which 'largest'"),
    "tol of top": (lambda: curvature.top(A2F, tol=1e-9), r"tol=1e-09 cannot be met in torch.float32, .*: use float64"),
    "tol of solve": (lambda: curvature.solve(A2F, ONES.float(), tol=1e-9), "tol=1e-09 cannot be met in torch.float32"),
    "tol of condition": (lambda: curvature.condition_number(A2F, tol=1e-9), "cannot be met in torch.float32"),
    "tol of negative": (lambda: curvature.negative_curvature(A2F, tol=1e-9), "cannot be met in torch.float32"),
    "tol of trace": (lambda: curvature.trace(A2F, tol=1e-9), "cannot be met in torch.float32"),
    "tol in float64": (lambda: curvature.top(A2, tol=1e-20), "cannot be met in torch.float64, .*: ask for less"),
    "tol = 0": (lambda: curvature.top(A2, tol=0.0), "tol must be a number between 0 and 1, got 0.0"),
    "tol of spectrum": (lambda: curvature.spectrum(A2, tol=2.0), "tol must be a number between 0 and 1"),
    "samples": (lambda: curvature.trace(A2, samples=5), "samples must be a whole number from 6, got 5"),
    "method of trace": (lambda: curvature.trace(A2, method="hutch"), "unknown method 'hutch': did you mean"),
    "method of solve": (lambda: curvature.solve(A2, ONES, method="gmres"), "unknown method 'gmres'"),
    "starts": (lambda: curvature.spectrum(A2, starts=0), "starts must be a whole number from 1, got 0"),
    "steps": (lambda: curvature.spectrum(A2, steps=1), "steps must be a whole number from 2, got 1"),
    "shape of b": (lambda: curvature.solve(A2, torch.ones(3, dtype=F64)), "shapes do not match"),
    "block b": (lambda: curvature.solve(A2, torch.ones(2, 2, dtype=F64)), r"b must be one vector \(2,\)"),
    "dtype of b": (lambda: curvature.solve(A2, torch.ones(2)), "write v.to"),
    "infinite b": (lambda: curvature.solve(A2, ONES / 0), "b and shift must be finite"),
    "shape of the preconditioner": (
        lambda: curvature.solve(A2, ONES, precondition=torch.ones(3)),
        r"precondition must be an operator, or a vector \(2,\) of a diagonal; got \(3,\)",
    ),
    "preconditioner of another size": (
        lambda: curvature.solve(A2, ONES, precondition=Operator(3, lambda v: v, dtype=F64)),
        r"precondition has the shape \(3, 3\)",
    ),
    "negative preconditioner": (lambda: curvature.solve(A2, ONES, precondition=-ONES), "must be positive definite"),
    "negative operator as preconditioner": (
        lambda: curvature.solve(A2, ONES, precondition=-A2), "precondition is not positive definite"
    ),
    "width": (lambda: curvature.spectrum(A2).density(ONES, 0.0), "width must be a positive number"),
    "most": (lambda: curvature.solve(A2, ONES, most=1), "most must be a whole number from 2, got 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    use, message = BAD[name]
    with pytest.raises(RavineError, match=message):
        use()


def test_cg_of_float32_stops_where_squares_of_what_is_left_underflow() -> None:
    """The residual that CG carries on falls far below rounding; nothing of it is an error of the preconditioner's."""
    values = torch.linspace(45, 45.5, 20)
    for size in (1.0, 1e-18, 1e-24):
        b = size * torch.linspace(1, 2, 20)
        system = System(Counted(operator(torch.diag(values)), 0), 0.0, lambda r: r / 10)
        found = [x for x, _ in itertools.islice(cg(system, b), 60)]
        if size > 1e-20:
            torch.testing.assert_close(found[-1], b / values, rtol=1e-5 if size == 1 else 1e-3, atol=0)
        else:
            assert not found
