"""Initializations: what they draw has the distribution that the papers say, at a stated confidence."""

import pytest
import torch

from ravine import RavineError, init


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(256, 784), (784, 256), (64, 3, 5, 5)])
def test_sparse_gives_every_unit_k_incoming_weights(shape: tuple[int, ...]) -> None:
    w = init.sparse(shape, k=15, generator=generator())
    assert (w.flatten(1) != 0).sum(1).tolist() == [15] * shape[0]


def test_sparse_with_replacement_has_as_many_places_as_drawing_with_replacement() -> None:
    counts = (init.sparse((4000, 30), k=15, replace=True, generator=generator()) != 0).sum(1).double()
    expected = 30 * (1 - (1 - 1 / 30) ** 15)
    assert counts.max() <= 15
    assert abs(counts.mean() - expected) < 4 * counts.std() / 4000**0.5  # one failure in 16,000 seeds


def test_sparse_refuses_more_weights_than_there_are_inputs() -> None:
    with pytest.raises(RavineError, match=r"k=15 incoming weights a unit, .* has fan_in 10: k must be in \[1, 10\]"):
        init.sparse((256, 10), k=15)
