"""Curvature is right or refused: fused weight norm, functions with one derivative, chance, cuts, stale products."""

import collections
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ravine import curvature, solvers
from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.drawing import plot_spectrum
from ravine.engine.twice import twice_differentiable

F64 = torch.float64
X, Y = torch.randn(12, 4, dtype=F64, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
BATCH = (X, Y)


def loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def forward(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0])


def criterion(z: Tensor, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(z, batch[1])


def small(*between: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), *between, nn.Linear(5, 3)).to(F64)


def by_differences(model: nn.Module, batch: Any, of: Any = loss, step: float = 1e-5) -> Tensor:
    """The Hessian from central differences of the first derivative, which is right where the second is not."""
    ps = list(model.parameters())
    at = torch.cat([p.detach().reshape(-1) for p in ps])

    def gradient(flat: Tensor) -> Tensor:
        with torch.no_grad():
            for p, part in zip(ps, flat.split([p.numel() for p in ps]), strict=True):
                p.copy_(part.view_as(p))
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(of(model, batch), ps)])

    rows = [(gradient(at + step * e) - gradient(at - step * e)) / (2 * step) for e in torch.eye(len(at), dtype=F64)]
    gradient(at)
    return torch.stack(rows)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


class Once(torch.autograd.Function):
    """x², with a backward pass that is marked as differentiable once only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g * ctx.saved_tensors[0]


class Crooked(torch.autograd.Function):
    """x w: its first derivative is right, and the derivative of its backward pass forgets one of its parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g * w, g * x.detach()


