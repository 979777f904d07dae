"""A symmetric linear map on flat vectors, known by its action: whatever is said of curvature is said of one of these.

Makers (`ravine.curvature.hessian`, `gauss_newton`, ...) return one, estimators (`trace`, `top`, `solve`, ...) take one,
and neither knows the other.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ravine.core.errors import RavineError, unknown

Apply = Callable[[Tensor], Tensor]
Scalar = int | float


class Operator:
    """The symmetric map v -> A v on vectors of `size` numbers.

    apply: from a block of vectors (size, k) to the block of their images, of the same shape, dtype and device.
    slices: where the numbers of each named parameter stand in a vector, for makers that know.

    >>> import torch
    >>> a = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    >>> A = Operator(2, lambda v: a @ v, dtype=a.dtype)
    >>> (2.0 * A + A.shifted(1.0)).dense()
    tensor([[ 7.,  3.],
            [ 3., 10.]], dtype=torch.float64)
    """

    def __init__(
        self,
        size: int,
        apply: Apply,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        slices: Mapping[str, slice] | None = None,
    ) -> None:
        if size < 1:
            raise RavineError(f"an operator needs a size of 1 at least, got {size}")
        self.size, self.dtype, self.device = size, dtype, torch.device(device)
        self.slices = dict(slices or {})
        self._apply = apply

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def __matmul__(self, v: Tensor) -> Tensor:
        """A v for a vector (n,), or A V for a block of vectors as columns (n, k)."""
        self._check(v)
        with torch.no_grad():
            return self._apply(v.detach().unsqueeze(1)).squeeze(1) if v.ndim == 1 else self._apply(v.detach())

    def _check(self, v: object) -> None:
        if not isinstance(v, Tensor):
            raise RavineError(f"an operator of size {self.size} acts on tensors, got {type(v).__name__}")
        if v.ndim not in (1, 2) or v.shape[0] != self.size:
            raise RavineError(
                f"shapes do not match: an operator of shape {self.shape} acts on vectors ({self.size},) or blocks "
                f"({self.size}, k), got {tuple(v.shape)}"
            )
        if not v.numel():
            raise RavineError(f"a block of no vectors has no product: give ({self.size}, k) with k of 1 at least")
        if v.dtype != self.dtype or v.device != self.device:
            raise RavineError(
                f"an operator of {self.dtype} on {self.device} acts on vectors of the same kind, got {v.dtype} on "
                f"{v.device}: write v.to(A.device, A.dtype)"
            )

    def __add__(self, other: "Operator") -> "Operator":
        self._compare(other)
        return self._made(lambda v: self._apply(v) + other._apply(v))

    def __radd__(self, other: int) -> "Operator":
        """0 + A, with which `sum` starts."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __sub__(self, other: "Operator") -> "Operator":
        return self + (-1.0) * other

    def __rmul__(self, factor: Scalar) -> "Operator":
        if not isinstance(factor, int | float):
            return NotImplemented
        return self._made(lambda v: factor * self._apply(v))

    def __mul__(self, factor: Scalar) -> "Operator":
        return self.__rmul__(factor)

    def __truediv__(self, by: Scalar) -> "Operator":
        if not isinstance(by, int | float):
            return NotImplemented
        if by == 0:
            raise RavineError("an operator cannot be divided by 0")
        return self._made(lambda v: self._apply(v) / by)

    def __neg__(self) -> "Operator":
        return (-1.0) * self

    def shifted(self, by: float) -> "Operator":
        """A + by I."""
        return self._made(lambda v: self._apply(v) + by * v)

    def restricted(self, to: str | slice) -> "Operator":
        """The block of A on some of its coordinates: those of a parameter or module by name, or of a slice.

        A product costs as much as one of A; a maker that is told `params=` makes a cheaper one.
        """
        place = self._places(to) if isinstance(to, str) else torch.arange(self.size)[to]
        place = place.to(self.device)
        if not len(place):
            raise RavineError(f"nothing is left of {self.size} coordinates by {to}")

        def apply(v: Tensor) -> Tensor:
            whole = v.new_zeros(self.size, v.shape[1])
            whole[place] = v
            return self._apply(whole)[place]

        return Operator(len(place), apply, dtype=self.dtype, device=self.device)

    def _places(self, name: str) -> Tensor:
        inside = [part for key, part in self.slices.items() if key == name or key.startswith(f"{name}.")]
        if not inside:
            raise unknown("parameter or module", name, self.slices)
        return torch.cat([torch.arange(part.start, part.stop) for part in inside])

    def dense(self) -> Tensor:
        """The matrix (n, n), made of n products."""
        return self @ torch.eye(self.size, dtype=self.dtype, device=self.device)

    def _compare(self, other: object) -> None:
        if not isinstance(other, Operator):
            raise TypeError(f"an operator can be added to another only, got {type(other).__name__}")
        mine, theirs = ((one.size, one.dtype, one.device) for one in (self, other))
        if mine != theirs:
            raise RavineError(f"operators of different kinds: {mine} and {theirs}")

    def _made(self, apply: Apply) -> "Operator":
        return Operator(self.size, apply, dtype=self.dtype, device=self.device, slices=self.slices)

    def __repr__(self) -> str:
        return f"Operator({self.size} x {self.size}, {self.dtype}, {self.device})"
