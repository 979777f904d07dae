"""Fisher matrices and Kronecker factors against dense matrices, made row by row from the definitions in float64."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

import ravine
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


@pytest.mark.parametrize(
    ("name", "loss"), [*((name, loss) for name in ("mlp", "cnn") for loss in CRITERIA), ("words", "cross-entropy")]
)
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


def test_outputs_may_be_several_tensors() -> None:
    model, (x, y) = made("mlp")

    def both(z: Any, batch: Any) -> Tensor:
        return F.cross_entropy(torch.cat([z["first"], z["rest"]], 1), batch[1])

    def split(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        z = model(batch[0])
        return {"first": z[:, :1], "rest": z[:, 1:]}

    for make in (curvature.kfac, lambda *a: curvature.fisher(*a, kind="empirical")):
        close(make(model, split, both, (x, y)).dense(), make(model, outputs, against(F.cross_entropy), (x, y)).dense())


# ---------------------------------------------------------------- K-FAC


def kfac(model: nn.Module, data: Any, loss: str = "cross-entropy", **options: Any) -> Any:
    return curvature.kfac(model, outputs, against(CRITERIA[loss][1]), data, **options)


def ekfac(model: nn.Module, data: Any, loss: str = "cross-entropy", **options: Any) -> Any:
    return curvature.ekfac(model, outputs, against(CRITERIA[loss][1]), data, **options)


def in_parts(batch: Pair) -> list[Pair]:
    return [(batch[0][i : i + 3], batch[1][i : i + 3]) for i in range(0, len(batch[0]), 3)]


def block(matrix: Tensor, operator: Any, name: str) -> Tensor:
    """A layer's block of a dense matrix, its coordinates in the order of (inputs, outputs), the bias last."""
    place = operator.layers[name].place.T.reshape(-1)
    return matrix[place][:, place]


@pytest.mark.parametrize("make", [kfac, ekfac])
@pytest.mark.parametrize("loss", CRITERIA)
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(2, 3, (3, 2)), nn.Conv1d(2, 3, 3, bias=False)])
def test_it_is_exact_for_one_layer_one_example_and_one_position(layer: nn.Module, loss: str, make: Any) -> None:
    torch.manual_seed(0)
    shape = {nn.Linear: (1, 4), nn.Conv2d: (1, 2, 3, 2), nn.Conv1d: (1, 2, 3)}[type(layer)]
    model = nn.Sequential(layer, nn.Flatten()).to(F64)
    y = torch.tensor([1]) if loss == "cross-entropy" else torch.rand(1, 3, dtype=F64)
    batch = (torch.randn(shape, dtype=F64), y)
    close(make(model, batch, loss).dense(), dense_gauss_newton(model, CRITERIA[loss][1], batch))


@pytest.mark.parametrize("make", [kfac, ekfac])
def test_blocks_of_a_deep_linear_net_under_squared_error_are_those_of_the_true_fisher(make: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2, bias=False), nn.Linear(2, 3)).to(F64)
    batch = (torch.randn(10, 4, dtype=F64), torch.randn(10, 3, dtype=F64))
    exact = dense_gauss_newton(model, nn.MSELoss(), batch)
    for data in (batch, in_parts(batch)):
        made = make(model, data, "squared")
        whole = torch.zeros_like(exact)
        for part in made.layers.values():
            place = part.place.reshape(-1)
            whole[place[:, None], place] = exact[place[:, None], place]
        close(made.dense(), whole)
        assert len(made.layers) == 3


def naive_factors(model: nn.Sequential, at: int, batch: Pair, patches: Callable[[Tensor], Tensor]) -> Pair:
    """A and G of the layer at a place in a sequence, an example at a time, by the Jacobian of what follows the layer.

    patches: from one example's inputs to the vectors that its weights are multiplied with, one for each position.
    """
    x, y = batch
    A, G, count = torch.tensor(0.0, dtype=F64), torch.tensor(0.0, dtype=F64), 0
    for i in range(len(x)):
        a = model[:at](x[i : i + 1]).detach()
        for vector in patches(a[0]):
            longer = torch.cat([vector, torch.ones(1, dtype=F64)])
            A, count = A + torch.outer(longer, longer), count + 1
        s = model[at](a).detach()
        z = model[at + 1 :](s).detach()
        h = torch.autograd.functional.hessian(lambda z: F.cross_entropy(z, y[i : i + 1]), z)  # noqa: B023 - used at once
        j = torch.autograd.functional.jacobian(model[at + 1 :], s).reshape(
            z.numel(), s.shape[1], -1
        )  # (z, out, position)
        for t in range(j.shape[2]):
            G = G + j[:, :, t].T @ h.reshape(z.numel(), -1) @ j[:, :, t] / len(x)
    return A / count, G


