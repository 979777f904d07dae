"""Gains: equal to closed forms and to a naive reference; and what the edge of chaos keeps."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ravine import RavineError, init
from ravine.init.activations import ACTIVATIONS, activation
from ravine.init.gains import edge, edge_after, start
from ravine.init.moments import moments

CLOSED = [  # f, E f^2, E f'^2 over N(0, 1)
    ("linear", 1.0, 1.0),
    ("relu", 0.5, 0.5),
    ("leaky_relu(0.1)", 1.01 / 2, 1.01 / 2),
    ("leaky_relu", (1 + 1e-4) / 2, (1 + 1e-4) / 2),
    ("hardtanh", 1 - 2 / math.sqrt(2 * math.pi * math.e), math.erf(1 / math.sqrt(2))),  # E min(z^2, 1)
    (torch.erf, 2 / math.pi * math.asin(2 / 3), 4 / math.pi / math.sqrt(5)),  # Williams 1997
    (torch.sin, (1 - math.exp(-2)) / 2, (1 + math.exp(-2)) / 2),
    (torch.abs, 1.0, 1.0),
    (lambda z: z**3, 15.0, 27.0),
    (torch.exp, math.exp(2), math.exp(2)),
]


@pytest.mark.parametrize(("f", "square", "slope"), CLOSED)
def test_gains_equal_closed_forms(f: object, square: float, slope: float) -> None:
    assert init.gain(f, "variance") == pytest.approx(square**-0.5, rel=1e-10)  # type: ignore[arg-type]
    assert init.gain(f, "gradient") == pytest.approx(slope**-0.5, rel=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("linear", "hardshrink")])
def test_gains_equal_a_plain_sum_over_a_fine_grid(name: str) -> None:
    z = np.linspace(-12, 12, 2_400_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    x = torch.from_numpy(z).requires_grad_()
    module = ACTIVATIONS[name]().double().eval()
    y = module(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    square, slope_square = (float((v.detach().numpy() ** 2 * density).sum()) for v in (y, slope))
    assert init.gain(name, "variance") == pytest.approx(square**-0.5, rel=2e-6)
    assert init.gain(name, "gradient") == pytest.approx(slope_square**-0.5, rel=2e-5)  # a jump costs the grid a cell


@pytest.mark.parametrize("kink", [0.0, 0.337, -1.9, 3.1])
def test_kinks_and_jumps_anywhere_cost_no_accuracy(kink: float) -> None:
    upper = 0.5 * math.erfc(kink / math.sqrt(2))
    assert moments(activation(lambda z: (z > kink).double())).square == pytest.approx(upper, rel=1e-10)
    phi = math.exp(-(kink**2) / 2) / math.sqrt(2 * math.pi)
    assert moments(activation(lambda z: (z - kink).relu())).mean == pytest.approx(phi - kink * upper, rel=1e-9)


def test_inference_mode_changes_no_gain() -> None:
    def f(z: torch.Tensor) -> torch.Tensor:
        return z.tanh() * 0.5

    with torch.inference_mode():
        inside = init.gain(f, "gradient")
        init.gain("hardtanh(-2, 2)", "gradient")
    assert inside == init.gain(f, "gradient") == pytest.approx(2 * init.gain("tanh", "gradient"), rel=1e-9)
    assert init.gain("hardtanh(-2, 2)", "gradient") == pytest.approx(math.erf(2 / math.sqrt(2)) ** -0.5, rel=1e-9)


def test_a_module_and_a_function_have_the_gain_of_their_name() -> None:
    for given in (nn.GELU(), torch.nn.functional.gelu, nn.GELU(approximate="none")):
        assert init.gain(given, "gradient") == init.gain("gelu", "gradient")
    assert init.gain(nn.LeakyReLU(0.3)) == init.gain("leaky_relu(0.3)") == init.gain("leaky_relu(negative_slope=0.3)")
    assert init.gain(nn.GELU("tanh")) == init.gain("gelu(approximate='tanh')") != init.gain("gelu")
    assert init.gain(nn.ReLU(inplace=True)) == init.gain("relu")
    assert str(activation(nn.ELU(0.5))) == "elu(alpha=0.5)"


@pytest.mark.parametrize(
    ("name", "limit"),
    [("tanh", 1), ("sigmoid", 4), ("relu", math.sqrt(2)), ("elu", 1), ("gelu", 2), ("silu", 2), ("softplus", 2),
     ("linear", 1), ("leaky_relu(0.5)", math.sqrt(1.6)), ("softsign", 1)],
)  # fmt: skip
def test_the_edge_of_chaos_in_the_limit_of_depth(name: str, limit: float) -> None:
    assert init.gain(name, preserve="auto") == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "relu", "elu", "sigmoid", "gelu", "selu", "leaky_relu(0.2)"])
@pytest.mark.parametrize("q", [1.0, 0.1])
def test_the_edge_keeps_gradients_exactly_and_never_more_variance_than_there_was(name: str, q: float) -> None:
    """chi_1 = 1, and the Poincaré inequality for what is centred; a naive mean over 4 million draws as reference."""
    f, here = activation(name), edge(activation(name), q)
    assert here.weight**2 * moments(f, q).slope_square == pytest.approx(1, rel=1e-12)
    z = torch.randn(4_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * math.sqrt(q)
    after = here.weight**2 * (f.values(z)[0] - here.centre).square().mean()
    assert here.after == pytest.approx(float(after), rel=0.01)
    assert here.after <= q * (1 + 1e-9)


def test_relu_is_not_centred_since_that_would_starve_the_signal() -> None:
    here = edge(activation("relu"))
    assert (here.centre, here.after) == (0.0, pytest.approx(1.0, rel=1e-12))
    of = moments(activation("relu"))
    assert of.variance / of.slope_square == pytest.approx(1 - 1 / math.pi, rel=1e-10)  # what a centred layer would keep


def test_smooth_activations_lose_variance_like_one_over_depth() -> None:
    for name, slope in (("tanh", None), ("elu", 1 / 8)):
        late, later = edge_after(activation(name), 400).q, edge_after(activation(name), 800).q
        power = math.log(late / later) / math.log(2)
        assert power == pytest.approx(0.5 if slope is None else 1.0, abs=0.08)


def test_unstable_activations_begin_smaller() -> None:
    assert start(activation("tanh"), 200) == start(activation("relu"), 200) == 1.0
    assert start(activation("gelu"), 200) < start(activation("gelu"), 20) < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.gain("gleu"), "unknown activation 'gleu': did you mean 'gelu'"),
        (
            lambda: init.gain("relu", preserve="variances"),
            "unknown thing to preserve 'variances': did you mean 'variance'",
        ),
        (lambda: init.gain(torch.sign, "gradient"), r"activation sign has no gain: f'\(z\) is zero almost everywhere"),
        (lambda: init.gain("softshrink", "auto"), "activation softshrink is flat at 0"),
        (lambda: init.gain(lambda z: z.sum()), "is not elementwise"),
        (lambda: init.gain(torch.log), "is not finite for ordinary inputs"),
        (lambda: init.gain(math.tanh), "cannot be applied to a tensor of float64|not elementwise"),
        (lambda: init.gain(lambda z: z + torch.rand_like(z)), "do not settle: .* is it random"),
        (lambda: init.gain(lambda z: nn.functional.gelu(z.float())), "gives torch.float32 for float64, whose rounding"),
        (lambda: init.gain(lambda z: z.float().tanh().double()), "does it compute in float32 inside"),
        (lambda: init.gain(nn.GELU), r"got the class GELU: give GELU\(\)"),
        (lambda: init.gain(lambda z: z * z, "auto"), "is flat at 0"),
        (lambda: init.gain(lambda z: z.relu() ** 2, "auto", depth=3), "is flat at 0"),
        (lambda: init.gain(3), "an activation is a name or a callable, got 3"),
        (lambda: init.gain("leaky_relu(0.1, 2, 3, 4)"), r"activation 'leaky_relu\(0.1, 2, 3, 4\)' cannot be made"),
        (lambda: init.gain("tanh", "auto", depth=-1), "depth must be a whole number of layers or none, got -1"),
    ],
)
def test_what_has_no_gain_is_refused_with_a_reason(call: object, message: str) -> None:
    with pytest.raises(RavineError, match=message):
        call()  # type: ignore[operator]
