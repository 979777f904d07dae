"""Initializations: what they draw has the distribution that the papers say, at a stated confidence."""

import math

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from ravine import RavineError, init
from ravine.checks import INIT_CHECKS, check_init
from ravine.core.spec import parse_links
from ravine.init.strategy import Strategy

F64 = torch.float64
SPECS = (
    "uniform", "uniform(gain='auto')", "glorot", "glorot(distribution='normal')", "glorot(distribution='truncated')",
    "he",
    "he(mode='fan_out', distribution='uniform')", "lecun", "truncated_normal",
    "truncated_normal(deviation=0.1, cut=1.5)",
    "orthogonal", "orthogonal(gain='auto')", "orthogonal(gain=2, conv='delta')", "identity", "identity(gain=0.01)",
    "random_walk", "random_walk(activation='tanh')", "sparse", "sparse(k=5, std=0.5)", "sparse(gain=1.3, replace=true)",
    "mup", "fixup", "normal", "zeros", "constant(value=0.3)",
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(text: str) -> Strategy:
    (call,) = parse_links(text)
    return Strategy.make(call)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("check", INIT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("text", SPECS)
def test_every_initialization_keeps_the_contract(text: str, check: object) -> None:
    check(made(text))  # type: ignore[operator]


def test_no_initialization_is_left_out_above() -> None:
    assert {made(text).name for text in SPECS} == set(Strategy.registry)


class Drifts(init.Strategy, register=False):
    """Draws from the global generator and forgets its scale."""

    name = "drifts"

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: object) -> Tensor:
        return torch.randn(shape)


def test_a_bad_initialization_is_told_what_it_does_wrong() -> None:
    for check, wrong in zip(
        INIT_CHECKS[2:6:3], ("other numbers for the same seed|global generator", "mean square"), strict=True
    ):
        with pytest.raises(AssertionError, match=wrong):
            check(Drifts())
    with pytest.raises(RavineError, match="unknown initialization 'drifts'"):
        check_init(Drifts())


# ---------------------------------------------------------------- distributions, as the papers have them

UNIFORM = {  # bound of U(-bound, bound) for (out, in) = (m, n)
    "uniform": lambda m, n: 1 / math.sqrt(n),
    "glorot": lambda m, n: math.sqrt(6 / (m + n)),
    "he(distribution='uniform')": lambda m, n: math.sqrt(6 / n),
    "lecun(distribution='uniform')": lambda m, n: math.sqrt(3 / n),
}
NORMAL = {
    "glorot(distribution='normal')": lambda m, n: math.sqrt(2 / (m + n)),
    "he": lambda m, n: math.sqrt(2 / n),
    "he(mode='fan_out')": lambda m, n: math.sqrt(2 / m),
    "lecun": lambda m, n: math.sqrt(1 / n),
    "random_walk": lambda m, n: math.sqrt(2) * math.exp(1.2 / (n - 2.4)) / math.sqrt(n),
    "random_walk(activation='linear')": lambda m, n: math.exp(1 / (2 * n)) / math.sqrt(n),
    "mup": lambda m, n: math.sqrt(1 / n),
    "normal(deviation=0.02)": lambda m, n: 0.02,
}
SHAPES = ((120, 300), (300, 120), (40, 10, 3, 5))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    kernel = math.prod(shape[2:])
    return shape[0] * kernel, shape[1] * kernel


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", UNIFORM)
def test_uniform_ones_are_uniform_with_the_bound_of_the_paper(
    text: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    bound = UNIFORM[text](*_matrix(shape))
    drawn = made(text)(shape, generator=generator(), dtype=dtype).double().flatten()
    assert drawn.abs().max() <= bound * (1 + 1e-6)
    assert scipy.stats.kstest(drawn.numpy(), "uniform", args=(-bound, 2 * bound)).pvalue > 1e-4  # 1 seed in 10,000


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", NORMAL)
def test_normal_ones_are_normal_with_the_deviation_of_the_paper(
    text: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    std = NORMAL[text](*_matrix(shape))
    drawn = made(text)(shape, generator=generator(), dtype=dtype).double().flatten()
    assert scipy.stats.kstest(drawn.numpy(), "norm", args=(0, std)).pvalue > 1e-4
    assert abs(drawn.std() / std - 1) < 4.5 / math.sqrt(2 * len(drawn))  # 7 seeds in 10^6


@pytest.mark.parametrize("cut", [1.0, 2.0, 3.0])
def test_the_truncated_normal_has_the_deviation_asked_for_after_the_cut(cut: float) -> None:
    drawn = init.truncated_normal((400, 300), deviation=0.1, cut=cut, generator=generator(), dtype=F64).flatten()
    raw = 0.1 / scipy.stats.truncnorm(-cut, cut).std()
    assert scipy.stats.kstest(drawn.numpy(), scipy.stats.truncnorm(-cut, cut, scale=raw).cdf).pvalue > 1e-4
    assert drawn.abs().max() <= cut * raw
    assert abs(drawn.std() / 0.1 - 1) < 4.5 / math.sqrt(len(drawn))
    peer = nn.init.trunc_normal_(torch.empty(400, 300), std=0.1, a=-0.2, b=0.2, generator=generator())
    assert peer.std() < 0.089  # what torch leaves of 0.1


def _drift(spec: str, activation: str, width: int, depth: int, draws: int) -> tuple[float, float]:
    """Mean of ln |delta_0|^2 / |delta_D|^2 a layer, and its standard error, of backward passes unrolled by hand."""
    strategy, draw, found = made(spec), generator(), []
    for _ in range(draws):
        delta = torch.randn(width, generator=draw, dtype=F64)
        first = delta.square().sum().log()
        for _ in range(depth):
            w = strategy((width, width), generator=draw, dtype=F64)
            delta = w.T @ delta
            if activation == "relu":  # a unit of a wide random net is active with probability 1/2
                delta = delta * torch.randint(2, (width,), generator=draw)
        found.append((delta.square().sum().log() - first) / depth)
    drift = torch.stack(found)
    return drift.mean().item(), (drift.std() / draws**0.5).item()


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_random_walk_gradients_have_no_drift(activation: str) -> None:
    """Without the correction a linear layer of width N loses 1 / N of ln |delta|^2, a ReLU layer 5 / (2 N)."""
    drift, error = _drift(f"random_walk(activation='{activation}')", activation, 24, 40, 300)
    plain, _ = _drift(f"lecun(gain={1.0 if activation == 'linear' else 2**0.5})", activation, 24, 40, 300)
    assert abs(drift) < 4 * error + 0.1 / 24  # the paper's formulas are fits; 6 seeds in 100,000
    assert plain < (-0.8 if activation == "linear" else -2.0) / 24


def test_mup_narrows_the_output_with_the_width() -> None:
    for width in (128, 512, 2048):
        w = init.mup((50, width), base_width=128, role="output", generator=generator(), dtype=F64)
        assert abs(w.std() * math.sqrt(width) / math.sqrt(128 / width) - 1) < 4.5 / math.sqrt(2 * w.numel())
    assert abs(init.mup((1000, 64), role="embedding", generator=generator()).std() - 1) < 0.02


def test_fixup_scales_branches_by_their_number_and_zeroes_their_ends() -> None:
    branch = init.fixup((300, 200), branches=16, layers=3, role="branch", generator=generator(), dtype=F64)
    he = math.sqrt(2 / 200)
    assert abs(branch.std() / (he * 16 ** (-1 / 4)) - 1) < 4.5 / math.sqrt(2 * branch.numel())
    assert not init.fixup((30, 20), branches=16, layers=3, role="branch_end").any()
    assert not init.fixup((30, 20), role="output").any()
    with pytest.raises(RavineError, match="give branches= and layers="):
        init.fixup((30, 20), role="branch")


# ---------------------------------------------------------------- orthogonal and identity


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-6), (torch.float32, 1e-5), (torch.complex128, 1e-6)])
@pytest.mark.parametrize("shape", [(128, 128), (60, 200), (200, 60), (16, 8, 3, 3), (100, 8, 3, 3), (1, 5), (5, 1)])
def test_orthogonal_is_orthogonal(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    w = init.orthogonal(shape, gain=1.5, generator=generator(), dtype=dtype).flatten(1) / 1.5
    gram = w @ w.mH if w.shape[0] <= w.shape[1] else w.mH @ w
    assert (gram - torch.eye(len(gram), dtype=dtype)).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_orthogonal_takes_types_of_16_bits(dtype: torch.dtype) -> None:
    w = init.orthogonal((64, 64), generator=generator(), dtype=dtype)
    assert w.dtype == dtype
    assert (w.double() @ w.double().T - torch.eye(64, dtype=F64)).abs().max() < 1e-2
    with pytest.raises(RuntimeError):
        nn.init.orthogonal_(torch.empty(4, 4, dtype=dtype))


def test_orthogonal_is_uniform_over_rotations() -> None:
    """Every entry of a Haar matrix of size n has variance 1 / n and mean 0, which takes the signs of R."""
    first = torch.stack([init.orthogonal((5, 5), generator=generator(s), dtype=F64)[0, 0] for s in range(2000)])
    assert abs(first.mean()) < 4 * math.sqrt(1 / 5 / 2000)
    assert scipy.stats.kstest(first.numpy(), scipy.stats.beta(2, 2, loc=-1, scale=2).cdf).pvalue > 1e-4  # n = 5


def test_delta_orthogonal_convolution_keeps_norms() -> None:
    w = init.orthogonal((24, 24, 3, 3), conv="delta", generator=generator(), dtype=F64)
    x = torch.randn(2, 24, 7, 7, generator=generator(1), dtype=F64)
    y = nn.functional.conv2d(x, w, padding=1)
    torch.testing.assert_close(y.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)), rtol=1e-12, atol=0)
    assert (w != 0).sum() == 24 * 24


