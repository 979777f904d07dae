"""Operators of curvature equal dense matrices in float64 on every kind of layer, and leave the model as it was."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ravine import curvature
from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.linear import linearize

F64 = torch.float64


class Last(nn.Module):
    """The last outputs of a recurrent layer, through a linear one."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    """Self-attention by the fused kernel, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x, x, x, need_weights=False)[0].mean(1))


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x).tanh()).tanh())


class Pooled(nn.Module):
    """A transformer's layer, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


FLAT, SEQUENCE, IMAGE = (7, 4), (7, 5, 4), (7, 1, 6, 6)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), FLAT),
    "tied": (Tied, FLAT),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)), FLAT),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)), FLAT),
    "batch norm, eval": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).eval(), FLAT),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        ),
        IMAGE,
    ),
    "rnn": (lambda: Last(nn.RNN(4, 3, batch_first=True), 3), SEQUENCE),
    "gru": (lambda: Last(nn.GRU(4, 3, batch_first=True), 3), SEQUENCE),
    "lstm": (lambda: Last(nn.LSTM(4, 3, batch_first=True), 3), SEQUENCE),
    "attention": (Attention, SEQUENCE),
    "transformer": (Pooled, SEQUENCE),
}


def loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def outputs(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0])


def criterion(z: Tensor, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(z, batch[1])


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    make, shape = MODELS[request.param]
    torch.manual_seed(0)
    model = make().to(F64)
    return model, (torch.randn(shape, dtype=F64), torch.randint(0, 3, shape[:1]))


def flat_function(model: nn.Module, of: Callable[[nn.Module], Tensor]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """`of(model)` as a function of the flat parameters, by torch's own means, and where it stands."""
    named = dict(model.named_parameters())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and module.training:
            module.track_running_stats = False

    class Within(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return of(self.model)

    within = Within()

    def function(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in named.values()])
        values = {f"model.{name}": part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}
        return functional_call(within, values, ())

    return function, torch.cat([p.detach().reshape(-1) for p in named.values()])


def plain_kernels() -> Any:
    return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)


def dense_hessian(model: nn.Module, batch: Any) -> Tensor:
    """Reverse over reverse, one row at a time: vmapped, as torch.func has it, recurrent layers come out wrong."""
    function, at = flat_function(model, lambda model: loss(model, batch))
    with plain_kernels():
        return torch.autograd.functional.hessian(function, at)  # type: ignore[no-any-return]


def dense_gauss_newton(model: nn.Module, batch: Any) -> Tensor:
    function, at = flat_function(model, lambda model: model(batch[0]))
    with plain_kernels():
        jacobian = torch.autograd.functional.jacobian(function, at).reshape(-1, len(at))
        z = function(at).detach()
    curved = torch.autograd.functional.hessian(lambda z: criterion(z, batch), z).reshape(z.numel(), -1)
    return jacobian.T @ curved @ jacobian


def test_the_hessian_is_the_dense_one(case: Any) -> None:
    model, batch = case
    found = curvature.hessian(model, loss, batch).dense()
    torch.testing.assert_close(found, dense_hessian(model, batch), rtol=1e-8, atol=1e-10)


def test_gauss_newton_is_the_dense_one(case: Any) -> None:
    model, batch = case
    found = curvature.gauss_newton(model, outputs, criterion, batch).dense()
    torch.testing.assert_close(found, dense_gauss_newton(model, batch), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "layer norm", "transformer"])
