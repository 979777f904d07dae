"""Fisher matrices and Kronecker factors against dense matrices, made row by row from the definitions in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from ravine import curvature
from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.core.sampling import draw_for

F64 = torch.float64
Pair = tuple[Tensor, Tensor]


class Words(nn.Module):
    """A recurrent layer and a linear one on sequences: outputs (examples, 3, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x)[0]).transpose(1, 2)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 2, stride=2), nn.Flatten(), nn.Linear(8, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (7, 4)),
    "cnn": (cnn, (7, 1, 6, 6)),
    "words": (Words, (7, 5, 4)),
}
CRITERIA: dict[str, tuple[str, nn.Module]] = {
    "cross-entropy": ("categorical", nn.CrossEntropyLoss()),
    "binary": ("bernoulli", nn.BCEWithLogitsLoss()),
    "squared": ("gaussian", nn.MSELoss()),
}


def outputs(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0])


def against(criterion: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    return lambda z, batch: criterion(z, batch[1])


def sampler(criterion: nn.Module) -> Callable[[Any, Any], tuple[Any, int]]:
    draw = draw_for(criterion)
    assert draw is not None

    def sample(z: Any, batch: Any) -> tuple[Any, int]:
        targets, count = draw(z, batch[1])
        return (batch[0], targets), count

    return sample


def made(name: str, loss: str = "cross-entropy") -> tuple[nn.Module, Pair]:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, x = make().to(F64), torch.randn(shape, dtype=F64)
    z = model(x).detach()
    if loss == "squared":
        return model, (x, torch.randn_like(z))
    if loss == "binary":
        return model, (x, torch.randint(0, 2, z.shape).to(F64))
    return model, (x, torch.randint(0, 3, z[:, 0].shape))


def gradient(model: nn.Module, value: Tensor) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def gradient_graph(model: nn.Module, value: Tensor) -> Tensor:
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, list(model.parameters()), create_graph=True)])


def jacobian(model: nn.Module, z: Tensor) -> Tensor:
    return torch.stack([gradient(model, one) for one in z.reshape(-1)])


def dense_gauss_newton(model: nn.Module, criterion: Callable[[Any, Any], Tensor], batch: Pair) -> Tensor:
    z = model(batch[0])
    h = torch.autograd.functional.hessian(lambda z: criterion(z, batch[1]), z.detach()).reshape(z.numel(), -1)
    j = jacobian(model, z)
    return j.T @ h @ j


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------- the true Fisher


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", CRITERIA)
def test_the_true_fisher_is_the_gauss_newton_matrix_of_its_criterion(name: str, loss: str) -> None:
    distribution, criterion = CRITERIA[loss]
    model, batch = made(name, loss)
    found = curvature.fisher(model, outputs, against(criterion), batch, distribution=distribution).dense()
    close(found, dense_gauss_newton(model, criterion, batch))
    close(found, curvature.gauss_newton(model, outputs, against(criterion), batch).dense())


def test_the_true_fisher_is_the_expectation_over_all_targets() -> None:
    """Each of the classes as the target, weighted by its probability: no second derivative."""
    model, (x, y) = made("mlp")
    expected = torch.zeros(43, 43, dtype=F64)
    for one in x:
        logs = model(one).log_softmax(0)
        for log in logs:
            g = gradient(model, log)
            expected += log.exp().detach() * torch.outer(g, g) / len(x)
    close(
        curvature.fisher(model, outputs, against(F.cross_entropy), (x, y), distribution="categorical").dense(), expected
    )


@pytest.mark.parametrize(("name", "loss"), [*(("mlp", loss) for loss in CRITERIA), ("words", "cross-entropy")])
def test_draws_have_the_true_fisher_as_their_mean(name: str, loss: str) -> None:
    """The distance falls as 1 / √draws."""
    distribution, criterion = CRITERIA[loss]
    model, batch = made(name, loss)
    exact = curvature.fisher(model, outputs, against(criterion), batch, distribution=distribution).dense()
    apart = []
    for draws in (10, 600):
        drawn = curvature.fisher(
            model, outputs, against(criterion), batch, sample=sampler(criterion), draws=draws,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        apart.append(float((drawn.dense() - exact).norm() / exact.norm()))
    assert apart[1] < 0.08
    assert apart[1] < 0.25 * apart[0]


def test_draws_are_the_generators_and_stay_the_same() -> None:
    model, batch = made("mlp")
    criterion = nn.CrossEntropyLoss()
    ragged = [tree_map(lambda t: t[:4], batch), tree_map(lambda t: t[4:], batch)]

    def drawn(seed: int, data: Any) -> curvature.fisher:
        generator = torch.Generator().manual_seed(seed)
        return curvature.fisher(
            model, outputs, against(criterion), data, sample=sampler(criterion), generator=generator
        )

    before = torch.get_rng_state()
    for data in (batch, ragged):
        one = drawn(1, data)
        first = one.dense()
        assert torch.equal(first, one.dense())
        assert torch.equal(first, drawn(1, data).dense())
        assert not torch.equal(first, drawn(2, data).dense())
        torch.testing.assert_close(first, first.T)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loss", CRITERIA)
def test_the_hessian_of_torchs_criteria(loss: str) -> None:
    """torch 2.13 linearizes the gradient of `mse_loss` to a crash of the process unless prevented."""
    criterion = CRITERIA[loss][1]
    model, batch = made("mlp", loss)
    g = gradient_graph(model, criterion(model(batch[0]), batch[1]))
    found = curvature.hessian(model, lambda model, batch: criterion(model(batch[0]), batch[1]), batch)
    close(found.dense(), torch.stack([gradient(model, one) for one in g]))


# ---------------------------------------------------------------- the empirical Fisher


@pytest.mark.parametrize("name", MODELS)
def test_the_empirical_fisher_is_the_sum_of_outer_products(name: str) -> None:
    model, (x, y) = made(name)
    rows = torch.stack([gradient(model, F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])) for i in range(len(x))])
    expected = rows.T @ rows / len(x)
    ragged = [(x[:3], y[:3]), (x[3:6], y[3:6]), (x[6:], y[6:])]
    for data in ((x, y), ragged):
        close(curvature.fisher(model, outputs, against(F.cross_entropy), data, kind="empirical").dense(), expected)