def test_identity_hands_its_input_on() -> None:
    assert torch.equal(init.identity((4, 4), gain=0.01), 0.01 * torch.eye(4))
    x = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(nn.functional.conv2d(x, init.identity((3, 3, 3, 3)), padding=1), x)


# ---------------------------------------------------------------- sparse


@pytest.mark.parametrize("shape", [(256, 784), (784, 256), (64, 3, 5, 5)])
def test_sparse_gives_every_unit_k_incoming_weights(shape: tuple[int, ...]) -> None:
    w = init.sparse(shape, k=15, generator=generator())
    assert (w.flatten(1) != 0).sum(1).tolist() == [15] * shape[0]
    nonzero = w[w != 0].double()
    assert scipy.stats.kstest(nonzero.numpy(), "norm").pvalue > 1e-4


def test_sparse_chooses_every_input_as_often_as_another() -> None:
    chosen = (init.sparse((20_000, 30), k=15, generator=generator()) != 0).sum(0).double()
    expected, variance = 10_000, 20_000 * 0.5 * 0.5
    assert ((chosen - expected).abs() < 4.5 * math.sqrt(variance)).all()  # 2 seeds in 10,000


def test_sparse_with_replacement_has_as_many_places_as_drawing_with_replacement() -> None:
    counts = (init.sparse((4000, 30), k=15, replace=True, generator=generator()) != 0).sum(1).double()
    expected = 30 * (1 - (1 - 1 / 30) ** 15)
    assert counts.max() <= 15
    assert abs(counts.mean() - expected) < 4 * counts.std() / 4000**0.5  # one failure in 16,000 seeds


