"""The values of a surface on a grid, and where its contours lie."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ravine.core.errors import RavineError
from ravine.surfaces.definition import Surface

Values = NDArray[np.float64]
FINE, COARSE, CONTOURS = 320, 80, 18


def grid(surface: Surface) -> tuple[Values, Values, Values]:
    """x, y and the loss at every y (a row) and x (a column); NaN where it has none.

    The whole grid goes through the function at once, if it comes out as point by point; else a coarser one goes
    point by point. Where it raises at most points, there is no picture: a `RavineError`.
    """
    left, right, low, high = surface.window
    for n in (FINE, COARSE):
        x, y = (torch.linspace(*ends, n, dtype=torch.float64) for ends in ((left, right), (low, high)))
        across, up = (part.contiguous() for part in torch.meshgrid(x, y, indexing="xy"))
        found = _at_once(surface, across, up) if n == FINE else _one_by_one(surface, across, up)
        if found is not None:
            break
    assert found is not None
    values = found.numpy()
    return x.numpy(), y.numpy(), np.where(np.isfinite(values), values, np.nan)


def levels(surface: Surface, values: Values) -> Values:
    """The losses at which contours are drawn, rising: in even steps, or in even steps of the logarithm.

    Those of a logarithm are counted from zero, or from the lowest value where that is negative.
    """
    seen = values[np.isfinite(values)]
    if seen.size == 0 or seen.min() == seen.max():
        return np.array([])
    base = min(0.0, float(seen.min()))
    low, middle, high = np.quantile(seen - base, (0.002, 0.5, 1.0))
    logarithmic = surface.logarithmic
    if logarithmic is None:
        logarithmic = bool(high > 30 * middle)
    if logarithmic:
        low = max(low, 1e-5 * high)
        return base + np.geomspace(low, high, CONTOURS + 1)[:-1]
    return np.linspace(seen.min(), seen.max(), CONTOURS)[1:-1]


def _at_once(surface: Surface, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
    """The loss on the grid, or None where the function is not one for each point alone."""
    try:
        with torch.no_grad():
            found: Any = surface(x, y)
            if not isinstance(found, torch.Tensor) or found.shape != x.shape:
                return None
            for i in range(0, x.numel(), x.numel() // 7):
                row, column = divmod(i, x.shape[1])
                alone = surface(x[row, column], y[row, column])
                if not torch.allclose(alone.double(), found[row, column].double(), equal_nan=True):
                    return None
    except Exception:  # a function of two numbers need not take anything else
        return None
    return found.double()


def _one_by_one(surface: Surface, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    found, raised = torch.full_like(x, torch.nan), list[Exception]()
    with torch.no_grad():
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                try:
                    found[row, column] = surface(x[row, column], y[row, column])
                except Exception as error:  # outside of where it is defined; the start was tried before
                    raised.append(error)
    if 2 * len(raised) > x.numel():
        raise RavineError(
            f"surface '{surface.name}' raised at {len(raised)} of {x.numel()} points of the picture, which shows "
            f"{surface.shown} (first {type(raised[0]).__name__}: {raised[0]}): give it a window in which it has "
            "values, by --window or @surface(window=...)"
        ) from raised[0]
    return found