@pytest.mark.parametrize("data", [lambda batch: batch, in_parts], ids=["one batch", "ragged"])
def test_its_factors_are_the_papers(data: Callable[[Pair], Any]) -> None:
    model, batch = made("mlp")
    found = kfac(model, data(batch))
    for at in (0, 2):
        A, G = naive_factors(model, at, batch, lambda a: a[None])
        close(found.layers[str(at)].A, A)
        close(found.layers[str(at)].G, G)
        close(block(found.dense(), found, str(at)), torch.kron(A, G))
    assert found.left_out == {}
    assert not found.dense()[:25, 25:].any()


def test_its_factors_of_convolutions_are_the_papers() -> None:
    """Ω and Γ of Grosse & Martens 2016, up to the number of positions, which goes from one to the other."""
    model, batch = made("cnn")
    found = kfac(model, batch)

    def first(a: Tensor) -> Tensor:
        return torch.stack([a[:, i : i + 3, j : j + 3].reshape(-1) for i in range(4) for j in range(4)])

    def second(a: Tensor) -> Tensor:
        return torch.stack([a[:, i : i + 2, j : j + 2].reshape(-1) for i in (0, 2) for j in (0, 2)])

    for at, patches in ((0, first), (2, second), (4, lambda a: a[None])):
        A, G = naive_factors(model, at, batch, patches)
        close(found.layers[str(at)].A, A)
        close(found.layers[str(at)].G, G)
    assert found.left_out == {}


class Twice(nn.Module):
    """A linear layer that is called twice, once on sequences, with an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.inner(F.relu(self.inner(x), inplace=True)).mean(1)))


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    name: (make, lambda shape=shape: torch.randn(shape, dtype=F64))
    for name, make, shape in (
        ("mlp", mlp, (7, 4)),
        ("cnn", cnn, (7, 1, 6, 6)),
        ("sequences", lambda: nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(10, 3)), (7, 5, 4)),
        ("called twice", Twice, (7, 5, 4)),
        (
            "strides",
            lambda: nn.Sequential(
                nn.Conv2d(2, 2, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), padding_mode="circular"),
                nn.ReLU(inplace=True),
                nn.Conv2d(2, 2, 3, padding="same", bias=False),
                nn.Flatten(),
                nn.LazyLinear(3),
            ),
            (7, 2, 5, 4),
        ),
        (
            "one dimension",
            lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(9, 3)),
            (7, 2, 5),
        ),
    )
}


@pytest.mark.parametrize("name", LAYERS)
def test_ekfac_has_the_exact_diagonal_in_its_basis_and_is_at_least_as_near(name: str) -> None:
    torch.manual_seed(0)
    model = LAYERS[name][0]().to(F64)
    x = LAYERS[name][1]()
    model(x)  # lazy layers
    batch = (x, torch.randint(0, 3, (7,)))
    exact = dense_gauss_newton(model, nn.CrossEntropyLoss(), batch)
    whole, plain, better = ekfac(model, batch), kfac(model, batch), ekfac(model, in_parts(batch))
    assert whole.left_out == plain.left_out == {}
    close(whole.dense(), better.dense())
    for layer, made_of in whole.layers.items():
        expected = block(exact, whole, layer)
        Q = torch.kron(made_of.QA, made_of.QG)
        close(made_of.S.T.reshape(-1), (Q.T @ expected @ Q).diagonal())
        near, nearer = ((block(one.dense(), one, layer) - expected).norm() for one in (plain, whole))
        assert nearer <= near * (1 + 1e-9)
        close(Q.T @ Q, torch.eye(len(Q), dtype=F64))


def test_damped_inverses() -> None:
    model, batch = made("cnn")
    plain, based = kfac(model, batch), ekfac(model, batch)
    eye = torch.eye(based.size, dtype=F64)
    close(based.inverse(0.1).dense(), torch.linalg.inv(based.dense() + 0.1 * eye))
    found = plain.inverse(0.1).dense()
    for name, layer in plain.layers.items():
        A, G = layer.A, layer.G
        pi = ((A.trace() / len(A)) / (G.trace() / len(G))) ** 0.5
        damped = torch.kron(
            A + pi * 0.1**0.5 * torch.eye(len(A), dtype=F64), G + 0.1**0.5 / pi * torch.eye(len(G), dtype=F64)
        )
        close(block(found, plain, name), torch.linalg.inv(damped))
    for wrong in (0.0, -1.0, True, float("inf"), "much"):
        with pytest.raises(RavineError, match="damping must be a number above 0"):
            plain.inverse(wrong)


def test_draws_have_kfac_as_their_mean() -> None:
    model, batch = made("cnn")
    exact = kfac(model, batch).dense()
    sample = sampler(nn.CrossEntropyLoss())

    def drawn(draws: int, seed: int = 1) -> Tensor:
        return kfac(model, batch, sample=sample, draws=draws, generator=torch.Generator().manual_seed(seed)).dense()

    apart = [float((drawn(draws) - exact).norm() / exact.norm()) for draws in (3, 300)]
    assert apart[1] < 0.08
    assert apart[1] < 0.4 * apart[0]
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(3, seed=2))


def test_some_parameters_only() -> None:
    model, batch = made("mlp")
    whole = kfac(model, batch).dense()
    close(kfac(model, batch, params="2").dense(), whole[25:, 25:])
    close(kfac(model, batch, params=["0.weight", "2.bias"]).dense()[:20, :20], whole[:20, :20])
    close(kfac(model, batch, params=["0.weight", "2.bias"]).dense()[20:, 20:], whole[40:, 40:])
    model[0].bias.requires_grad_(False)
    close(kfac(model, batch).dense()[:20, :20], whole[:20, :20])


# ---------------------------------------------------------------- what is left out


class Odd(nn.Module):
    """Parameters of every kind that has no Kronecker factors, and one layer that has."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(4, 4), nn.LayerNorm(4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.also = nn.Linear(4, 4, bias=False)
        self.also.weight = self.tied.weight
        self.grouped = nn.Conv1d(4, 4, 1, groups=2)
        self.aside, self.never = nn.Linear(4, 4), nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.table(x))
        x = self.also(self.tied(x).tanh())
        x = self.grouped(x.mT).mT
        x = self.attention(x, x, x, need_weights=False)[0]
        x = self.aside(x) + x @ self.aside.weight
        return self.head(x.mean(1))


