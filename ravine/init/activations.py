"""Activation functions by name, or as anything that takes and gives a tensor, elementwise."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError, unknown

Function = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "linear": nn.Identity, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "rrelu": nn.RReLU,
    "relu6": nn.ReLU6, "elu": nn.ELU, "selu": nn.SELU, "celu": nn.CELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "mish": nn.Mish, "softplus": nn.Softplus, "softsign": nn.Softsign, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh, "hardsigmoid": nn.Hardsigmoid, "hardswish": nn.Hardswish, "logsigmoid": nn.LogSigmoid,
    "tanhshrink": nn.Tanhshrink, "softshrink": nn.Softshrink, "hardshrink": nn.Hardshrink,
}  # fmt: skip
ALIASES = {"identity": "linear", "swish": "silu", "log_sigmoid": "logsigmoid", "hard_tanh": "hardtanh"}
MODULES = {kind: name for name, kind in ACTIVATIONS.items()}
_CALL = re.compile(r"\s*(\w+)\s*(?:\(\s*(.*?)\s*\))?\s*")


@dataclass(frozen=True)
class Activation:
    """An activation: its label, and a function of float64 tensors."""

    label: str
    function: Function

    def __str__(self) -> str:
        return self.label

    def of(self, inner: "Activation") -> "Activation":
        """This activation of another."""
        return _composed(self, inner)

    def values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(f(z), f'(z)) in float64; raises `RavineError` where f is no differentiable elementwise function."""
        with torch.inference_mode(False), torch.enable_grad():  # what a caller is in changes no function
            z = z.detach().double().clone().requires_grad_()
            try:
                f = self.function(z)
            except (TypeError, RuntimeError, ValueError) as error:
                raise RavineError(
                    f"activation {self.label} cannot be applied to a tensor of float64: {error}"
                ) from error
            if not isinstance(f, Tensor) or f.shape != z.shape:
                raise RavineError(
                    f"activation {self.label} is not elementwise: it must give a tensor of its input's shape"
                )
            slope = torch.zeros_like(z)
            if f.requires_grad:
                (slope,) = torch.autograd.grad(f.sum(), z)
        if not (f.isfinite().all() and slope.isfinite().all()):
            raise RavineError(f"activation {self.label} or its derivative is not finite for ordinary inputs")
        return f.detach().double(), slope.double()


@lru_cache(1024)  # the same object each time, so that layers of the same two are seen to be so
def _composed(outer: Activation, inner: Activation) -> Activation:
    return Activation(f"{outer.label} of {inner.label}", lambda z: outer.function(inner.function(z)))


def activation(given: "str | Function | Activation") -> Activation:
    """The activation of a name such as "tanh" or "leaky_relu(0.1)", or of a callable; unknown names raise.

    >>> str(activation("leaky_relu(0.1)"))
    'leaky_relu(0.1)'
    """
    if isinstance(given, Activation):
        return given
    if isinstance(given, str):
        return _named(given)
    if isinstance(given, nn.Module) and type(given) in MODULES:
        return _of_module(given)
    if isinstance(given, type):
        made = f"give {given.__name__}()" if issubclass(given, nn.Module) else "give a function of a tensor"
        raise RavineError(f"an activation is a name or a callable, got the class {given.__name__}: {made}")
    if not callable(given):
        raise RavineError(f"an activation is a name or a callable, got {given!r}; names: {', '.join(ACTIVATIONS)}")
    return Activation(getattr(given, "__name__", type(given).__name__), _still(given))


def _of_module(given: nn.Module) -> Activation:
    """The activation of a module of torch's, under the same label as the same function by name."""
    name = MODULES[type(given)]
    if isinstance(given, nn.PReLU):
        slope = float(given.weight.detach().mean())
        return _named("prelu" if slope == 0.25 else f"prelu(1, {slope!r})")
    arguments = given.extra_repr().replace(", inplace=True", "").replace("inplace=True", "")
    usual = name == "linear" or arguments == ACTIVATIONS[name]().extra_repr()
    return _named(name if usual else f"{name}({arguments})")


@lru_cache(1024)
def _named(text: str) -> Activation:
    found = _CALL.fullmatch(text)
    name = ALIASES.get(found[1], found[1]) if found else text
    if not found or name not in ACTIVATIONS:
        raise unknown("activation", name, [*ACTIVATIONS, *ALIASES], "Or give the function itself.")
    words: dict[str, float | str] = {}
    numbers: list[float | str] = []
    for part in filter(None, re.split(r"\s*,\s*", found[2] or "")):
        key, equals, value = part.partition("=")
        if equals:
            words[key.strip()] = _value(value)
        else:
            numbers.append(_value(part))
    try:
        if name == "prelu" and numbers:  # its first argument is a count of slopes
            numbers[0] = int(float(numbers[0]))
        made = ACTIVATIONS[name](*numbers, **words)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RavineError(f"activation '{text}' cannot be made: {error}") from error
    return Activation(f"{name}({found[2]})" if found[2] else name, _still(made))


def _value(text: str) -> float | str:
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"")


def _still(function: Function) -> Function:
    """The function as it is when nothing is random and nothing is written in place."""
    if not isinstance(function, nn.Module):
        return lambda z: function(z.clone())

    def evaluated(z: Tensor) -> Tensor:
        if isinstance(function, nn.RReLU):
            return nn.functional.leaky_relu(z, (function.lower + function.upper) / 2)
        if isinstance(function, nn.PReLU):
            return nn.functional.leaky_relu(z, float(function.weight.detach().mean()))
        value: Tensor = function(z.clone())
        return value

    return evaluated