def test_sparse_draws_the_same_whatever_the_default_type() -> None:
    drawn = []
    try:
        for default in (torch.float32, F64):
            torch.set_default_dtype(default)
            drawn.append(init.sparse((8, 100), k=5, generator=generator(), dtype=torch.float32))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(drawn[0], drawn[1])
    assert init.sparse((8, 100), k=5, gain=2.0, generator=generator()).std() > 0


def test_torch_fixes_the_outgoing_weights_instead() -> None:
    """The defect that ours lacks: with 15 of 784 inputs meant for a unit, torch's units get 6 to 24."""
    w = nn.init.sparse_(torch.empty(256, 784), sparsity=1 - 15 / 784, generator=generator())
    counts = (w != 0).sum(1)
    assert counts.min() < 15 < counts.max()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: init.sparse((256, 10), k=15),
            r"k=15 incoming weights a unit, .* has fan_in 10: k must be in \[1, 10\]",
        ),
        (lambda: init.sparse((5, 20), std=1.0, k=0), r"sparse: k must be in \[1, inf\), got 0"),
        (lambda: init.Sparse(std=1.0, gain=2.0), "both say the scale"),
        (lambda: init.sparse((400, 100), k=5, std=0.5, gain=10.0), r"std=0.5 and gain=10.0 both say the scale"),
        (lambda: init.Sparse(std=0.5)((5, 20), gain=2.0), "says its scale without a gain, got gain=2.0"),
        (lambda: init.Normal(0.02)((5, 5), "hidden", 3.0), r"'normal' says its scale without a gain, got gain=3.0"),
        (lambda: init.normal((5, 5), gain=3.0), "without a gain, got gain=3.0"),
        (lambda: init.Normal(0.02).spread((5, 5), "hidden", 3.0), "without a gain, got gain=3.0"),
        (lambda: init.Fixup()((5, 5), "hidden", 3.0), "'fixup' says its scale without a gain"),
        (lambda: init.constant((5, 5), gain=3.0), "without a gain"),
        (lambda: init.zeros((5, 5), gain=3.0), "without a gain"),
        (
            lambda: init.glorot(()),
            r"shape of 2 to 5 dimensions, \(out, in, \*kernel\), got \(\): fan_in and fan_out are",
        ),
        (lambda: init.he((5,)), r"got \(5,\): fan_in and fan_out are undefined"),
        (lambda: init.lecun((5, 0)), r"whole numbers of 1 or more, got \(5, 0\)"),
        (lambda: init.glorot((5, 5), role="hiden"), "unknown role 'hiden': did you mean 'hidden'"),
        (lambda: init.glorot((5, 5), gain="auto"), r"glorot\(gain='auto'\) depends on the activation: give gain="),
        (lambda: init.glorot((5, 5), gain="autoo"), "unknown gain of glorot 'autoo': did you mean 'auto'"),
        (lambda: init.glorot((5, 5), gain=-1.0), "gain must be a number above 0, got -1.0"),
        (lambda: init.orthogonal((5, 5), gain=math.nan), "gain must be a number above 0, got nan"),
        (lambda: init.glorot((5, 5), dtype=torch.int64), "dtype must be a float .* got torch.int64"),
        (lambda: init.uniform((5, 5), dtype=torch.complex64), "is not defined for torch.complex64: take glorot"),
        (lambda: init.random_walk((5, 5), activation="tahn"), "unknown activation 'tahn': did you mean 'tanh'"),
        (
            lambda: init.orthogonal((5, 5), conv="dleta"),
            "unknown conv of initialization 'orthogonal' 'dleta': did you mean",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(call: object, message: str) -> None:
    with pytest.raises(RavineError, match=message):
        call()  # type: ignore[operator]


def test_complex_weights_have_the_variance_in_both_parts_together() -> None:
    w = init.he((200, 300), generator=generator(), dtype=torch.complex128)
    assert abs(w.abs().square().mean() / (2 / 300) - 1) < 4.5 / math.sqrt(w.numel())