@pytest.mark.parametrize("make", [kfac, ekfac])
def test_what_has_no_factors_is_left_out_with_the_reason(make: Any) -> None:
    torch.manual_seed(0)
    model = Odd().to(F64)
    batch = (torch.randint(0, 4, (7, 5)), torch.randint(0, 3, (7,)))
    found = make(model, batch)
    assert list(found.layers) == ["head"]
    for name, reason in {
        "table.weight": "Embedding is not a Linear, Conv1d or Conv2d",
        "norm.bias": "LayerNorm is not a Linear, Conv1d or Conv2d",
        "tied.weight": "it is shared by tied and also",
        "grouped.weight": "its convolution has 2 groups, each of which sees inputs of its own",
        "attention.in_proj_weight": "MultiheadAttention is not a Linear, Conv1d or Conv2d",
        "attention.out_proj.weight": "its layer is never called",
        "never.bias": "its layer is never called",
        "aside.weight": "it is used outside of its layer too",
    }.items():
        assert found.left_out[name] == reason
    assert set(found.left_out) | {"head.weight", "head.bias"} == set(found.slices)
    dense, place = found.dense(), found.slices["head.weight"].start
    assert not dense[:place].any()
    assert dense[place:, place:].any()
    close(found.inverse(0.5).dense()[:place], 2 * torch.eye(found.size, dtype=F64)[:place])
    close(found.restricted("head").dense(), dense[place:, place:])
    with pytest.raises(RavineError, match=r"none of the parameters is in a layer .* \(norm.weight: LayerNorm is not"):
        make(model, batch, params="norm")


def test_ekfac_needs_to_know_the_examples_apart() -> None:
    model, batch = made("words")
    model.forward = lambda x: model.head(model.inner(x)[0].flatten(0, 1)).view(len(x), 5, 3).transpose(1, 2)
    assert "head" in kfac(model, batch).layers
    with pytest.raises(RavineError, match="its inputs have a leading dimension other than that of the examples"):
        ekfac(model, batch, params="head")


