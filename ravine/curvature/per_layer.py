"""Curvature layer by layer."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from ravine.core.errors import RavineError
from ravine.core.roles import named_parameters

T = TypeVar("T")


def per_layer(make: Callable[[list[str]], T], model: nn.Module) -> dict[str, T]:
    """What `make` says of each layer: a module with trainable parameters of its own, by its name, in their order.

    make gets the names of the layer's parameters, as `params=` takes them, so that a product costs that layer's part
    only. A layer stands for its diagonal block: how layers act on each other is not in it. Parameters that the model
    itself holds stand under their own names; a parameter that layers share counts with the first.

    >>> import torch, ravine
    >>> model = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 1))
    >>> batch = torch.ones(4, 2), torch.ones(4, 1)
    >>> def loss(model, batch):
    ...     return (model(batch[0]) - batch[1]).square().mean()
    >>> found = per_layer(lambda names: ravine.curvature.hessian(model, loss, batch, names), model)
    >>> {name: H.shape for name, H in found.items()}
    {'0': (3, 3), '2': (2, 2)}
    """
    layers: dict[str, list[str]] = {}
    for name, p in named_parameters(model).items():
        if p.requires_grad:
            layer = name.split(".parametrizations.")[0].rpartition(".")[0] or name
            layers.setdefault(layer, []).append(name)
    if not layers:
        raise RavineError("the model has no trainable parameters: let some require gradients")
    return {layer: make(names) for layer, names in layers.items()}
