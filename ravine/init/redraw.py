"""New weights for the layers that a search scales: dense or sparse."""

from collections.abc import Mapping
from typing import Any

import torch

from ravine.init.observed import Part
from ravine.init.orthogonal import orthogonal
from ravine.init.sparse import sparse

KINDS = ("dense", "sparse")
_INCOMING = 15


def redraw(parts: Mapping[str, Part], kind: str, generator: torch.Generator | None) -> None:
    """Draw every part's weights anew: "dense" orthogonal, "sparse" with 15 incoming ones a unit (or all, if fewer)."""
    for part in parts.values():
        weights = part.weights()
        rows = weights.reshape(len(weights), -1)
        place: Any = {"generator": generator, "dtype": rows.dtype, "device": rows.device}
        if kind == "dense":
            drawn = orthogonal(tuple(rows.shape), **place)
        else:
            drawn = sparse(tuple(rows.shape), k=min(_INCOMING, rows.shape[1]), **place)
        weights.copy_(drawn.view_as(weights))
