"""Small learnt maps from one shape to another: projections of skips, auxiliary heads, regressors of hints."""

import math

from torch import Tensor, nn

from ravine.core.errors import RavineError

Shape = tuple[int, ...]
_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Unfit(RavineError):
    """No map is built between these shapes; the message gives them."""


def convolves(*modules: nn.Module) -> bool:
    """Whether there are convolutions in the modules, so that the channels of what they make come second."""
    return any(isinstance(module, _CONVOLUTIONS) for outer in modules for module in outer.modules())


def channels_second(shape: Shape, modules: tuple[nn.Module, ...]) -> bool:
    """Whether (n, channels, ...) is meant and not (n, ..., features); three dimensions are decided by the modules."""
    return len(shape) > 3 or (len(shape) == 3 and convolves(*modules))


def project(before: Shape, after: Shape, second: bool) -> nn.Module | None:
    """A linear map, or a 1x1 convolution with a stride, from tensors of one shape to the other; None if it is the same.

    Raises `Unfit` where only reshaping or enlarging would do.
    """
    if before == after:
        return None
    if len(before) != len(after) or len(after) < 2:
        raise Unfit(f"{before} and {after} differ in their number of dimensions")
    if not second:
        if before[:-1] != after[:-1]:
            raise Unfit(f"{before} and {after} differ in more than their last dimension")
        return nn.Linear(before[-1], after[-1])
    strides = [_stride(a, b) for a, b in zip(before[2:], after[2:], strict=True)]
    if any(stride is None for stride in strides):
        raise Unfit(f"no stride makes {after[2:]} of {before[2:]}, which {before} and {after} would need")
    return _conv(len(before) - 2)(before[1], after[1], 1, stride=tuple(strides))


def _stride(before: int, after: int) -> int | None:
    tried = {max(1, round(before / after)), max(1, math.ceil(before / after)), max(1, before // after)}
    return next((stride for stride in sorted(tried) if (before - 1) // stride + 1 == after), None)


def _conv(dimensions: int) -> type[nn.Module]:
    if not 1 <= dimensions <= 3:
        raise Unfit(f"there are convolutions over one to three dimensions, not {dimensions}")
    return _CONVOLUTIONS[dimensions - 1]


def mix(shape: Shape, second: bool) -> nn.Module:
    """A linear map of the features at each place to as many: of (n, ..., features), or of channels by a 1x1 kernel."""
    return _conv(len(shape) - 2)(shape[1], shape[1], 1) if second else nn.Linear(shape[-1], shape[-1])


class Mean(nn.Module):
    """The mean over all dimensions between the first and the features, which come second or last."""

    def __init__(self, second: bool) -> None:
        super().__init__()
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        """(n, features)."""
        return x.flatten(2).mean(2) if self.second else x.flatten(1, -2).mean(1)


def head(features: Shape, output: Shape, second: bool) -> nn.Module:
    """A prediction of shape `output` from features: the mean over space or time where the output has none, then linear.

    Raises `Unfit` where the output has places that the features do not have.
    """
    if len(features) < 2:
        raise Unfit(f"features of shape {features} have nothing to predict from")
    if len(output) == 1:  # one number for each example
        return nn.Sequential(head(features, (*output, 1), second), nn.Flatten(0))
    wide = features[1] if second else features[-1]
    if len(output) == 2:
        linear = nn.Linear(wide, output[1])
        return linear if len(features) == 2 else nn.Sequential(Mean(second), linear)
    if second and features[2:] == output[2:]:
        return _conv(len(output) - 2)(wide, output[1], 1)
    if not second and features[:-1] == output[:-1]:
        return nn.Linear(wide, output[-1])
    raise Unfit(f"features of shape {features} do not have the places of an output of shape {output}")


def regressor(guided: Shape, hint: Shape, second: bool) -> nn.Module:
    """The map from a student's features to a teacher's (Romero et al. 2015, section 2.2).

    Linear for vectors and sequences. For images a convolution without padding whose kernel takes what the student has
    more, N_g - k + 1 = N_h. Raises `Unfit` where the student's are smaller, or the dimensions do not correspond.
    """
    if len(guided) != len(hint) or len(hint) < 2:
        raise Unfit(f"{guided} and {hint} differ in their number of dimensions")
    if not second:
        if guided[:-1] != hint[:-1]:
            raise Unfit(f"{guided} and {hint} differ in more than their last dimension")
        return nn.Linear(guided[-1], hint[-1])
    if any(a < b for a, b in zip(guided[2:], hint[2:], strict=True)):
        raise Unfit(f"the student's places {guided[2:]} are fewer than the teacher's {hint[2:]}")
    kernel = tuple(a - b + 1 for a, b in zip(guided[2:], hint[2:], strict=True))
    return _conv(len(hint) - 2)(guided[1], hint[1], kernel)
