"""A model is run and left exactly as it was: buffers, modes, gradients, random states, and its weights if asked."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import to
from ravine.core.errors import RavineError
from ravine.core.seeds import GlobalStream, derive
from ravine.core.trees import tensors

Loss = Callable[..., Tensor]


@contextmanager
def untouched(model: nn.Module, generator: torch.Generator | None = None) -> Iterator[ExitStack]:
    """Inside, the model may be run and backpropagated through; after it, buffers, gradients, modes and the global
    random states are as before, whatever happened. Hooks and the like are put on the stack that is handed out.

    What draws at random inside draws from a stream of its own, seeded by one number of `generator`, or always the same.
    """
    seed = derive(0, "init")
    if generator is not None:
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(_restore_module, module, dict(module._buffers), module.training)
        kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        stack.callback(write, kept)
        grads = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in model.parameters()]
        stack.callback(_restore_grads, grads)
        stack.enter_context(GlobalStream(seed, device_of(model)))
        yield stack


def _restore_module(module: nn.Module, buffers: dict[str, Tensor | None], training: bool) -> None:
    module.training = training
    module._buffers.clear()
    module._buffers.update(buffers)


def _restore_grads(kept: list[tuple[nn.Parameter, Tensor | None, Tensor | None]]) -> None:
    with torch.no_grad():
        for p, grad, before in kept:
            p.grad = grad
            if grad is not None and before is not None and not _equal(grad, before):
                grad.copy_(before)


def write(kept: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Put tensors back to what they were, bit for bit; those that have not changed are not written to."""
    with torch.no_grad():
        for tensor, before in kept:
            if not _equal(tensor, before):
                tensor.copy_(before)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


# ---------------------------------------------------------------- calling it


def caller(model: nn.Module, batch: Any, loss: Loss | None) -> Callable[[], Any]:
    """The function that runs the model on `batch`, and takes the loss where there is one.

    Without a loss, a tuple or list is taken apart into arguments and a dict into keywords. A loss is a function of the
    model and the batch; a criterion (`nn.CrossEntropyLoss()`, `torch.nn.functional.mse_loss`) is taken of the outputs
    and the targets of an (inputs, targets) batch.
    """
    batch = _ordinary(to(batch, device_of(model)))
    for tensor in tensors(batch):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise RavineError("the batch has numbers that are not finite: look at the data first")
    if loss is None:
        return lambda: _forward(model, batch)
    if not callable(loss):
        raise RavineError(f"loss must be a function of model and batch, or a criterion, got {loss!r}")
    if isinstance(loss, nn.Module) or getattr(loss, "__module__", "") == "torch.nn.functional":
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise RavineError(f"a criterion needs a batch (inputs, targets), got a {type(batch).__name__}")
        return lambda: loss(_forward(model, batch[0]), batch[1])
    return lambda: loss(model, batch)


def _ordinary(batch: Any) -> Any:
    """The batch with copies of what was made under torch.inference_mode(), which no gradient can pass."""
    if isinstance(batch, Tensor):
        return batch.clone() if batch.is_inference() else batch
    if type(batch) in (tuple, list):
        return type(batch)(_ordinary(item) for item in batch)
    return {key: _ordinary(item) for key, item in batch.items()} if type(batch) is dict else batch


def _forward(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def attempt(call: Callable[[], Any], batch: Any, loss: bool) -> Any:
    """What `call` gives; an error of the model's or the loss's is told as one of the batch."""
    try:
        return call()
    except RavineError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError) as error:
        shapes = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors(batch))
        what = "model and loss do" if loss else "the model does"
        labels = [t for t in tensors(batch) if not t.is_floating_point() and t.numel()]
        told = f"; whole numbers in it run from {min(int(t.min()) for t in labels)} to " if labels else ""
        told += str(max(int(t.max()) for t in labels)) if labels else ""
        how = ""
        if loss and isinstance(error, TypeError | AttributeError):
            how = (
                "; a loss that is a function is called as loss(model, batch): for one of outputs and targets give "
                "lambda model, batch: loss(model(batch[0]), batch[1]), or an nn.Module such as nn.CrossEntropyLoss()"
            )
        raise RavineError(
            f"{what} not take this batch ({shapes or 'no tensors'}{told}): {type(error).__name__}: {error}{how}"
        ) from error
