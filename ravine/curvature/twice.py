"""What of a loss cannot be differentiated twice: found in its graph, or in torch's own errors, and named."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.autograd.function import BackwardCFunction, once_differentiable

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

_CUT = (
    "the loss does not depend on the chosen parameters through operations that torch can differentiate: it must be "
    "computed of them without detach, no_grad, argmax or .item()"
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
            raise RavineError(_CUT) from error
        operation = f"the operation {found}" if found else "an operation"
        raise RavineError(
            f"the loss cannot be differentiated twice: {operation} fails ({text.splitlines()[0]})"
        ) from error


def refuse_once(loss: Tensor) -> None:
    """Raise where a function of the user's own, differentiable once only, stands in the graph of `loss`.

    Where its backward pass is given a constant, as in the last step before a mean, the graph of the gradient says
    nothing of it, and torch leaves its curvature out in silence.
    """
    for node in _nodes(loss):
        if isinstance(node, BackwardCFunction):
            function: Any = type(node)._forward_cls  # type: ignore[attr-defined]
            if _is_marked(function.backward):
                raise RavineError(
                    f"the loss cannot be differentiated twice: the function {function.__name__} is marked with "
                    "@once_differentiable; write its backward of torch operations and leave the mark out"
                )


@once_differentiable
def _marked(*_: Any) -> None: ...


_MARK = _marked.__code__  # of the wrapper, which all functions with the mark share


def _is_marked(function: Any) -> bool:
    while function is not None:
        if getattr(function, "__code__", None) is _MARK:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def refuse_cut(loss: Tensor, leaves: Sequence[Tensor]) -> None:
    """Raise where the graph of `loss` leads to none of the leaves: all its derivatives would be zero."""
    wanted = {id(leaf) for leaf in leaves}
    if id(loss) not in wanted and not any(id(getattr(node, "variable", None)) in wanted for node in _nodes(loss)):
        raise RavineError(_CUT)


def _nodes(loss: Tensor) -> Iterator[Any]:
    """Every node of the graph that leads to `loss`."""
    waiting: list[Any] = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]
