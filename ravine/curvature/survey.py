"""All there is to say of one operator at a time: both ends of its spectrum, what lies between, and layer by layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from ravine.core.errors import RavineError
from ravine.core.operator import Operator
from ravine.curvature.chance import check_count
from ravine.curvature.condition import condition_number
from ravine.curvature.counted import Observe
from ravine.curvature.eigen import bottom, top
from ravine.curvature.negative import negative_curvature
from ravine.curvature.result import Eigenpairs, Estimate
from ravine.curvature.spectrum import Spectrum, spectrum
from ravine.curvature.trace import trace

Watch = Callable[[str, int, int], None] | None
"""Called with what is being estimated, its products so far, and the most there may be."""

LEAST, MEMORY = 30, 8e9  # vectors without which no end of a spectrum is found; bytes that all of them may take
_DENSE = 500  # up to this size eigenvalues are counted one by one
_WIDE = 0.05  # a share of eigenvalues that may be off by more is not known
_TIGHT = 0.1  # of its value, the error at which a trace is good enough


@dataclass(frozen=True)
class Survey:
    """What is known of an operator, each with its error and whether it converged.

    negative: the share of eigenvalues below `limit`, which is -cut |λ|max.
    """

    size: int
    top: Eigenpairs
    bottom: Eigenpairs
    trace: Estimate
    condition: Estimate
    negative: Estimate
    limit: float
    spectrum: Spectrum

    @property
    def products(self) -> int:
        """The products with the operator that all of it took."""
        parts = (self.top, self.bottom, self.trace, self.condition, self.spectrum)
        return sum(part.products for part in parts) + (self.negative.products if self.size <= _DENSE else 0)


@dataclass(frozen=True)
class Layer:
    """One layer's own block: how many numbers, the largest eigenvalue, the trace."""

    size: int
    top: Eigenpairs
    trace: Estimate


def survey(
    A: Operator,
    k: int = 1,
    *,
    samples: int = 100,
    cut: float = 0.01,
    most: int | None = None,
    generator: torch.Generator | None = None,
    observe: Watch = None,
) -> Survey:
    """The k largest and k smallest eigenvalues, trace, condition number, share of negative eigenvalues and spectrum.

    samples: products for the trace at most; it stops where the error is a tenth of the value. cut: eigenvalues below
    -cut |λ|max count as negative; nearer to zero no share is known well. most: vectors of A's size in memory at most;
    unless given, 20 k + 200 for eigenvalues and 400 for the condition number, or what fits into 8 GB.

    >>> import torch
    >>> A = Operator(3, lambda v: torch.tensor([[-1.0], [2.0], [4.0]]) * v)
    >>> found = survey(A)
    >>> round(found.condition.value, 3), round(found.negative.value, 3), round(found.trace.value, 3)
    (4.0, 0.333, 5.0)
    """
    check_asked(A.size, k, samples, most, A.dtype.itemsize)
    room = vectors_that_fit(A.size, A.dtype.itemsize)
    ends, space = (most, most) if most is not None else (min(20 * k + 200, room), min(400, room))
    given = None if most is None and space == 400 else space  # unless told, it knows what small sizes need
    highest = top(A, k, most=ends, generator=generator, observe=_named("top eigenvalues", observe))
    lowest = bottom(A, k, most=ends, generator=generator, observe=_named("bottom eigenvalues", observe))
    limit = -cut * max(abs(float(highest.value[0])), abs(float(lowest.value[-1])))
    return Survey(
        A.size,
        highest,
        lowest,
        trace(A, samples=samples, tol=_TIGHT, generator=generator, observe=_named("trace", observe)),
        condition_number(A, most=given, generator=generator, observe=_named("condition number", observe)),
        *_between(A, limit, cut, space, generator, observe),
    )


def _between(
    A: Operator, limit: float, cut: float, most: int, generator: torch.Generator | None, observe: Watch
) -> tuple[Estimate, float, Spectrum]:
    """The share below the limit, the limit, and the spectrum."""
    steps = None if A.size <= most else min(80, most)
    found = spectrum(A, steps=steps, generator=generator, observe=_named("spectrum", observe))
    if A.size <= _DENSE:
        counted = negative_curvature(A, tol=cut, exact=_DENSE, observe=_named("negative eigenvalues", observe)).fraction
        assert counted is not None
        return counted, limit, found
    share = found.below(min(limit, -1e-300))  # zero is not negative
    if float(share.error) > _WIDE:
        reason = f"eigenvalues lie close to {limit:.2g} on both sides, and the share may be off by {share.error:.2g}"
        share = replace(share, converged=False, reason=reason)
    return share, limit, found


def survey_layers(
    layers: Mapping[str, Operator],
    *,
    samples: int = 100,
    most: int | None = None,
    generator: torch.Generator | None = None,
    observe: Watch = None,
) -> dict[str, Layer]:
    """The largest eigenvalue and the trace of each layer's block, as `per_layer` makes them."""
    found = {}
    for name, A in layers.items():
        check_asked(A.size, 1, samples, most, A.dtype.itemsize)
        room = most or min(220, vectors_that_fit(A.size, A.dtype.itemsize))
        seen = _named(f"layer {name}", observe)
        highest = top(A, most=room, generator=generator, observe=seen)
        found[name] = Layer(A.size, highest, trace(A, samples=samples, tol=_TIGHT, generator=generator, observe=seen))
    return found


def check_asked(size: int, k: int, samples: int, most: int | None, itemsize: int) -> None:
    """Raise unless a survey of an operator of that size can be made, before anything has been computed."""
    check_count("top", k, 1, size)
    check_count("samples", samples, 6)
    if most is not None:
        check_count("most", most, max(2, k))
    elif vectors_that_fit(size, itemsize) < min(size, max(LEAST, k)):
        raise RavineError(
            f"{size:,} parameters are too many: eigenvalues need {max(LEAST, k)} vectors of that size at least, "
            f"{max(LEAST, k) * size * itemsize / 1e9:.0f} GB, where {MEMORY / 1e9:.0f} GB are taken unless told "
            "otherwise: give most=, the number of vectors that memory holds, or a part of the model by params="
        )


def vectors_that_fit(size: int, itemsize: int) -> int:
    """How many vectors of so many numbers fit into the memory that a survey takes by itself."""
    return int(MEMORY / (size * itemsize))


def _named(name: str, observe: Watch) -> Observe:
    return None if observe is None else lambda done, most: observe(name, done, most)
