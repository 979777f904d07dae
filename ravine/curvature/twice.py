"""What an operation that cannot be differentiated twice is called in the error that says so."""

import re
from collections.abc import Callable
from typing import TypeVar

from ravine.core.errors import RavineError

T = TypeVar("T")

_NAMED = (
    re.compile(r"derivative for (?:'?(?:aten::)?)?([\w:]+)'? is not implemented"),
    re.compile(r"forward AD with (\w+)"),
    re.compile(
        r"(\w+)'? (?:does not|doesn't) (?:implement|support|have) (?:a )?(?:double|second|twice|generate_vmap|jvp)"
    ),
    re.compile(r"trying to differentiate twice a function that was marked with @(once_differentiable)"),
)


def checked(make: Callable[[], T]) -> T:
    """What `make` returns; an operation without a second derivative is named in a `RavineError`."""
    try:
        return make()
    except RavineError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        text = str(error)
        found = next((match[1] for pattern in _NAMED if (match := pattern.search(text))), None)
        if found is None and "does not require grad" in text:
            raise RavineError(
                "the loss does not depend on the chosen parameters through operations that torch can differentiate"
            ) from error
        operation = f"the operation {found}" if found else "an operation"
        raise RavineError(
            f"the loss cannot be differentiated twice: {operation} fails ({text.splitlines()[0]})"
        ) from error
