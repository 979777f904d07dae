"""Matrix rules: equal to their papers, to torch's Muon as far as it goes, and steady where a decomposition fails."""

import math
from typing import Any

import pytest
import reference_matrix
import torch
from test_rules import EVERY, elsewhere
from torch import Tensor, nn

import ravine
from ravine.core.composition import make_rule
from ravine.core.rule import Rule
from ravine.core.spec import parse_links
from ravine.engine.chance import normal_for
from ravine.rules import SOAP, Momentum, Orthogonalize, Shampoo, chain, muon
from ravine.rules.matrices import along, completed, eigen

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
MATRICES = [(5, 5), (4, 11), (11, 4), (6, 5), (6, 3, 2, 2)]
SPECS = {
    "orthogonalize": MATRICES,
    "orthogonalize(steps=8, adjust='match_rms_adamw')": MATRICES,
    "orthogonalize(steps=1, adjust='none')": MATRICES,
    "orthogonalize(method='exact')": MATRICES,
    "muon": MATRICES,
    "muon(nesterov=false, adjust='match_rms_adamw', steps=4)": MATRICES,
    "soap": [*MATRICES, (7,), (1, 5), ()],
    "soap(every=1)": [(5, 5), (6, 5), (7,)],  # before QR has a matrix of full rank, what it returns is up to rounding
    "soap(every=3)": MATRICES,
    "soap(every=5, max_size=5, vectors=true)": [*MATRICES, (5,), (7,)],
    "shampoo": [*MATRICES, (7,), (1, 5), ()],
    "shampoo(every=1, block_size=3, beta2=1)": [*MATRICES, (7,)],
    "shampoo(every=3, grafting='none', root=2)": [*MATRICES, (7,)],
    "shampoo(every=2, grafting='sgd', block_size=0)": MATRICES,
    "shampoo(every=2, grafting='rmsprop', block_size=2)": MATRICES,
    "psgd": [*MATRICES, (7,), (1, 5), ()],
    "psgd(every=3, flat=4, max_size=5)": [*MATRICES, (7,)],
}
DECOMPOSING = ("soap", "shampoo", "orthogonalize(method='exact')")


def written(spec: str) -> Rule:
    return EVERY[spec] if spec in EVERY else make_rule(parse_links(spec))


def choices(rule: Rule) -> dict[str, Any]:
    """All hyperparameters of all links."""
    return {key: value for link in rule.links for key, value in link.hyperparameters().items()}


def drawn(shape: tuple[int, ...], step: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step), dtype=F64).to(dtype)


def test_every_matrix_rule_has_a_reference() -> None:
    names = {name for name, rule in EVERY.items() if rule.scope == "matrix"}
    assert names == set(reference_matrix.RULES) == {spec.split("(")[0] for spec in SPECS}


@pytest.mark.parametrize(("spec", "shape"), [(spec, shape) for spec, shapes in SPECS.items() for shape in shapes])
def test_every_matrix_rule_equals_the_paper(spec: str, shape: tuple[int, ...]) -> None:
    tolerance = 1e-8 if spec.startswith(DECOMPOSING) else 1e-12
    for rule in (written(spec), elsewhere(written(spec))):
        p = nn.Parameter(drawn(shape, 99))
        optimizer = ravine.Optimizer([p], rule, 1.0)
        gradients, given = [], choices(rule)
        for t in range(1, 14):
            p.grad = 10.0 ** (t % 3 - 1) * (drawn(shape, t) + 0.5)
            before, gradients = p.detach().clone(), [*gradients, p.grad.numpy().copy()]
            if spec.startswith("psgd"):
                given["noise"] = [normal_for(before, (0, 0, 0, 0), i).numpy() for i in range(1, t + 1)]
            expected = reference_matrix.RULES[spec.split("(")[0]](gradients, before.numpy(), **given)
            optimizer.step()
            found = before - p.detach()
            torch.testing.assert_close(found, torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- Muon


def spectra(rows: int, columns: int) -> dict[str, Tensor]:
    """Matrices whose singular values are like noise, decay slowly, decay fast, and have one that sticks out."""
    small = min(rows, columns)
    u, v = torch.linalg.qr(drawn((rows, small), 1))[0], torch.linalg.qr(drawn((columns, small), 2))[0]
    decays = {
        "slow": torch.logspace(0, -2, small, dtype=F64),
        "fast": torch.logspace(0, -4, small, dtype=F64),
        "spike": torch.cat([torch.ones(1, dtype=F64), torch.full((small - 1,), 0.01, dtype=F64)]),
    }
    return {"noise": drawn((rows, columns), 3)} | {name: (u * s) @ v.T for name, s in decays.items()}


def distance(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b).norm() / b.norm()).item()


def step_of(rule: Rule, g: Tensor) -> Tensor:
    return rule.move_alone(g, torch.zeros_like(g), 1, rule.start(g), 1.0)[0]


