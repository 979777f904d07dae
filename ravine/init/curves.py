"""Functions of torch as activations with their settings; functions of one signal and of numbers, such as 2 z."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ravine.init.activations import Activation, activation
from ravine.init.functions import Called

_CURVES = {
    "sin", "cos", "abs", "absolute", "exp", "expm1", "erf", "square", "pow", "atan", "arctan", "sinh", "asinh",
    "arcsinh", "clamp", "clip", "clamp_min", "clamp_max", "threshold",
}  # fmt: skip
_LINES = {
    "add": "z + {}", "iadd": "z + {}", "radd": "z + {}", "sub": "z - {}", "isub": "z - {}", "rsub": "{} - z",
    "mul": "{} z", "imul": "{} z", "rmul": "{} z", "multiply": "{} z", "div": "z / {}", "idiv": "z / {}",
    "truediv": "z / {}", "itruediv": "z / {}", "divide": "z / {}", "true_divide": "z / {}", "neg": "-z",
    "negative": "-z",
}  # fmt: skip
Function = Callable[..., Any]


def curve(name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """A curve of torch's with these settings, None where the function is none or a setting is no number."""
    return _made(name, function, args, kwargs) if name in _CURVES else None


def line(name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """A z + b, None where the function is none such."""
    return _made(name, function, args, kwargs) if name in _LINES else None


def _made(name: str, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    settings = tuple(kwargs.items())
    plain = all(isinstance(value, int | float | None) for value in (*args[1:], *kwargs.values()))
    return _curve(name, function, args[1:], settings) if args and isinstance(args[0], Tensor) and plain else None


@lru_cache(256)  # the same object each time, so that layers of the same curve are seen to be so
def _curve(
    name: str, function: Function, numbers: tuple[float, ...], settings: tuple[tuple[str, float], ...]
) -> Activation:
    words = dict(settings)
    if name in _LINES:
        label = f"({_LINES[name].format(f'{numbers[0]:.4g}' if numbers else '')})"
    else:
        said = [*map(repr, numbers), *(f"{key}={value}" for key, value in settings)]
        label = f"{name}({', '.join(said)})" if said else name
    return Activation(label, lambda z: function(z.clone(), *numbers, **words))


def seen(act: Called) -> Activation:
    """The activation that a function of torch is, with its settings."""
    if act.name == "prelu":
        slopes = act.more[0] if act.more else act.rest["weight"]
        return activation(nn.PReLU(init=float(slopes.detach().mean())))
    settings = [repr(float(value)) for value in act.more if isinstance(value, int | float)]
    words = {key: value for key, value in act.rest.items() if key in _SETTINGS and not isinstance(value, bool)}
    text = ", ".join([*settings, *(f"{key}={value}" for key, value in words.items())])
    named = activation(f"{act.name}({text})" if text else act.name)
    return activation(act.name) if _same(named, activation(act.name)) else named


_SETTINGS = {
    "negative_slope", "alpha", "min_val", "max_val", "approximate", "beta", "threshold", "lambd", "lower", "upper",
}  # fmt: skip
_PROBE = torch.tensor([-30.0, -2.5, -0.7, 0.3, 1.7, 7.0], dtype=torch.float64)


def _same(f: Activation, g: Activation) -> bool:
    return torch.equal(f.values(_PROBE)[0], g.values(_PROBE)[0])
