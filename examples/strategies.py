"""Tasks for docs/strategies.md: nets on handwritten digits that are deep, thin or both.

ravine pretrain examples/strategies.py:deep_sigmoid --direct
ravine transfer examples/strategies.py:five_layers --few 30
ravine distill examples/strategies.py:thin --teacher examples/strategies.py:wide
"""

import dataclasses

from torch import nn

import ravine


def _net(wide: int, layers: int, activation: type[nn.Module], spread: float | None = None) -> nn.Module:
    parts: list[nn.Module] = []
    for number in range(layers - 1):
        parts += [nn.Linear(64 if number == 0 else wide, wide), activation()]
    model = nn.Sequential(*parts, nn.Linear(wide, 10))
    for p in model.parameters() if spread is not None else ():
        nn.init.uniform_(p, -spread, spread)
    return model


def _on_digits(name: str, *net: object) -> ravine.Task:
    return dataclasses.replace(ravine.task("digits-mlp"), name=name, model=lambda: _net(*net))


def deep_sigmoid() -> ravine.Task:
    """Eight layers of 64 sigmoids, weights uniform in ±1/sqrt(64) as was usual before 2010."""
    return _on_digits("deep-sigmoid", 64, 8, nn.Sigmoid, 0.125)


def deep_relu() -> ravine.Task:
    """The same with ReLU and torch's own weights: the control, which trains by itself."""
    return _on_digits("deep-relu", 64, 8, nn.ReLU)


def five_layers() -> ravine.Task:
    """Five layers of 64 ReLU."""
    return _on_digits("five-layers", 64, 5, nn.ReLU)


def wide() -> ravine.Task:
    """A teacher of three layers, 256 ReLU wide."""
    return _on_digits("wide", 256, 3, nn.ReLU)


def thin() -> ravine.Task:
    """A student of eleven layers, 16 tanh wide."""
    return _on_digits("thin", 16, 11, nn.Tanh)