class Scaled(nn.Module):
    """A weight for each feature, by the crooked function."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        return Crooked.apply(x, self.w)


NORMED = {
    "parametrization": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)),
    "old": lambda: nn.utils.weight_norm(nn.Linear(4, 5)),
    "over all": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5), dim=None),
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 5, 2)), nn.Flatten()
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("name", NORMED)
def test_weight_norm_is_taken_apart(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(NORMED[name](), nn.Tanh(), nn.Linear(5, 3)).to(F64)
    H = curvature.hessian(model, loss, BATCH)
    order = torch.cat([torch.arange(H.size)[H.slices[n]] for n, _ in model.named_parameters()])
    expected = by_differences(model, BATCH)
    assert apart(H.dense()[order][:, order], expected) < 1e-7
    assert apart(curvature.hessian(model, loss, [BATCH, BATCH]).dense()[order][:, order], expected) < 1e-7


def test_weight_norm_is_the_same_inside() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)).to(F64)
    plain = layer(X)
    with twice_differentiable():
        torch.testing.assert_close(layer(X), plain)


def test_solvers_take_weight_norm_apart() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)).to(F64)
    expected = by_differences(model, BATCH)
    problem = solvers.closure.ClosureProblem(list(model.named_parameters()), True, "test")
    problem.closure = lambda: loss(model, BATCH)
    assert apart(problem.hessian(problem.evaluate(problem.read())).dense(), expected) < 1e-7


def test_an_asymmetric_product_is_refused() -> None:
    model = small(Scaled())
    with pytest.raises(RavineError, match=r"second derivative of some operation .* is wrong: .*params="):
        curvature.hessian(model, loss, BATCH) @ torch.ones(48, dtype=F64)
    with pytest.raises(RavineError, match="second derivative of some operation"):
        curvature.of_function(lambda x: Crooked.apply(x[:3].sin(), x[3:]).pow(2).sum(), torch.arange(6.0)).dense()


def test_symmetry_takes_two_products_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    inner = torch.autograd._engine_run_backward

    def run(*args: Any, **kwargs: Any) -> Any:
        counted.append(1)
        return inner(*args, **kwargs)

    H = curvature.hessian(small(), loss, BATCH)
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", run)
    v = torch.ones(H.size, dtype=F64)
    H @ v
    assert len(counted) == 4  # the gradient, two, and the product itself
    H @ v
    assert len(counted) == 5
    H = curvature.hessian(small(), loss, [BATCH, BATCH, BATCH])
    counted.clear()
    H @ v
    assert len(counted) == 8  # three gradients, two for the first batch, three products


def test_kinks_and_zero_curvature_are_no_asymmetry() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, F64):
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)
        batch = (X.to(dtype), Y)
        assert torch.isfinite(curvature.hessian(model, loss, batch) @ torch.ones(43, dtype=dtype)).all()
        linear = curvature.hessian(nn.Linear(4, 3).to(dtype), lambda m, b: m(b[0]).mean(), batch)
        assert not (linear @ torch.ones(15, dtype=dtype)).any()
        with torch.no_grad():
            model[2].bias[:] = torch.tensor([200.0, 0.0, 0.0])
        H = curvature.hessian(model, lambda m, b: nn.functional.cross_entropy(m(b[0]), 0 * b[1]), batch)
        assert float((H @ torch.ones(43, dtype=dtype)).abs().max()) < 1e-4


def test_once_differentiable_is_found_before_any_product() -> None:
    model = small()
    for of in (
        lambda m, b: Once.apply(m(b[0])).mean(),
        lambda m, b: nn.functional.cross_entropy(Once.apply(m(b[0])), b[1]),
    ):
        with pytest.raises(RavineError, match="the function Once is marked with @once_differentiable"):
            curvature.hessian(model, of, BATCH)
    with pytest.raises(RavineError, match="the function Once"):
        curvature.gauss_newton(model, forward, lambda z, b: Once.apply(z).mean(), BATCH)
    with pytest.raises(RavineError, match="the function Once"):
        curvature.of_function(lambda x: Once.apply(x).sum(), torch.ones(3))
    problem = solvers.closure.ClosureProblem(list(model.named_parameters()), True, "test")
    problem.closure = lambda: Once.apply(model(X)).mean()
    with pytest.raises(RavineError, match="the function Once"):
        problem.evaluate(problem.read())
    curvature.kfac(model, forward, criterion, BATCH)  # asks for one derivative of the model only


def test_dropout_that_does_not_show_is_refused() -> None:
    model = small(nn.Dropout(0.5))
    with torch.no_grad():
        model[3].weight.zero_()
    state = torch.get_rng_state()
    with pytest.raises(RavineError, match=r"draws random numbers, .*Drawing at random: 2 \(Dropout\); call"):
        curvature.hessian(model, loss, BATCH)
    with pytest.raises(RavineError, match=r"draws random numbers.*Something in the model or the loss"):
        curvature.hessian(small(), lambda m, b: loss(m, b) + 0 * torch.rand(()), BATCH)
    with pytest.raises(RavineError, match="f draws random numbers"):
        curvature.of_function(lambda x: (x**2).sum() * torch.rand(()), torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)
    curvature.hessian(model.eval(), loss, BATCH)


def test_dropout_whose_seed_the_loss_sets_is_no_chance() -> None:
    def seeded(model: nn.Module, batch: Any) -> Tensor:
        torch.manual_seed(3)
        return loss(model, batch)

    curvature.hessian(small(nn.Dropout(0.5)), seeded, BATCH)


CUT = {
    "detach": lambda m, b: loss(m, b).detach(),
    "no_grad": torch.no_grad()(loss),
    "argmax": lambda m, b: (m(b[0]).argmax(1) == b[1]).to(F64).mean(),
    "other leaves": lambda m, b: torch.ones((), dtype=F64, requires_grad=True) * loss(m, b).detach(),
}


@pytest.mark.parametrize("name", CUT)
def test_a_loss_cut_off_is_refused(name: str) -> None:
    with pytest.raises(RavineError, match="does not depend on the chosen parameters"):
        curvature.hessian(small(), CUT[name], BATCH)


def test_other_cuts() -> None:
    with pytest.raises(RavineError, match="does not depend on the chosen parameters"):
        curvature.hessian(small(), lambda m, b: loss(m[2], (m[1](m[0](b[0])).detach(), b[1])), BATCH, params="0")
    with pytest.raises(RavineError, match="does not depend on the chosen parameters"):
        curvature.gauss_newton(small(), lambda m, b: m(b[0]).detach(), criterion, BATCH)
    with pytest.raises(RavineError, match="does not depend on the chosen parameters"):
        curvature.of_function(lambda x: torch.tensor(1.0), torch.ones(3))


class Counts(nn.Module):
    """Counts its calls in three buffers: in place, by another tensor, and by one that was not there before."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("inside", torch.zeros(()))
        self.register_buffer("anew", torch.zeros(()))
        self.register_buffer("none", None)

    def forward(self, x: Tensor) -> Tensor:
        self.inside += 1
        self.anew = self.anew + 1
        self.none = torch.ones(())
        return self.layer(x)


def test_buffers_are_put_back() -> None:
    model = Counts().to(F64)
    anew = model.anew
    H = curvature.hessian(model, loss, BATCH)
    H @ torch.ones(H.size, dtype=F64)
    assert model.anew is anew
    assert model.none is None
    assert float(model.inside) == float(model.anew) == 0


WRITES = {
    "data": lambda m: m[0].weight.data.mul_(2),
    "new data": lambda m: setattr(m[0].weight, "data", m[0].weight.data * 2),
    "in place": lambda m: torch.no_grad()(m[0].weight.mul_)(2),
    "another": lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight.detach() * 2)),
}


@pytest.mark.parametrize("name", WRITES)
def test_products_are_of_the_parameters_as_they_are(name: str) -> None:
    model = small()
    H = curvature.hessian(model, loss, BATCH)
    v = torch.ones(H.size, dtype=F64)
    before = H @ v
    WRITES[name](model)
    expected = curvature.hessian(model, loss, BATCH) @ v
    assert apart(before, expected) > 0.1
    torch.testing.assert_close(H @ v, expected)


def test_a_parameter_of_another_shape_is_refused() -> None:
    model = small()
    H = curvature.hessian(model, loss, BATCH)
    model[0] = nn.Linear(4, 6).to(F64)
    model.append(nn.Identity())
    H @ torch.ones(H.size, dtype=F64)  # of the module that is gone, as it was
    model[2].weight = nn.Parameter(torch.ones(3, 6, dtype=F64))
    with pytest.raises(RavineError, match=r"the parameter 2.weight is \(3, 6\).* make it anew"):
        H @ torch.ones(H.size, dtype=F64)