# ---------------------------------------------------------------- the model stays, bad input is told


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, batch = made(name)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    before, random = hash_tensors(model.state_dict()), torch.get_rng_state()
    given: Any = (model, outputs, against(F.cross_entropy), batch)
    for one in (
        curvature.fisher(*given, distribution="categorical"),
        curvature.fisher(*given, kind="empirical"),
        curvature.fisher(*given, sample=sampler(nn.CrossEntropyLoss()), generator=torch.Generator()),
        curvature.kfac(*given),
        curvature.ekfac(*given, sample=sampler(nn.CrossEntropyLoss()), generator=torch.Generator()),
    ):
        one @ torch.ones(one.size, dtype=F64)
    assert hash_tensors(model.state_dict()) == before
    assert all((p.grad == 7.0).all() and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in model.modules())


def normed(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, **options), nn.Linear(5, 3)).to(F64)


GIVEN = (outputs, against(F.cross_entropy))
BAD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "kind": (lambda m, b: curvature.fisher(m, *GIVEN, b, kind="emprical"), "unknown kind of .* 'emprical'"),
    "distribution": (
        lambda m, b: curvature.fisher(m, *GIVEN, b, distribution="normal"),
        "unknown distribution 'normal': .*For any other give sample=",
    ),
    "neither": (lambda m, b: curvature.fisher(m, *GIVEN, b), "give distribution= .* or sample=, got neither"),
    "both": (
        lambda m, b: curvature.fisher(m, *GIVEN, b, distribution="gaussian", sample=sampler(nn.MSELoss())),
        "give distribution= .* or sample=, got both",
    ),
    "empirical": (
        lambda m, b: curvature.fisher(m, *GIVEN, b, kind="empirical", distribution="gaussian"),
        "the empirical Fisher takes the targets of the data",
    ),
    "draws": (
        lambda m, b: curvature.fisher(m, *GIVEN, b, sample=sampler(nn.CrossEntropyLoss()), draws=0),
        "draws must be a whole number from 1, got 0",
    ),
    "draws of nothing": (lambda m, b: kfac(m, b, draws=3), "draws=3 says how often to draw by sample="),
    "batch norm": (
        lambda m, b: curvature.fisher(normed(), *GIVEN, b, kind="empirical"),
        r"batch norm in train mode \(1\) .* no gradients of their own: call eval\(\) on it, or take kind='true'",
    ),
    "batch norm, always": (lambda m, b: kfac(normed(track_running_stats=False).eval(), b), "batch norm in train mode"),
    "batch norm, ekfac": (
        lambda m, b: ekfac(normed(), b, sample=sampler(nn.CrossEntropyLoss())), "or take kfac with sample="
    ),
    "rows": (
        lambda m, b: curvature.fisher(m, lambda m, b: m(b[0])[:5], lambda z, b: z.square().mean(), b, kind="empirical"),
        "the outputs have a leading dimension of 5, but the batch has 7 examples",
    ),
    "scalar outputs": (
        lambda m, b: kfac(m, b) and curvature.kfac(m, lambda m, b: m(b[0]).mean(), lambda z, b: z**2, b),
        r"the leading dimension of every tensor .* here they are \[0\]",
    ),
    "coupled": (
        lambda m, b: curvature.kfac(m, outputs, lambda z, b: F.cross_entropy(z, b[1]).exp(), b),
        "the criterion is not a mean over examples",
    ),
    "coupled, empirical": (
        lambda m, b: curvature.fisher(m, outputs, lambda z, b: F.cross_entropy(z, b[1]).exp(), b, kind="empirical"),
        "the criterion is not a mean over examples",
    ),
    "too wide": (
        lambda m, b: curvature.kfac(m, lambda m, b: m(b[0]).repeat(1, 700), lambda z, b: z.square().mean(), b),
        "7 examples have outputs of 2100 numbers each: .* give sample=",
    ),
    "not convex": (
        lambda m, b: curvature.kfac(m, outputs, lambda z, b: z.cos().mean(), b),
        "the criterion is not convex in the outputs",
    ),
    "order of drawing": (
        lambda m, b: curvature.fisher(
            m, *GIVEN, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*b), 4, shuffle=True),
            sample=sampler(nn.CrossEntropyLoss()),
        ),
        "give batches that hold the same examples each time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(name: str) -> None:
    use, message = BAD[name]
    model, batch = made("mlp")
    with pytest.raises(RavineError, match=message):
        use(model, batch)