def torchs(g: Tensor, **options: Any) -> Tensor:
    p = nn.Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    torch.optim.Muon([p], lr=1.0, momentum=0.0, weight_decay=0.0, **options).step()
    return -p.detach()


@pytest.mark.parametrize("shape", [(96, 96), (96, 384), (384, 96), (96, 160)])
def test_low_precision_stays_within_the_error_of_the_iteration(shape: tuple[int, int]) -> None:
    """Products in bf16 come at most twice as far from the exact iteration as torch's, and that is nearer than it is to
    the orthogonal matrix; in float32 they are a thousand times nearer."""
    for name, matrix in spectra(*shape).items():
        g = matrix.float()
        exact = step_of(Orthogonalize(adjust="none"), g.double())
        ours = distance(step_of(Orthogonalize(adjust="none", precision="bfloat16"), g), exact)
        scale = math.sqrt(max(1, shape[0] / shape[1]))
        theirs = distance(torchs(g) / scale, exact)
        polar = distance(exact, step_of(Orthogonalize(method="exact", adjust="none"), g.double()))
        assert ours <= max(2 * theirs, 0.01), name
        assert ours <= polar / 2, name
        assert distance(step_of(Orthogonalize(adjust="none", precision="float32"), g), exact) <= 1e-4, name


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(32, 32), (40, 32), (32, 96), (96, 32)])
def test_muon_walks_with_torchs(shape: tuple[int, int], adjust: str) -> None:
    """30 steps end within a hundredth of the way of torch's and of the exact ones, and within rounding of torch's where
    matrices are almost square: there both multiply the same."""
    start, ends = drawn(shape, 0), {}
    makes = {
        "exact": (F64, lambda p: ravine.Optimizer(p, muon(adjust=adjust), 0.02)),
        "ours": (F32, lambda p: ravine.Optimizer(p, muon(adjust=adjust, precision="bfloat16"), 0.02)),
        "torch": (F32, lambda p: torch.optim.Muon(p, lr=0.02, adjust_lr_fn=adjust)),
    }
    for name, (dtype, make) in makes.items():
        p = nn.Parameter(start.to(dtype, copy=True))
        optimizer = make([p])
        for t in range(30):
            p.grad = drawn(shape, t, dtype) + 0.3 * start.to(dtype)
            optimizer.step()
        ends[name] = p.detach().double() - start
    assert distance(ends["ours"], ends["exact"]) <= 0.01
    assert distance(ends["ours"], ends["torch"]) <= (0.01 if max(shape) >= 1.5 * min(shape) else 2e-5)


def test_the_polar_express_comes_to_the_orthogonal_matrix() -> None:
    for name, matrix in spectra(48, 64).items():
        steps = 11 if name == "fast" else 8
        x = step_of(Orthogonalize(steps=steps, method="polar_express", adjust="none"), matrix)
        worst = (torch.linalg.svdvals(x) - 1).abs().max().item()
        assert worst <= (0.05 if name == "fast" else 1e-6), (name, worst)
        assert distance(x, step_of(Orthogonalize(method="exact", adjust="none"), matrix)) <= worst + 1e-9


def test_the_exact_step_leaves_out_directions_that_are_rounding() -> None:
    matrix = drawn((6, 2), 1) @ drawn((2, 5), 2)
    values = torch.linalg.svdvals(step_of(Orthogonalize(method="exact", adjust="none"), matrix))
    torch.testing.assert_close(values, torch.tensor([1, 1, 0, 0, 0], dtype=F64))
    nan = matrix.clone()
    nan[0, 0] = torch.nan
    for method in ("exact", "newton_schulz", "polar_express"):
        assert step_of(Orthogonalize(method=method), nan).isnan().all()


def test_a_kernel_is_a_matrix_of_its_outputs() -> None:
    kernel = drawn((8, 3, 3, 3), 1)
    for rule in (Orthogonalize(), muon.rule, Shampoo()):
        found, flat = step_of(rule, kernel), step_of(rule, kernel.flatten(1))
        torch.testing.assert_close(found.flatten(1), flat, rtol=1e-12, atol=1e-12)


def test_rules_say_what_they_cannot_move() -> None:
    vector, table = torch.zeros(7), torch.zeros(9000, 2)
    assert Orthogonalize().refuses(vector) == "it is a vector, and there is nothing to orthogonalize"
    assert Orthogonalize().refuses(table) == Shampoo().refuses(table) == Shampoo(block_size=0).refuses(vector) == ""
    found = Shampoo(block_size=0).refuses(table)
    assert found == "9000 rows or columns are more than max_size=8192, and block_size=0 cuts no blocks"
    for name in ("soap", "psgd"):
        assert EVERY[name].refuses(vector) == EVERY[name].refuses(table) == ""