class OnePass:
    """Batches whose iterator is always the same."""

    def __init__(self) -> None:
        self.batches = iter([(X[:6], Y[:6]), (X[6:], Y[6:])])

    def __iter__(self) -> Iterator[Any]:
        return self.batches


BAD: dict[str, tuple[Any, str]] = {
    "one pass": (lambda: curvature.hessian(small(), loss, OnePass()), r"none the next time: .*only once"),
    "one pass, kfac": (lambda: curvature.kfac(small(), forward, criterion, OnePass()), "only once"),
    "size": (lambda: curvature.hessian(small(), loss, BATCH, size=12), "size must be a function"),
    "size of 0": (lambda: curvature.hessian(small(), loss, BATCH, size=lambda b: 0), "1 at least, and it says 0"),
    "size -1": (lambda: curvature.hessian(small(), loss, [BATCH], size=lambda b: -1), "1 at least, and it says -1"),
    "size 1.5": (lambda: curvature.hessian(small(), loss, BATCH, size=lambda b: 1.5), "it says 1.5"),
    "loss": (lambda: curvature.hessian(small(), None, BATCH), "the loss must be a function"),
    "f": (lambda: curvature.of_function(3, torch.ones(3)), "f must be a function"),
    "tensors": (
        lambda: curvature.hessian(small(), lambda m, b: m(b).mean(), list(X.split(5))),
        r"leading dimensions are \[2, 5\].*a list that holds tensors is one batch.*\(tensor,\)",
    ),
    "equal tensors": (
        lambda: curvature.hessian(small(), lambda m, b: m(b).mean(), [X[:6], X[6:]]),
        r"the loss fails on the batch .*a list that holds tensors is one batch",
    ),
    "no columns": (
        lambda: curvature.hessian(small(), loss, BATCH) @ torch.ones(43, 0, dtype=F64),
        "a block of no vectors has no product",
    ),
    "f, no columns": (lambda: curvature.of_function(torch.sum, torch.ones(3)) @ torch.ones(3, 0), "no vectors"),
    "complex": (
        lambda: curvature.hessian(
            nn.ParameterDict({"w": torch.ones(4, dtype=torch.complex64)}), lambda m, b: (b @ m["w"].abs()).mean(), X
        ),
        "real parameters, and w is torch.complex64",
    ),
    "not finite": (
        lambda: (
            curvature.hessian(small(), lambda m, b: loss(m, b) + (m[0].weight * 0).abs().sum().sqrt(), BATCH)
            @ torch.ones(43, dtype=F64)
        ),
        "second derivative is not finite here, though the loss is",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    make, said = BAD[name]
    with pytest.raises(RavineError, match=said):
        make()


def test_mappings_are_batches() -> None:
    def of(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])

    expected = curvature.hessian(small(), loss, BATCH).dense()
    one = collections.UserDict(x=X, y=Y)
    torch.testing.assert_close(curvature.hessian(small(), of, one).dense(), expected)
    parts = [collections.UserDict(x=X[:5], y=Y[:5]), collections.UserDict(x=X[5:], y=Y[5:])]
    torch.testing.assert_close(curvature.hessian(small(), of, parts).dense(), expected)


def test_a_single_parameter() -> None:
    model = small()
    H = curvature.hessian(model, loss, BATCH, params=model[0].weight)
    torch.testing.assert_close(H.dense(), curvature.hessian(model, loss, BATCH, params="0.weight").dense())


def test_a_function_with_attention() -> None:
    x = torch.randn(1, 1, 4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))

    def f(x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x).pow(2).sum()

    def plain(x: Tensor) -> Tensor:
        return ((x @ x.mT / math.sqrt(3)).softmax(-1) @ x).pow(2).sum()

    expected = torch.autograd.functional.hessian(plain, x).reshape(12, 12)
    torch.testing.assert_close(curvature.of_function(f, x).dense(), expected)


def test_sums_and_quotients() -> None:
    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    A = Operator(2, lambda v: a @ v)
    assert torch.equal(sum([A, A, A]).dense(), 3 * a)
    assert torch.equal((A / 2).dense(), a / 2)
    with pytest.raises(RavineError, match="divided by 0"):
        A / 0
    with pytest.raises(TypeError):
        1 + A


def test_the_axis_is_not_finer_than_the_resolution() -> None:
    d = torch.linspace(-1, 4, 600, dtype=F64)
    A = Operator(600, lambda v: d[:, None] * v, dtype=F64)
    found = curvature.spectrum(A, starts=1, steps=20, generator=torch.Generator().manual_seed(0))
    axes = plot_spectrum(found).axes[1]
    assert found.resolution > 4e-4
    assert axes.xaxis.get_transform().linthresh == found.resolution
    assert axes.get_xlabel() == f"eigenvalue (linear up to {found.resolution:.2g}, the resolution)"
