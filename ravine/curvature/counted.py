"""Products that are counted, told to whoever watches, and refused where they are not finite."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.operator import Operator

Observe = Callable[[int, int], None] | None
"""Called after every product, or block of them, with the number so far and the most there may be."""


class Counted(Operator):
    """An operator that counts its products: what an estimator works with."""

    def __init__(self, A: Operator, most: int, observe: Observe = None) -> None:
        if not isinstance(A, Operator):
            raise RavineError(
                f"curvature is estimated of an Operator (hessian, gauss_newton, of_function, ...), got "
                f"{type(A).__name__}; a matrix a is Operator(len(a), lambda v: a @ v, dtype=a.dtype)"
            )
        super().__init__(A.size, self._counted, dtype=A.dtype, device=A.device, slices=A.slices)
        self.most, self.spent = most, 0
        self._given, self._observe = A, observe

    def _counted(self, v: Tensor) -> Tensor:
        made = self._given @ v
        self.spent += v.shape[1]
        if not math.isfinite(float(made.sum())) and not torch.isfinite(made).all():  # the sum takes a tenth of the time
            raise RavineError(
                f"product {self.spent} with the operator is not finite: look at the parameters and data for numbers "
                f"that are huge or not finite, or use a wider dtype than {self.dtype}"
            )
        if self._observe is not None:
            self._observe(self.spent, max(self.spent, self.most))
        return made