def test_muon_is_written_with_the_choices_of_its_links() -> None:
    rule = make_rule(parse_links("muon(momentum=0.9, nesterov=false, adjust='none', weight_decay=0)"))
    links = ["gradient_average(momentum=0.9, nesterov=false)", "orthogonalize(adjust='none')", "decay(weight_decay=0)"]
    assert str(rule) == " + ".join(links)
    assert muon.rule.lr == 0.02
    assert chain(Momentum(), Orthogonalize()).scope == "matrix"


# ---------------------------------------------------------------- decompositions


def test_products_along_a_dimension() -> None:
    x, q = drawn((3, 4, 5), 1), drawn((4, 4), 2)
    torch.testing.assert_close(along(x, q, 1), torch.einsum("aic,ij->ajc", x, q))
    torch.testing.assert_close(along(x, q[:3, :3], 0), torch.einsum("ibc,ij->jbc", x, q[:3, :3]))


def test_a_basis_is_completed_by_what_is_known_of_it() -> None:
    """Eigenvectors of a matrix without full rank: those of zero depend on the others, not on rounding."""
    x = drawn((9, 4), 1)
    bases = []
    for noise in (0.0, 1e-15):
        values, vectors = eigen(x @ x.mT + noise * drawn((9, 9), 2))
        bases.append(completed(vectors.flip(-1), values.flip(-1)))
    torch.testing.assert_close(bases[0].mT @ bases[0], torch.eye(9, dtype=F64))
    torch.testing.assert_close(bases[0], bases[1], rtol=0, atol=1e-12)
    assert torch.equal(completed(torch.eye(3), torch.zeros(3)), torch.eye(3))


def test_eigenvectors_that_float32_does_not_find_are_sought_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], torch.linalg.eigh

    def failing(a: Tensor) -> Any:
        asked.append(a.dtype)
        if a.dtype == F32:
            raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
        return real(a)

    x = drawn((5, 5), 1, F32)
    expected = eigen(x @ x.mT)[0]
    monkeypatch.setattr(torch.linalg, "eigh", failing)
    found = eigen(x @ x.mT)
    assert asked == [F32, F64]
    assert found[0].dtype == found[1].dtype == F32
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", [SOAP(every=1), Shampoo(every=1, grafting="none")], ids=lambda rule: rule.name)
def test_the_last_good_matrix_is_kept_where_a_covariance_overflows(rule: Rule) -> None:
    """1e30 squared is infinite in float32, and eigenvectors of infinity there are none in float64 either."""
    p = torch.zeros(4, 3)
    state = rule.start(p)
    kept = ("q0", "q1") if rule.name == "soap" else ("l_root", "r_root")
    for t in (1, 2):
        _, _, state = rule.move_alone(drawn((4, 3), t, F32), p, t, state, 0.1)
    good = state
    for t, size in ((3, 1e30), (4, 1.0), (5, 1.0)):
        u, _, state = rule.move_alone(size * drawn((4, 3), t, F32), p, t, state, 0.1)
        good = state if t == 3 and rule.name == "soap" else good  # its bases are older than the gradient
        assert not state["l" if rule.name == "shampoo" else "l0"].isfinite().all()
        for key in kept:
            assert good[key].isfinite().all(), key
            assert torch.equal(state[key], good[key]), key
    assert u.isfinite().all() or rule.name == "soap"  # whose v has overflowed as well, as Adam's would


def test_soap_keeps_all_that_belongs_to_a_basis_that_it_keeps() -> None:
    rule, p = SOAP(every=2), torch.zeros(4, 3, dtype=F64)
    state = rule.start(p)
    for t in (1, 2):
        _, _, state = rule.move_alone(drawn((4, 3), t), p, t, state, 0.1)
    fresh = rule.refresh(drawn((4, 3), 3), p, 3, **state | {"l0": state["l0"] * torch.nan})
    assert torch.equal(fresh["q0"], state["q0"])
    assert not torch.equal(fresh["q1"], state["q1"])
    order = (state["q1"] * (state["l1"] @ state["q1"])).sum(0).argsort(descending=True)
    assert torch.equal(fresh["v"], state["v"][:, order])


def test_psgd_whitens() -> None:
    """Gradients with variances from 0.01 to 10 by row come out with the variance 1 to within a factor of 1.5."""
    rule = make_rule(parse_links("psgd(momentum=0.0, flat=3000)"))
    scales = torch.logspace(-1, 0.5, 6, dtype=F64).unsqueeze(1)
    p = torch.zeros(6, 4, dtype=F64)
    state, seen = rule.start(p), []
    for t in range(1, 1501):
        noise = drawn((6, 4), 10_000 + t)
        u, _, state = rule.move(scales * drawn((6, 4), t), p, t, state, 0.1, None, {"noise": lambda _, n=noise: n})
        seen.append(u)
    sizes = torch.stack(seen[500:]).square().mean((0, 2))
    assert (sizes.log().abs() <= math.log(1.5)).all(), sizes
