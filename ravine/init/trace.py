"""A model's signals, followed while it runs on an example: module calls and functional calls alike."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.core.errors import RavineError
from ravine.core.trees import tensors
from ravine.init.chain import is_norm
from ravine.init.curves import curve, line, seen
from ravine.init.flow import Flow, Tag, unknown_function
from ravine.init.functions import (
    CHOICES,
    FACTORS,
    MADE_NEW,
    MATRIX_PRODUCTS,
    NORMS,
    PRODUCTS,
    RECURRENT,
    SPLITS,
    SUMS,
    WEIGHTED,
    called,
    mixes,
    passes,
    plain_name,
)  # fmt: skip
from ravine.init.splitting import Output, output


def trace(model: nn.Module, example: Any) -> Flow:
    """The flow of `model` on `example`: a tensor, a tuple of arguments or a dict of them.

    The model runs once, in evaluation mode and without gradients, and all it makes on the way is kept until it is done;
    modes, buffers and random states are as before. Raises `RavineError` where the example is not finite or does not
    fit. The values that come out do not matter: the weights of a model that is to be initialized may be anything.
    """
    _check_finite(example, "the example")
    flow = Flow()
    modes = {module: module.training for module in model.modules()}
    hooks: list[Any] = []
    buffers = {name: copy.deepcopy(buffer) for name, buffer in model.named_buffers()}
    try:
        model.eval()
        devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
        with torch.no_grad(), torch.random.fork_rng(devices), _Following(flow, model) as following:
            hooks += following.watch(model)
            following.tags = {id(t): (t, Tag(origins=frozenset({None}))) for t in tensors(example)}
            output = _called(model, example)
            for tensor in tensors(output):
                flow.resolve(following.tag(tensor))
    except RavineError:
        raise
    except Exception as error:
        raise RavineError(f"the model does not run on the example: {type(error).__name__}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return flow


def _called(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def _check_finite(given: Any, what: str) -> None:
    for tensor in tensors(given):
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.isfinite().all():
            raise RavineError(f"{what} has values that are not finite (NaN or infinite)")


class _Following(TorchFunctionMode):
    """Sees every function of torch that the model calls, and keeps a tag for every tensor it makes."""

    def __init__(self, flow: Flow, model: nn.Module) -> None:
        super().__init__()
        self.flow = flow
        self.parameters = {id(p): p for p in model.parameters()}
        self.tags: dict[int, tuple[Tensor, Tag]] = {}  # with the tensor, so that no other takes its id
        self.pieces: dict[int, tuple[Tensor, int]] = {}  # of parameters, and views of them
        self.views: dict[int, tuple[Tensor, int, bool]] = {}  # of parameters: which, and whether transposed
        self.outputs: dict[int, Output] = {}  # of parameters
        self.inside = 0  # modules that normalize in their own way, one in the other

    def tag(self, tensor: Any) -> Tag:
        found = self.tags.get(id(tensor))
        return found[1] if found else Tag()

    def watch(self, model: nn.Module) -> list[Any]:
        """Take the modules that normalize by code of their own as one step each; gives the hooks, to be removed."""
        hooks = []
        for module in model.modules():
            if _normalizes_alone(module):
                hooks.append(module.register_forward_pre_hook(self._enter))
                hooks.append(module.register_forward_hook(self._leave, with_kwargs=True, always_call=True))
        return hooks

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.inside += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
        self.inside -= 1
        signals = [tag for t in tensors((args, kwargs)) if _known(tag := self.tag(t))]
        if not self.inside and signals:
            scale = getattr(module, "weight", None)
            tag = self.flow.normalize(self.flow.join(signals), None if scale is None else id(scale))
            self.tags |= {id(t): (t, tag) for t in tensors(made)}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        before = {id(t): self.tag(t) for t in tensors((args, kwargs))}
        output = func(*args, **kwargs)
        made = [tensor for tensor in tensors(output) if id(tensor) not in self.parameters]
        if made and not self._view_of_parameter(args, made):
            given = [before[id(t)] for t in tensors((args, kwargs)) if id(t) in before]
            tag = self._after(func, args, kwargs, [tag for tag in given if _known(tag)], made)
            for tensor in made:
                mine = self._piece(args[0], tag, tensor) if args and plain_name(func) in SPLITS else tag
                self.tags[id(tensor)] = (tensor, mine)
        return output

    def _piece(self, source: Any, tag: Tag, made: Tensor) -> Tag:
        """The tag of some of the numbers of a tensor: which rows of the weight behind it these are of."""
        if not _known(tag) or not isinstance(source, Tensor) or made.numel() == source.numel():
            return tag
        shared = made.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
        place = (made.storage_offset(), made.shape, made.stride()) if shared else id(made)
        key = next(iter(tag.pending)) if len(tag.pending) == 1 else None
        known = self.outputs.get(key) if key is not None else None
        return self.flow.piece(tag, place, known.rows(made) if known else None)

    def _view_of_parameter(self, args: tuple[Any, ...], made: list[Tensor]) -> bool:
        """Whether this only looks at a parameter, as W.T does; such views are remembered."""
        whole = self._parameter(args[0]) if args and isinstance(args[0], Tensor) else None
        if args and whole is None and id(args[0]) in self.pieces:
            whole = self.pieces[id(args[0])][1], False
        if whole is None or len(made) != 1 or len(tensors(args)) != 1:
            return False
        (view,), (key, turned), source = made, whole, args[0]
        if view.untyped_storage().data_ptr() != source.untyped_storage().data_ptr():
            return False
        self.pieces[id(view)] = (view, key)
        if view.numel() != source.numel() or view.ndim != source.ndim:
            return True
        flipped = view.ndim == 2 and view.stride() == source.stride()[::-1] and view.shape == source.shape[::-1]
        self.views[id(view)] = (view, key, turned != flipped)
        return True

    def _parameter(self, tensor: Any) -> tuple[int, bool] | None:
        if id(tensor) in self.parameters:
            return id(tensor), False
        found = self.views.get(id(tensor))
        return (found[1], found[2]) if found else None

    def _after(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], signals: list[Tag], made: list[Tensor]
    ) -> Tag:
        """The tag of what a function made of these signals."""
        name = plain_name(func)
        if name == "multi_head_attention_forward":
            return self._attention(args, kwargs)
        if name in RECURRENT:
            return self._recurrent(args, kwargs)
        if name in WEIGHTED | PRODUCTS and (found := self._weight(name, args, kwargs)) is not None:
            key, turned, signal = found
            if (whole := output(name, self.parameters[key], made[0])) is not None:
                self.outputs[key] = whole
            return self.flow.weight(key, self.tag(signal), turned)
        self._note_added(name, args)
        if not signals or name.startswith(MADE_NEW) or name.endswith("_like"):
            return Tag()
        if mixes(name):
            return self.flow.mix(signals)
        if name in NORMS:
            known = [t for t in tensors((args[1:], kwargs)) if self._parameter(t)]
            return self.flow.normalize(self.flow.join(signals), id(known[0]) if known else None)
        if (act := called(name, args, kwargs)) is not None and isinstance(act.z, Tensor):
            return self.flow.activate(seen(act), self.tag(act.z))
        return self._number_by_number(name, func, args, kwargs, signals, made)

    def _number_by_number(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], signals: list[Tag],
        made: list[Tensor],
    ) -> Tag:  # fmt: skip
        """The tag behind arithmetic: lines and curves are known, and what is none of these only by its name."""
        joined, unknown = self.flow.join(signals), unknown_function(name)
        both = [t for t in args[:2] if isinstance(t, Tensor)]
        if name in FACTORS and len(signals) > 1 and len(both) == 2:
            return self._product(name, both[0], both[1])
        if name in SUMS and len(both) == 2 and any(self.tag(t).history for t in both) and len(signals) > 1:
            return self.flow.add(self.tag(both[0]), self.tag(both[1]))
        if name in CHOICES:
            condition = self.tag(args[0] if name == "where" else args[1] if len(args) > 1 else kwargs.get("mask"))
            return self.flow.activate(unknown, joined) if condition.history else joined
        if len(signals) == 1 and (straight := line(name, func, args, kwargs)) is not None:
            return self.flow.shift(straight, joined)
        if len(signals) == 1 and (bent := curve(name, func, args, kwargs)) is not None:
            return self.flow.activate(bent, joined)
        sources = [t for t in tensors((args, kwargs)) if _known(self.tag(t))]
        same = made[0].is_floating_point() and any(t.shape == made[0].shape for t in sources)
        if name in FACTORS or passes(name) or not (same or name == "glu"):
            return joined
        return self.flow.activate(unknown, joined)

    def _product(self, name: str, a: Tensor, b: Tensor) -> Tag:
        """Through a product or quotient of signals: an activation where both are functions of the same signal, unless
        one is a statistic of the other, as in normalization.
        """
        one, two = self.tag(a), self.tag(b)
        if not one.roots & two.roots:
            return self.flow.mix([one, two])
        larger = one if a.numel() >= b.numel() else two
        if a.shape != b.shape and not any(larger.origins):
            return self.flow.mix([larger])
        return self.flow.activate(unknown_function(name), self.flow.join([one, two]))

    def _note_added(self, name: str, args: tuple[Any, ...]) -> None:
        """Remember parameters that are added to signals, or stand beside them."""
        if name in SUMS | {"cat", "concat", "concatenate"}:
            for t in tensors(args):
                if (piece := self._parameter(t) or self.pieces.get(id(t), (t, None))[1:])[0] is not None:
                    self.flow.added.add(piece[0])

    def _weight(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, bool, Any] | None:
        """(parameter, whether it is used as x W, the signal) of a product with a parameter, or None."""
        operands = [*args, *(kwargs[key] for key in ("input", "weight", "mat1", "mat2", "other") if key in kwargs)]
        if name == "addmm":
            operands = operands[1:]
        known = [self._parameter(operand) if isinstance(operand, Tensor) else None for operand in operands[:2]]
        if name in PRODUCTS - MATRIX_PRODUCTS or len(known) < 2:
            return None
        if known[1] is not None:
            key, turned = known[1]
            return key, turned if name in WEIGHTED else not turned, operands[0]
        return (*known[0], operands[1]) if known[0] is not None else None

    def _attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tag:
        names = ("query", "key", "value", "", "", "in_proj_weight", "", "", "", "", "", "out_proj_weight")
        given = dict(zip(names, args, strict=False)) | kwargs
        three = [self.tag(given[name]) for name in ("query", "key", "value")]
        inner = []
        for key in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if self._parameter(given.get(key)):
                inner.append(self.flow.weight(id(given[key]), self.flow.join(three)))
        return self.flow.weight(id(given["out_proj_weight"]), self.flow.mix(inner or three))

    def _recurrent(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tag:
        tag = self.tag(args[0])
        self.flow.resolve(tag)
        weights = [t for t in tensors((args[1:], kwargs)) if id(t) in self.parameters and t.ndim > 1]
        for p in weights:
            self.flow.weight(id(p), Tag(origins=tag.origins, history=tag.history))
            self.flow.places[id(p)].after.add(None)
        return Tag(origins=frozenset({None}), history=tag.history | {id(p) for p in weights})


def _known(tag: Tag) -> bool:
    return bool(tag.history or tag.origins or tag.pending)


def _normalizes_alone(module: nn.Module) -> bool:
    """Whether a module normalizes by code of its own, with vectors alone and no modules inside."""
    own = is_norm(module) and not type(module).__module__.startswith("torch.nn.")
    return own and not any(module.children()) and all(p.numel() == max(p.shape, default=1) for p in module.parameters())
