"""What an initialization is: from a shape, a role and a gain to a drawn weight."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor

from ravine.core.declared import Declared
from ravine.core.errors import RavineError, unknown

ROLES = ("input", "hidden", "output", "embedding", "recurrent", "branch", "branch_end", "norm", "bias")
PRESERVED = ("variance", "gradient", "auto")  # gains that an activation decides
DISTRIBUTIONS = ("normal", "uniform", "truncated")
NARROW = (torch.bfloat16, torch.float16)  # drawn in float32 and rounded


class Drawn(TypedDict, total=False):
    """What every drawing takes besides its own hyperparameters."""

    role: str
    generator: torch.Generator | None
    dtype: torch.dtype | None
    device: torch.device | str | None


@dataclasses.dataclass(frozen=True)
class Strategy(Declared):
    """An initialization: `strategy(shape, role, gain, generator, dtype, device)` is a drawn weight.

    Shapes are those of `nn.Linear` and `nn.ConvNd`: (out, in, *kernel), with fan_in = in * prod(kernel) and
    fan_out = out * prod(kernel). A subclass implements `draw`. The numbers are drawn where the generator is, in float32
    for types of 16 bits and in the type itself else, so that a bfloat16 weight is the float32 one, rounded.
    """

    kind: ClassVar[str] = "initialization"
    entry_group: ClassVar[str] = "ravine.initializations"
    isotropic: ClassVar[bool] = True  # whether it is defined for complex weights
    dimensions: ClassVar[tuple[int, int]] = (2, 5)  # of the shapes it is defined for

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gain(self.name, getattr(self, "gain", None))

    def __call__(
        self,
        shape: Sequence[int],
        role: str = "hidden",
        gain: float | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """A weight of `shape`, (out, in, *kernel); `gain` takes the place of the strategy's own, which may be a word.

        Raises `RavineError` for a shape without fans, a type that is no floating one, an unknown role, and for a gain
        where the strategy has none.
        """
        if not isinstance(shape, Sequence):
            raise RavineError(f"{self.name} needs a shape, as in (256, 784), got {shape!r}")
        shape, dtype = tuple(shape), dtype or torch.get_default_dtype()
        self.check(shape, role, gain, dtype)
        working = torch.float32 if dtype in NARROW else dtype
        with torch.no_grad():
            drawn = self.draw(shape, role, self.gain_of(gain), Source(generator, working, device))
            return drawn.to(device=Source(generator, working, device).target, dtype=dtype)

    def draw(self, shape: tuple[int, ...], role: str, gain: float, source: "Source") -> Tensor:
        """The weight, in the type and on the device of `source`."""
        raise NotImplementedError

    def check(self, shape: tuple[int, ...], role: str, gain: float | None, dtype: torch.dtype) -> None:
        """Raise unless a weight of this kind can be drawn."""
        if role not in ROLES:
            raise unknown("role", role, ROLES)
        if not (dtype.is_floating_point or dtype.is_complex) or dtype.itemsize < 2:
            raise RavineError(f"{self.name}: dtype must be a float of 16 bits or more or a complex type, got {dtype}")
        if dtype.is_complex and not (self.isotropic and getattr(self, "distribution", "normal") == "normal"):
            raise RavineError(f"{self} is not defined for {dtype}: take glorot(distribution='normal'), he, lecun or "
                "orthogonal")
        low, high = self.dimensions
        if not low <= len(shape) <= high:
            raise RavineError(
                f"{self.name} needs a shape of {low} to {high} dimensions, (out, in, *kernel), got {shape}: "
                "fan_in and fan_out are undefined for it"
            )
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise RavineError(f"{self.name} needs a shape of whole numbers of 1 or more, got {shape}")
        if gain is not None:
            check_gain(f"{self.name} called", gain, words=False)

    def gain_of(self, given: float | None) -> float:
        """The number that scales: the one given, else the strategy's own."""
        own = getattr(self, "gain", 1.0)
        if given is not None and not self.takes_gain:
            raise RavineError(f"'{self}' says its scale without a gain, got gain={given!r}: leave it out")
        if given is not None:
            return float(given)
        if isinstance(own, str):
            raise RavineError(
                f"{self.name}(gain='{own}') depends on the activation: give gain=ravine.init.gain('tanh', "
                f"preserve='{own}'), or initialize a whole model by ravine.init.apply"
            )
        return 1.0 if own is None else float(own)

    @property
    def takes_gain(self) -> bool:
        """Whether `draw` scales by a gain: where the strategy has a hyperparameter `gain`, unless it says else."""
        return hasattr(self, "gain")

    def scale(self, shape: tuple[int, ...], role: str = "hidden") -> float:
        """The deviation (root mean square) of a weight of `shape` for a gain of 1."""
        return float(fans(shape)[0] ** -0.5)

    def spread(self, shape: tuple[int, ...], role: str = "hidden", gain: float | None = None) -> float:
        """The deviation (root mean square) of a weight drawn with this gain."""
        return self.gain_of(gain) * self.scale(shape, role)

    @property
    def asks(self) -> str | None:
        """What the gain shall preserve, where the activation decides it."""
        own = getattr(self, "gain", None)
        return own if isinstance(own, str) else None