def test_torch_func_agrees_forward_over_reverse(name: str) -> None:
    """Its `hessian` does not: torch 2.13 takes layer norm's second derivative wrongly there, by 0.46 in 1 here."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, batch = make().to(F64), (torch.randn(shape, dtype=F64), torch.randint(0, 3, shape[:1]))
    function, at = flat_function(model, lambda model: loss(model, batch))
    with plain_kernels():
        expected = torch.func.jacfwd(torch.func.grad(function))(at)
    torch.testing.assert_close(curvature.hessian(model, loss, batch).dense(), expected, rtol=1e-8, atol=1e-10)


def test_the_model_is_left_as_it_was(case: Any) -> None:
    model, batch = case
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    before, modes = hash_tensors(model.state_dict()), [module.training for module in model.modules()]
    random, enabled = torch.get_rng_state(), torch.backends.mkldnn.enabled
    fused = torch.backends.cuda.flash_sdp_enabled()
    for made in (curvature.hessian(model, loss, batch), curvature.gauss_newton(model, outputs, criterion, batch)):
        made @ torch.ones(made.size, dtype=F64)
    assert hash_tensors(model.state_dict()) == before
    assert [module.training for module in model.modules()] == modes
    assert all((p.grad == 7.0).all() and p.requires_grad for p in model.parameters())
    assert all(getattr(module, "track_running_stats", True) for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert (torch.backends.mkldnn.enabled, torch.backends.cuda.flash_sdp_enabled()) == (enabled, fused)


@pytest.mark.parametrize(
    ("name", "when"), [*((name, "made") for name in MODELS), ("mlp", "called"), ("transformer", "called")]
)
def test_what_has_no_second_derivative_in_reverse_is_differentiated_forwards(
    name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, batch = make().to(F64), (torch.randn(shape, dtype=F64), torch.randint(0, 3, shape[:1]))

    def refuse(*_: Any) -> Any:
        raise RuntimeError("derivative for aten::foo_backward is not implemented")

    expected = dense_hessian(model, batch), dense_gauss_newton(model, batch)
    inside = curvature.gauss_newton.__globals__  # the module's own name is the function's
    refusing = refuse if when == "made" else lambda *_: refuse
    monkeypatch.setattr("ravine.curvature.linear._reverse", refusing)
    monkeypatch.setitem(inside, "_pushed_in_reverse", refusing)
    torch.testing.assert_close(curvature.hessian(model, loss, batch).dense(), expected[0], rtol=1e-8, atol=1e-10)
    found = curvature.gauss_newton(model, outputs, criterion, batch).dense()
    torch.testing.assert_close(found, expected[1], rtol=1e-8, atol=1e-10)
    monkeypatch.setattr("ravine.curvature.linear._forward", refuse)
    with pytest.raises(RavineError, match="cannot be differentiated twice: the operation foo_backward fails"):
        curvature.hessian(model, loss, batch).dense()


# ---------------------------------------------------------------- data


@pytest.fixture
def small() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return MODELS["mlp"][0]().to(F64), (torch.randn(10, 4, dtype=F64), torch.randint(0, 3, (10,)))


def test_batches_are_weighted_by_their_size(small: Any) -> None:
    model, (x, y) = small
    expected = dense_hessian(model, (x, y))
    ragged = [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:])]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=True)
    for data in (ragged, loader, tuple(ragged)):
        for keep in (False, True):
            if data is loader and keep:
                continue
            found = curvature.hessian(model, loss, data, keep=keep)
            torch.testing.assert_close(found.dense(), expected, rtol=1e-8, atol=1e-10)


def test_batches_may_be_dicts_and_say_their_size_themselves(small: Any) -> None:
    model, (x, y) = small
    expected = dense_hessian(model, (x, y))

    def named(model: nn.Module, batch: Any) -> Tensor:
        return loss(model, (batch["x"], batch["y"]))

    whole = {"x": x, "y": y}
    parts = [{"x": x[:4], "y": y[:4]}, {"x": x[4:], "y": y[4:]}]
    for data in (whole, parts):
        torch.testing.assert_close(curvature.hessian(model, named, data).dense(), expected, rtol=1e-8, atol=1e-10)
    odd = [part | {"scale": torch.ones(1)} for part in parts]
    with pytest.raises(RavineError, match=r"leading dimensions are \[1, 4\]: give size="):
        curvature.hessian(model, named, odd)
    found = curvature.hessian(model, named, odd, size=lambda batch: len(batch["x"]))
    torch.testing.assert_close(found.dense(), expected, rtol=1e-8, atol=1e-10)


def test_a_product_follows_the_parameters(small: Any) -> None:
    model, batch = small
    made = curvature.hessian(model, loss, batch)
    made @ torch.ones(made.size, dtype=F64)
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    torch.testing.assert_close(made.dense(), dense_hessian(model, batch), rtol=1e-8, atol=1e-10)


def test_the_linearization_is_kept_between_products(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = small
    made = curvature.hessian(model, loss, batch)
    calls = []

    def counted(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return loss(model, batch)

    made = curvature.hessian(model, counted, batch)
    read = len(calls)
    v = torch.ones(made.size, dtype=F64)
    made @ v
    once = len(calls)
    assert once > read
    made @ v
    made @ torch.eye(made.size, dtype=F64)
    assert len(calls) == once


def test_what_is_kept_evaluates_the_model_no_more(small: Any) -> None:
    """So that later products need not guard buffers; one on several batches does evaluate it, each time."""
    model, batch = small
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    for made in (
        curvature.hessian(model, loss, batch),
        curvature.gauss_newton(model, outputs, criterion, batch),
        curvature.fisher(model, outputs, criterion, batch, distribution="categorical"),
    ):
        v = torch.ones(made.size, dtype=F64)
        first = made @ v
        seen = len(calls)
        torch.testing.assert_close(made @ v, first, rtol=0, atol=0)
        assert len(calls) == seen


def test_some_parameters_only(small: Any) -> None:
    model, batch = small
    whole = dense_hessian(model, batch)
    first = slice(0, 25)
    for params in ("0", ["0.weight", "0.bias"], list(model[0].parameters())):
        found = curvature.hessian(model, loss, batch, params=params)
        torch.testing.assert_close(found.dense(), whole[first, first], rtol=1e-8, atol=1e-10)
    restricted = curvature.hessian(model, loss, batch).restricted("0")
    torch.testing.assert_close(restricted.dense(), whole[first, first], rtol=1e-8, atol=1e-10)
    model[0].requires_grad_(False)
    rest = slice(25, None)
    found = curvature.hessian(model, loss, batch)
    torch.testing.assert_close(found.dense(), whole[rest, rest], rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------- the algebra


@pytest.fixture
def pair() -> tuple[Operator, Operator, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 4, dtype=F64, generator=draw) for _ in range(2))
    a, b = a + a.T, b + b.T
    return Operator(4, lambda v: a @ v, dtype=F64), Operator(4, lambda v: b @ v, dtype=F64), a, b


def test_the_algebra_is_that_of_matrices(pair: Any) -> None:
    A, B, a, b = pair
    eye = torch.eye(4, dtype=F64)
    for made, expected in (
        (2.0 * A + B, 2 * a + b), (A * 3 - B, 3 * a - b), (-A, -a), (A.shifted(0.5), a + 0.5 * eye),
        (A.restricted(slice(1, 3)), a[1:3, 1:3]),
    ):  # fmt: skip
        torch.testing.assert_close(made.dense(), expected)
        assert made.shape == tuple(expected.shape)
    torch.testing.assert_close(A @ b[:, 0], a @ b[:, 0])
    torch.testing.assert_close(A @ b[:, :2], a @ b[:, :2])


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda A: A @ torch.ones(3, dtype=F64), r"acts on vectors \(4,\) or blocks \(4, k\), got \(3,\)"),
        (lambda A: A @ torch.ones(4), "write v.to"),
        (lambda A: A @ 3.0, "acts on tensors, got float"),
        (lambda A: A + Operator(3, lambda v: v, dtype=F64), "operators of different kinds"),
        (lambda A: A.restricted("layer"), "unknown parameter or module 'layer'"),
        (lambda A: A.restricted(slice(9, 9)), "nothing is left"),
    ],
)
def test_what_does_not_fit_is_refused(pair: Any, use: Callable[[Operator], Any], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        use(pair[0])


def test_of_a_function() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)

    def f(x: Tensor) -> Tensor:
        return (x**3).sum() + x.prod()

    found = curvature.of_function(f, x).dense()
    torch.testing.assert_close(found, torch.autograd.functional.hessian(f, x).reshape(4, 4))
    with pytest.raises(RavineError, match=r"f must return a scalar tensor, got a tensor of shape \(2, 2\)"):
        curvature.of_function(lambda x: x * 2, x)
    with pytest.raises(RavineError, match=r"f\(x\) is nan"):
        curvature.of_function(lambda x: (x - 9).log().sum(), x)


# ---------------------------------------------------------------- bad input


class _Once(torch.autograd.Function):
    """An operation whose backward pass cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.clone()


