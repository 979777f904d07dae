"""A surface: a loss of two numbers, with the window in which it is looked at."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.core.declared import check_value
from ravine.core.errors import RavineError

Loss = Callable[[Tensor, Tensor], Tensor]
Point = tuple[float, float]
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Surface:
    """A loss of two numbers, and what a picture of it must know.

    function(x, y) -> loss of two 0-d tensors; what its arguments are called stands at the axes.
    window: x from, x to, y from, y to: what is shown. A trajectory ends where it leaves it.
    start: where trajectories begin, inside the window.
    minima: the lowest points that are known.
    logarithmic: whether contours are drawn at even steps of the loss's logarithm; None lets its values decide.
    steps: the budget in gradient evaluations unless another is given.
    """

    function: Loss
    window: Window = (-3.0, 3.0, -3.0, 3.0)
    start: Point = (-2.0, 2.0)
    minima: tuple[Point, ...] = ()
    logarithmic: bool | None = None
    steps: int = 200

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise RavineError(f"a surface is a function of two tensors, got {self.function!r}")
        names = [p.name for p in _parameters(self.function) if p.kind is not p.KEYWORD_ONLY and p.default is p.empty]
        if len(names) != 2:
            raise RavineError(
                f"surface '{self.name}' must take two 0-d tensors, as in def {self.name}(x, y); it takes "
                f"({', '.join(names)})"
            )
        object.__setattr__(self, "window", self._checked_window())
        check_value(f"surface '{self.name}': steps", self.steps, int, "[1, inf)")
        self.check_start(self.start)

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", "surface")

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().split("\n")[0]

    @property
    def axes(self) -> tuple[str, str]:
        """What the two numbers are called."""
        first, second, *_ = (p.name for p in _parameters(self.function))
        return first, second

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y)

    @property
    def shown(self) -> str:
        """The window in words."""
        left, right, low, high = self.window
        return f"{self.axes[0]} from {left:g} to {right:g} and {self.axes[1]} from {low:g} to {high:g}"

    def within(self, window: Window, start: Point | None = None) -> "Surface":
        """The same surface in another window, and from another start where its own does not lie in it.

        >>> import ravine
        >>> ravine.surfaces.find("beale").within((0, 4, -1, 1), start=(1, 0.5)).window
        (0.0, 4.0, -1.0, 1.0)
        """
        return dataclasses.replace(self, window=window, start=self.start if start is None else start)

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in the window."""
        left, right, low, high = self.window
        return left <= x <= right and low <= y <= high

    def check_start(self, start: Point) -> None:
        """Raise unless trajectories can begin there."""
        if not all(math.isfinite(value) for value in start):
            raise RavineError(f"surface '{self.name}': a start is two finite numbers, got {start[0]}, {start[1]}")
        if not self.holds(*start):
            raise RavineError(
                f"surface '{self.name}': the start {start[0]:g}, {start[1]:g} lies outside the picture, which shows "
                f"{self.shown}: begin elsewhere, or give another window by --window or @surface(window=...)"
            )

    def _checked_window(self) -> Window:
        try:
            left, right, low, high = (float(end) for end in self.window)
        except (TypeError, ValueError):
            left = right = low = high = math.nan
        if not (math.isfinite(right - left) and math.isfinite(high - low) and left < right and low < high):
            raise RavineError(
                f"surface '{self.name}': a window is x from, x to, y from, y to: four finite numbers in rising order, "
                f"got {self.window}"
            )
        return left, right, low, high

    def gradient(self, at: Point) -> Point:
        """The gradient there; raises unless it and the loss can be taken."""
        point = [torch.tensor(float(value), dtype=torch.float64, requires_grad=True) for value in at]
        place, owner = f"at {at[0]:g}, {at[1]:g}", f"surface '{self.name}'"
        try:
            loss = self.function(*point)
        except Exception as error:
            raise RavineError(f"{owner} raised {type(error).__name__} {place}: {error}") from error
        if not isinstance(loss, Tensor) or loss.ndim:
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise RavineError(
                f"{owner} must return a scalar, a 0-d tensor, for two 0-d tensors; {place} it gave {found}"
            )
        try:
            slopes = torch.autograd.grad(loss, point, allow_unused=True) if loss.requires_grad else (None, None)
        except Exception as error:  # a backward pass may be the user's, too
            raise RavineError(f"{owner} is not differentiable {place}: {error}") from error
        if all(slope is None for slope in slopes):
            raise RavineError(
                f"{owner} is not differentiable: its value does not come from its arguments by operations of torch "
                "(item(), float() and numpy lead out of them)"
            )
        first, second = (0.0 if slope is None else slope.item() for slope in slopes)
        if not all(map(math.isfinite, (loss.item(), first, second))):
            raise RavineError(
                f"{owner} has the loss {loss.item():g} and the gradient ({first:g}, {second:g}) {place}: "
                "begin elsewhere"
            )
        return first, second


def surface(
    window: Window,
    start: Point,
    minima: tuple[Point, ...] = (),
    logarithmic: bool | None = None,
    steps: int = 200,
) -> Callable[[Loss], Surface]:
    """Make a `Surface` of the function that follows; see there for what is declared.

    >>> @surface(window=(-2, 2, -1, 1), start=(-1.5, 0.5))
    ... def bowl(x, y):
    ...     return x**2 + 4 * y**2
    >>> bowl.name, bowl.axes
    ('bowl', ('x', 'y'))
    """
    return lambda function: Surface(function, window, start, minima, logarithmic, steps)


def _parameters(function: Loss) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # written in C, as torch.add is
        return [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in "xy"]
