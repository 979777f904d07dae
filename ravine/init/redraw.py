"""New weights for the layers that a search scales: dense or sparse."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ravine.init.parts import Part
from ravine.init.sparse import sparse

KINDS = ("dense", "sparse")
_INCOMING = 15


def redraw(parts: Mapping[str, Part], kind: str, generator: torch.Generator | None) -> None:
    """Draw every part's weights anew: "dense" orthogonal, "sparse" with 15 incoming ones a unit (or all, if fewer)."""
    for part in parts.values():
        weights = part.weights()
        rows = weights.reshape(len(weights), -1)
        weights.copy_((_orthogonal(rows, generator) if kind == "dense" else _sparse(rows, generator)).view_as(weights))


def _sparse(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    k = min(_INCOMING, rows.shape[1])
    return sparse(tuple(rows.shape), k=k, generator=generator, dtype=rows.dtype, device=rows.device)


def _orthogonal(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """Orthonormal rows, or columns where there are fewer of these."""
    place = generator.device if generator is not None else rows.device
    drawn = torch.randn(rows.shape, generator=generator, device=place, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn if drawn.shape[0] >= drawn.shape[1] else drawn.T)
    q = q * r.diagonal().sign()  # uniform over the orthogonal matrices (Mezzadri 2007)
    return (q if drawn.shape[0] >= drawn.shape[1] else q.T).to(rows)
