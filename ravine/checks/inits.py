"""What every initialization must do."""

from collections.abc import Callable

import torch
from torch import Tensor

from ravine.checks.holding import hold
from ravine.core.errors import RavineError
from ravine.core.spec import parse_links
from ravine.init.strategy import Strategy

SHAPES = ((64, 48), (48, 64), (40, 40), (16, 8, 3, 3), (12, 9, 5))
LARGE = (1100, 1100)  # LAPACK's QR rounds otherwise on two threads from somewhere below 2^20 elements
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_init(strategy: Strategy) -> None:
    """Raise AssertionError, with the strategy and what it does wrong, unless it keeps the contract of `Strategy`.

    >>> from ravine.init import Glorot
    >>> check_init(Glorot())
    """
    for check in INIT_CHECKS:
        check(strategy)


def is_its_own_spec(strategy: Strategy) -> None:
    """Its text makes it again."""
    (call,) = parse_links(str(strategy))
    hold(Strategy.make(call) == strategy, strategy, f"comes back from its own spec as {Strategy.make(call)}")


def has_shape_type_and_finite_values(strategy: Strategy) -> None:
    """Over shapes and types."""
    for shape in SHAPES:
        for dtype in DTYPES:
            drawn = _drawn(strategy, shape, dtype=dtype)
            told = f"{tuple(drawn.shape)} of {drawn.dtype} for {shape} of {dtype}"
            hold(drawn.shape == shape and drawn.dtype == dtype, strategy, f"gives {told}")
            hold(bool(drawn.isfinite().all()), strategy, f"gives values that are not finite for {shape} of {dtype}")
            hold(drawn.is_contiguous() and not drawn.requires_grad, strategy, "gives no plain contiguous tensor")


def draws_from_its_generator(strategy: Strategy) -> None:
    """The same seed gives the same numbers whatever the global state, which is left alone; another gives others."""
    for shape in SHAPES:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = _drawn(strategy, shape)
        hold(
            torch.equal(before, torch.get_rng_state()), strategy, "draws from the global generator beside the given one"
        )
        torch.manual_seed(2)
        hold(torch.equal(first, _drawn(strategy, shape)), strategy, "gives other numbers for the same seed")
        other = _drawn(strategy, shape, seed=1)
        deterministic = len(set(first.flatten().tolist())) <= 2
        hold(deterministic or not torch.equal(first, other), strategy, "gives the same numbers for another seed")


def is_the_same_for_any_number_of_threads(strategy: Strategy) -> None:
    """One thread or two: the same numbers, of a matrix large enough that threads share its work."""
    threads = torch.get_num_threads()
    try:
        drawn = []
        for count in (1, 2):
            torch.set_num_threads(count)
            drawn.append(_drawn(strategy, LARGE))
    finally:
        torch.set_num_threads(threads)
    hold(torch.equal(drawn[0], drawn[1]), strategy, "gives other numbers on another number of threads")


def rounds_narrow_types(strategy: Strategy) -> None:
    """16 bits are the float32 numbers, rounded."""
    for dtype in (torch.bfloat16, torch.float16):
        wide = _drawn(strategy, SHAPES[0], dtype=torch.float32).to(dtype)
        hold(torch.equal(wide, _drawn(strategy, SHAPES[0], dtype=dtype)), strategy, f"gives other numbers in {dtype}")


def has_the_deviation_it_says(strategy: Strategy) -> None:
    """The root mean square is `spread(shape)`, within 5.5 standard errors (one failure in 10^7)."""
    for shape in ((200, 100), (100, 200), (40, 20, 3, 3)):
        drawn = _drawn(strategy, shape, dtype=torch.float64)
        square = drawn.square()
        expected = strategy.spread(shape, gain=_number(strategy)) ** 2
        error = float(square.std() / square.numel() ** 0.5)
        found = float(square.mean())
        hold(abs(found - expected) <= 5.5 * error + 1e-12, strategy, f"has mean square {found:.4g}, not {expected:.4g}")


def refuses_shapes_without_fans(strategy: Strategy) -> None:
    """0-d always, and 1-d unless it says that it is defined there."""
    shapes: list[tuple[int, ...]] = [(), *([(5,)] if strategy.dimensions[0] > 1 else []), (0, 4)]
    for shape in shapes:
        try:
            _drawn(strategy, shape)
        except RavineError as error:
            hold(str(shape) in str(error), strategy, f"refuses the shape {shape} without saying it: {error}")
        else:
            raise AssertionError(f"'{strategy}' accepts the shape {shape}")


INIT_CHECKS: tuple[Callable[[Strategy], None], ...] = (
    is_its_own_spec,
    has_shape_type_and_finite_values,
    draws_from_its_generator,
    is_the_same_for_any_number_of_threads,
    rounds_narrow_types,
    has_the_deviation_it_says,
    refuses_shapes_without_fans,
)


def _drawn(strategy: Strategy, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return strategy(shape, gain=_number(strategy), generator=draw, dtype=dtype)


def _number(strategy: Strategy) -> float | None:
    """A gain where the strategy leaves it to the activation."""
    return 1.5 if strategy.asks else None