def rough(model: Any, batch: Any) -> Tensor:
    return loss(model, batch) + _Once.apply(model[0].weight).pow(2).sum()


def batches_once(batch: Any) -> Iterator[Any]:
    yield batch


BAD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "not scalar": (
        lambda model, batch: curvature.hessian(model, lambda m, b: m(b[0]), batch),
        r"the loss must be a scalar tensor, the mean over the batch; got a tensor of shape \(10, 3\)",
    ),
    "not a number": (
        lambda model, batch: curvature.hessian(model, lambda m, b: loss(m, b) * float("nan"), batch),
        "the loss is nan: curvature has no meaning there",
    ),
    "read once": (
        lambda model, batch: curvature.hessian(model, loss, batches_once(batch)),
        r"a generator can be read only once, .*: give a DataLoader, or list\(...\) of it",
    ),
    "no batches": (lambda model, batch: curvature.hessian(model, loss, []), "the data have no batches"),
    "not data": (lambda model, batch: curvature.hessian(model, loss, 3), "data must be a batch"),
    "unknown parameter": (
        lambda model, batch: curvature.hessian(model, loss, batch, params="0.wieght"),
        "unknown parameter or module '0.wieght': did you mean '0.weight'",
    ),
    "strange parameter": (
        lambda model, batch: curvature.hessian(model, loss, batch, params=[torch.ones(2)]),
        r"params= holds a tensor of shape \(2,\) that is no parameter of the model",
    ),
    "no model": (lambda model, batch: curvature.hessian(loss, loss, batch), "curvature needs an nn.Module"),
    "drops": (
        lambda model, batch: curvature.hessian(nn.Sequential(model, nn.Dropout(0.5)), loss, batch),
        r"the loss is not the same when it is read twice: .*Drawing at random: 1 \(Dropout\); call model.eval\(\)",
    ),
    "differs from pass to pass": (
        lambda model, batch: curvature.hessian(
            model, loss, torch.utils.data.DataLoader(
                torch.utils.data.TensorDataset(*batch), batch_size=4, shuffle=True, drop_last=True)
        ),
        "The data differ from pass to pass",
    ),
    "once differentiable": (
        lambda model, batch: curvature.hessian(model, rough, batch) @ torch.ones(43, dtype=F64),
        "the loss cannot be differentiated twice: the function _Once is marked with @once_differentiable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told(small: Any, name: str) -> None:
    use, message = BAD[name]
    torch.manual_seed(0)
    with pytest.raises(RavineError, match=message):
        use(*small)


def test_no_trainable_parameters(small: Any) -> None:
    model, batch = small
    model.requires_grad_(False)
    with pytest.raises(RavineError, match=r"the model has no trainable parameters \(of 4 in all\)"):
        curvature.hessian(model, loss, batch)


def test_torchs_linearize_alone_gives_other_numbers_at_the_second_call() -> None:
    """The reason for the precautions in ours; when this fails, they can go."""
    torch.manual_seed(0)
    model, x = nn.RNN(2, 2).to(F64), torch.randn(3, 1, 2, dtype=F64)
    names, at = zip(*model.named_parameters(), strict=True)
    values = tuple(p.detach() for p in at)

    def scalar(*values: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))[0].pow(2).sum()

    v = tuple(torch.randn_like(value) for value in values)
    gradient = torch.func.grad(scalar, argnums=tuple(range(4)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, theirs = torch.func.linearize(gradient, *values)
    _, ours = linearize(gradient, *values)

    def apart(product: Callable[..., Any]) -> float:
        first, second = product(*v), product(*v)
        return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))

    assert apart(theirs) > 1e-3
    assert apart(ours) == 0.0
