"""Normalization layers that torch does not have: with channels in the last place, by ghost batches, behind an RNN."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence

from ravine.core.errors import RavineError
from ravine.core.modes import BATCH_OF_ONE


class Normalized(nn.Sequential):
    """A layer and the normalization behind it, in the layer's place: parameters `NAME.layer.*` and `NAME.norm.*`.

    The layer's settings, such as `out_features`, are read through it; weights are not, since a forward that computes
    with them would pass the normalization by.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__(OrderedDict(layer=layer, norm=norm))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return _setting(self, name)


def _setting(pair: nn.Module, name: str) -> Any:
    """What the layer of `pair` has under this name, unless it is a weight or a method."""
    layer = pair.__dict__.get("_modules", {}).get("layer")
    found = None if layer is None or name.startswith("_") else getattr(layer, name, None)
    if isinstance(found, Tensor):
        raise AttributeError(
            f"'{name}' belongs to the {type(layer).__name__} inside, as .layer.{name}, behind which normalization was "
            "put: a forward that computes with it would pass the normalization by"
        )
    if found is None or callable(found):
        raise AttributeError(f"'{type(pair).__name__}' object has no attribute '{name}'")
    return found


def _refuse_one(norm: Any, input: Tensor) -> None:
    """Raise for one value to a channel in training, where torch says no more than that."""
    if norm.training and input.numel() // norm.num_features < 2:
        raise RavineError(f"input of shape {tuple(input.shape)} to batch normalization: {BATCH_OF_ONE}")


class _Told:
    """Batch normalization behind a convolution: torch's, which says what to do about a batch of one."""

    def forward(self, input: Tensor) -> Tensor:
        """The batch, normalized."""
        _refuse_one(self, input)
        made: Tensor = super().forward(input)  # type: ignore[misc]  # of the class that this one stands before
        return made


class BatchNorm1d(_Told, nn.BatchNorm1d):
    """torch's, with advice about a batch of one."""


class BatchNorm2d(_Told, nn.BatchNorm2d):
    """torch's, with advice about a batch of one."""


class BatchNorm3d(_Told, nn.BatchNorm3d):
    """torch's, with advice about a batch of one."""


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization of features in the last place, over everything else: (N, C), (N, T, C), (N, H, W, C).

    Ioffe & Szegedy 2015, Algorithm 1 (arXiv:1502.03167); Goodfellow, Bengio & Courville 2016, eqs. 8.35-8.37. Raises
    `RavineError` for a batch of one in training, which has no variance.
    """

    channel_dim = -1

    def forward(self, input: Tensor) -> Tensor:
        """The batch, normalized."""
        flat = input if input.ndim == 2 else input.flatten(0, -2) if input.ndim > 1 else input[None]
        _refuse_one(self, flat)
        return super().forward(flat).view(input.shape)


class GroupNorm(nn.GroupNorm):
    """Group normalization of features in the last place, for each example and position alone: (..., C).

    Wu & He 2018, eq. 1 (arXiv:1803.08494).
    """

    def forward(self, input: Tensor) -> Tensor:
        """The features, normalized in groups."""
        return super().forward(input.reshape(-1, input.shape[-1])).view(input.shape)


class GhostBatchNorm(_BatchNorm):
    """Batch normalization by ghost batches: in training each part of about `size` examples by its own statistics.

    A large batch is cut into parts of at least `size` examples as equal as they can be; running statistics are updated
    by one part after the other, and count parts, so that momentum=None gives their mean. In evaluation it is batch
    normalization. Hoffer, Hubara & Soudry 2017, Algorithm 1 (arXiv:1705.08741).
    """

    def __init__(self, num_features: int, size: int = 32, channel_dim: int = 1, **options: Any) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise RavineError(f"the size of ghost batches must be a whole number from 2, got {size!r}")
        super().__init__(num_features, **options)
        self.size, self.channel_dim = size, channel_dim

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """The batch, normalized part by part in training."""
        if not self.training:
            return self._normalized(super().forward, input)
        _refuse_one(self, input)
        parts = input.tensor_split(max(1, len(input) // self.size))
        return torch.cat([self._normalized(self._by_itself, part) for part in parts])

    def _normalized(self, function: Any, x: Tensor) -> Tensor:
        if self.channel_dim == 1 or x.ndim == 2:
            return function(x)  # type: ignore[no-any-return]
        return function(x.flatten(0, -2)).view(x.shape)  # type: ignore[no-any-return]

    def _by_itself(self, x: Tensor) -> Tensor:
        count = self.num_batches_tracked
        if count is not None:
            count.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(count if count is not None else 1)
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps)

    def extra_repr(self) -> str:
        """As torch's, with the size of the parts."""
        return f"{super().extra_repr()}, size={self.size}"  # type: ignore[no-untyped-call]


class NormalizedRNN(nn.Module):
    """A recurrent layer whose outputs are normalized at each step; its state is handed on as it is.

    The steps inside are torch's own kernel, between which nothing can stand: Ba, Kiros & Hinton 2016 (arXiv:1607.06450)
    normalize there too.
    """

    def __init__(self, layer: nn.RNNBase, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return _setting(self, name)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """As the recurrent layer's."""
        output, state = self.layer(input, hx)
        if isinstance(output, PackedSequence):
            return output._replace(data=self.norm(output.data)), state
        return self.norm(output), state

    def flatten_parameters(self) -> None:
        """As the recurrent layer's."""
        self.layer.flatten_parameters()
