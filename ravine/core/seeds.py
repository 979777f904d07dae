
"""Seeds and random states: every use of chance in a run has a stream of its own, derived from the run's one seed."""

import ctypes
import hashlib
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import numpy as np
import torch

_legacy: Any = np.random  # numpy's types leave out how its global generator is exchanged


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
        cuda = device is not None and device.type == "cuda"
        self._cuda = torch.device("cuda", device.index or 0) if device is not None and cuda else None
        self._torch = torch.Generator().manual_seed(seed).get_state()
        if self._cuda is not None:
            self._cuda_state = torch.Generator(self._cuda).manual_seed(seed).get_state()
        self._python = random.Random(seed).getstate()
        self._bits = MT19937(seed)
        self._gauss: tuple[int, float] = (0, 0.0)
        self._draws: bool | None = None

    def __enter__(self) -> Self:
        self._outside = _Outside(self._cuda)
        self._switch_in()
        return self

    def __exit__(self, *_: object) -> None:
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        if self._cuda is not None:
            self._cuda_state = torch.cuda.get_rng_state(self._cuda)
        self._gauss = _gauss()
        self._outside.restore()

    def _switch_in(self) -> None:
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._cuda)
        random.setstate(self._python)
        _use(self._bits, self._gauss)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Switched in for a block, and left as it was: every such block draws the same numbers.

        Switching takes a quarter of a millisecond, and what is judged hardly ever draws: where the first block has
        drawn nothing, the later ones are trusted to draw nothing either.
        """
        if self._draws is False:
            yield
            return
        before = self.state_dict()
        with self:
            yield
        self._draws = not _same(before, self.state_dict())
        self.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """The state of the stream while it is not switched in, in a form that `torch.save` keeps."""
        bits: Any = self._bits.state["state"]
        keys = torch.from_numpy(bits["key"].astype(np.int64))
        state = {"torch": self._torch, "python": self._python, "numpy": (keys, int(bits["pos"]), *self._gauss)}
        return state if self._cuda is None else state | {"cuda": self._cuda_state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._torch, self._python = state["torch"], state["python"]
        if self._cuda is not None:
            self._cuda_state = state["cuda"]
        keys, position, *gauss = state["numpy"]
        bits = {"key": keys.numpy().astype(np.uint32), "pos": position}
        self._bits.state = {"bit_generator": "MT19937", "state": bits}
        self._gauss = (gauss[0], gauss[1])


class _Outside:
    """The caller's states, kept while a stream is switched in."""

    def __init__(self, cuda: torch.device | None) -> None:
        self._cuda = cuda
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        if cuda is not None:
            self._cuda_state = torch.cuda.get_rng_state(cuda)
        self._bits, self._gauss = _legacy.get_bit_generator(), _gauss()

    def restore(self) -> None:
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._cuda)
        random.setstate(self._python)
        _use(self._bits, self._gauss)


class MT19937(np.random.MT19937):
    """NumPy's legacy generator, asked for its state `brief`ly: the copy of its 624 words takes most of a switch.

    The name is what NumPy writes into states and insists on when it reads them.
    """

    brief = False

    @property
    def state(self) -> Any:
        return {"bit_generator": "MT19937", "state": {}} if self.brief else super().state

    @state.setter
    def state(self, value: Any) -> None:
        np.random.MT19937.state.__set__(self, value)  # type: ignore[attr-defined]  # super() has no setters


def _gauss() -> tuple[int, float]:
    """The normal number that NumPy's global state keeps in reserve after an odd number of draws."""
    bits = _legacy.get_bit_generator()
    if isinstance(bits, MT19937):
        bits.brief = True
        try:
            state = _legacy.get_state(legacy=False)
        finally:
            bits.brief = False
    elif (place := _place_of_reserve()) is not None and not ctypes.c_int.from_address(_global() + place).value:
        return 0, 0.0
    else:
        state = _legacy.get_state(legacy=False)
    return int(state["has_gauss"]), float(state["gauss"])


def _global() -> int:
    """Where NumPy's global state lies in memory."""
    return id(_legacy.normal.__self__)


@cache
def _place_of_reserve() -> int | None:
    """Where a state of NumPy notes whether it has a number in reserve: bytes from its beginning; None if not found.

    The caller's generator can only be asked for all of its state, which takes 50 us and is what a switch would
    mostly cost. So the note is looked for in a state of our own, and trusted only if it follows what that state says.
    """
    state: Any = np.random.RandomState(0)
    words, marks = state.get_state(legacy=False), (1.2345e-67, 6.7891e-23)
    state.set_state(words | {"has_gauss": 1, "gauss": marks[0]})
    size = sys.getsizeof(state)
    found = ctypes.string_at(id(state), size).find(struct.pack("d", marks[0]))
    place = found - struct.calcsize("d")  # in NumPy's header: int has_gauss; double gauss;
    if found < struct.calcsize("d"):
        return None

    def said() -> tuple[int, float]:
        memory = ctypes.string_at(id(state), size)
        return struct.unpack_from("i", memory, place)[0], struct.unpack_from("d", memory, found)[0]

    for reserve in ((0, 0.0), (1, marks[1]), (0, 0.0)):
        state.set_state(words | dict(zip(("has_gauss", "gauss"), reserve, strict=True)))
        if said() != reserve:
            return None
    for odd in (1, 0, 1):
        state.normal()
        if said()[0] != odd:
            return None
    return place


def _use(bits: Any, gauss: tuple[int, float]) -> None:
    """Let NumPy's global functions draw from `bits`: exchanging the generator costs less than copying its state."""
    _legacy.set_bit_generator(bits)
    if gauss[0]:
        kind, keys, position, *_ = _legacy.get_state(legacy=True)
        _legacy.set_state((kind, keys, position, *gauss))


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    tensors = all(torch.equal(a[key], b[key]) for key in ("torch", "cuda") if key in a)
    numpy = torch.equal(a["numpy"][0], b["numpy"][0]) and a["numpy"][1:] == b["numpy"][1:]
    return tensors and numpy and bool(a["python"] == b["python"])