def check_gain(owner: str, gain: Any, words: bool = True) -> None:
    """Raise unless `gain` is a positive number, or a word for what is to be preserved."""
    if gain is None or (words and gain in PRESERVED):
        return
    if isinstance(gain, str):
        raise unknown(f"gain of {owner}", gain, PRESERVED, "Or a number.")
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 < gain < math.inf:
        raise RavineError(f"{owner}: gain must be a number above 0, got {gain!r}")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where random numbers come from: those of a generator are drawn on its own device, the same for every target."""

    generator: torch.Generator | None
    dtype: torch.dtype
    device: torch.device | str | None

    def __post_init__(self) -> None:
        if self.generator is not None and not isinstance(self.generator, torch.Generator):
            raise RavineError(f"generator= must be a torch.Generator, got {self.generator!r}")
        try:
            torch.device(self.device or "cpu")
        except (RuntimeError, TypeError) as error:
            raise RavineError(f"device= must be one of torch's, as 'cpu' or 'cuda', got {self.device!r}") from error

    @property
    def target(self) -> torch.device:
        return torch.device(self.device) if self.device is not None else torch.get_default_device()

    @property
    def place(self) -> torch.device:
        return self.generator.device if self.generator is not None else self.target

    def normal(self, shape: Sequence[int], std: float) -> Tensor:
        """Normal numbers with mean 0; complex ones have std / sqrt(2) in each part."""
        empty = torch.empty(tuple(shape), dtype=self.dtype, device=self.place)
        return empty.normal_(0.0, std, generator=self.generator)

    def uniform(self, shape: Sequence[int], bound: float) -> Tensor:
        """Numbers uniform in [-bound, bound)."""
        empty = torch.empty(tuple(shape), dtype=self.dtype, device=self.place)
        return empty.uniform_(-bound, bound, generator=self.generator)

    def truncated(self, shape: Sequence[int], std: float, cut: float = 2.0) -> Tensor:
        """Normal numbers cut off at `cut` deviations of theirs before the cut, with deviation std after it."""
        mass = math.erf(cut / math.sqrt(2))  # of N(0, 1) in [-cut, cut]
        kept = math.sqrt(1 - 2 * cut * math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi) / mass)
        scale = std / kept  # of the normal that is cut
        drawn = self.uniform(shape, mass).erfinv_().mul_(math.sqrt(2) * scale)
        return drawn.clamp_(-cut * scale, cut * scale)

    def of(self, distribution: str, shape: Sequence[int], std: float) -> Tensor:
        """Numbers of mean 0 and deviation std from one of DISTRIBUTIONS."""
        if distribution == "uniform":
            return self.uniform(shape, math.sqrt(3) * std)
        return (self.normal if distribution == "normal" else self.truncated)(shape, std)

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """Zeros."""
        return torch.zeros(tuple(shape), dtype=self.dtype, device=self.place)


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def middle(weight: Tensor) -> Tensor:
    """The (out, in) view in the middle of the kernel."""
    for size in reversed(weight.shape[2:]):
        weight = weight.select(-1, (size - 1) // 2)
    return weight
