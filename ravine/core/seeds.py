# ruff: noqa: NPY002 - the legacy global state of NumPy is what users' augmentations draw from
"""Seeds and random states: every use of chance in a run has a stream of its own, derived from the run's one seed."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A seed for one use of chance: the same for the same names, unrelated for others.

    >>> derive(0, "init") == derive(0, "init") != derive(0, "shuffle")
    True
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of torch, seeded by `derive`."""
    return torch.Generator().manual_seed(derive(seed, *names))


class GlobalStream:
    """The global random states of torch, NumPy and Python, as one stream that is switched in by `with`.

    Models draw from global states when they are built, and dropout and augmentation while they train. Inside the
    block these draws come from this stream; outside, the caller's states are as they were.
    """

    def __init__(self, seed: int, device: torch.device | None = None) -> None:
        self._cuda = device if device is not None and device.type == "cuda" else None
        with self._kept():
            torch.default_generator.manual_seed(seed)
            if self._cuda is not None:
                torch.cuda.default_generators[self._cuda.index or 0].manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            self._state = self.now()

    def now(self) -> dict[str, Any]:
        """The global states at this moment, in a form that `torch.save` keeps."""
        state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
        kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        state["numpy"] = (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss)
        if self._cuda is not None:
            state["cuda"] = torch.cuda.get_rng_state(self._cuda)
        return state

    def _set(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        random.setstate(state["python"])
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        if self._cuda is not None:
            torch.cuda.set_rng_state(state["cuda"], self._cuda)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        before = self.now()
        try:
            yield
        finally:
            self._set(before)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Switched in for a block, and left as it was: every such block draws the same numbers."""
        with self._kept():
            self._set(self._state)
            yield

    def __enter__(self) -> Self:
        self._outside = self.now()
        self._set(self._state)
        return self

    def __exit__(self, *_: object) -> None:
        self._state = self.now()
        self._set(self._outside)

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state