def test_batch_norm_where_examples_need_not_be_apart() -> None:
    """In eval mode, and for what is a matter of all predictions together."""
    torch.manual_seed(0)
    _, batch = made("mlp")
    model = normed()
    exact = dense_gauss_newton(model, nn.CrossEntropyLoss(), batch)
    close(curvature.fisher(model, *GIVEN, batch, distribution="categorical").dense(), exact)
    assert kfac(model, batch, sample=sampler(nn.CrossEntropyLoss())).left_out.keys() == {"1.weight", "1.bias"}
    model.eval()
    rows = torch.stack([gradient(model, F.cross_entropy(model(x[None]), y[None])) for x, y in zip(*batch, strict=True)])
    close(curvature.fisher(model, *GIVEN, batch, kind="empirical").dense(), rows.T @ rows / 7)


def test_a_criterion_without_curvature_has_factors_of_nothing() -> None:
    model, batch = made("mlp")
    found = curvature.kfac(model, outputs, lambda z, b: z.mean(), batch)
    assert not found.dense().any()
    close(found.inverse(0.5).dense(), 2 * torch.eye(43, dtype=F64))


# ---------------------------------------------------------------- tasks


def task(**fields: Any) -> Any:
    torch.manual_seed(0)
    x, y = torch.randn(20, 4, dtype=F64), torch.randint(0, 3, (20,))
    given = ravine.supervised(
        name="small",
        model=lambda: mlp().to(F64),
        criterion=nn.CrossEntropyLoss(),
        train=(x, y),
        valid=(x, y),
        batch_size=4,
    )
    return dataclasses.replace(given, **fields)


def test_a_tasks_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    given = task()
    model, loss = given.model(), lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])
    first = (given.train[0][:10], given.train[1][:10])
    v = torch.randn(43, 2, dtype=F64)
    made_of = (model, *GIVEN, first)
    for kind, expected in {
        "hessian": curvature.hessian(model, loss, first),
        "gauss_newton": curvature.gauss_newton(*made_of),
        "empirical_fisher": curvature.fisher(*made_of, kind="empirical"),
        "kfac": curvature.kfac(*made_of),
        "ekfac": curvature.ekfac(*made_of),
    }.items():
        close(curvature.of_task(given, model, kind, examples=10) @ v, expected @ v)
    close(curvature.of_task(given, model, "kfac") @ v, kfac(model, given.train) @ v)
    with monkeypatch.context() as patch:
        patch.setitem(curvature.of_task.__globals__, "_AT_ONCE", 4)  # the module's own name is the function's
        for examples, batch in ((10, first), (None, given.train)):
            close(curvature.of_task(given, model, "kfac", examples=examples) @ v, kfac(model, batch) @ v)
    found = curvature.of_task(given, model, "fisher", distribution="categorical").dense()
    close(found, curvature.gauss_newton(model, *GIVEN, given.train).dense())
    drawn = curvature.of_task(given, model, "fisher", draws=300, generator=torch.Generator().manual_seed(0)).dense()
    assert (drawn - found).norm() < 0.15 * found.norm()
    assert curvature.of_task(given, kind="kfac", params="2").size == 18


def test_a_task_of_data_without_end() -> None:
    given = ravine.task("quadratic")
    model = given.model()
    found = curvature.of_task(given, model, examples=3)
    values = torch.linalg.eigvalsh(found.dense())
    torch.testing.assert_close(values[[0, -1]], torch.tensor([1e-3, 1.0]), rtol=1e-3, atol=0)
    with pytest.raises(RavineError, match="the training data of the task 'quadratic' have no end: give examples="):
        curvature.of_task(given)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: curvature.of_task(task(), kind="fischer"),
            "unknown kind of curvature 'fischer': did you mean 'fisher'",
        ),
        (lambda: curvature.of_task(task(), examples=21), "from 1 to 20, which the task 'small' has, got 21"),
        (
            lambda: curvature.of_task(task(forward=None, criterion=None), kind="kfac"),
            "the task 'small' has no forward and no criterion, .* it gets kind='hessian' only",
        ),
        (lambda: curvature.of_task(task(forward=None), kind="gauss_newton"), "has no forward, which"),
        (lambda: curvature.of_task(task(sample=None), kind="fisher"), "the task 'small' has no sample, which draws"),
    ],
)
def test_what_a_task_lacks_is_named(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        use()
    assert curvature.of_task(task(forward=None, criterion=None)).size == 43
