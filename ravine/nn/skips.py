"""Residual, highway and dense connections around a user's own layers."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.nn.chain import Chain, arguments, longest_chain
from ravine.nn.fitting import Unfit, channels_second, mix, project
from ravine.nn.layers import Layer, is_chain, named, weighs

CHANGES = ("project", "refuse", "leave")


class Residual(nn.Module):
    """y = P x + a F(x): the user's layers F beside a connection that skips them (He et al. 2016, eq. 1 and 2).

    a: a learnt scalar that begins at `scale`; with 0 the whole is P x at first, and the identity where the shapes
        agree (ReZero, Bachlechner et al. 2020, eq. 1; SkipInit, De & Smith 2020). None leaves it out, as He et al. do.
    P: the identity, or a linear map or 1x1 convolution where the shape changes (option B there).
    """

    def __init__(self, layers: nn.Module, projection: nn.Module | None = None, scale: float | None = 0.0) -> None:
        super().__init__()
        self.layers = layers
        self.projection = projection
        self.scale = None if scale is None else nn.Parameter(torch.tensor(float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        carried: Tensor = x if self.projection is None else self.projection(x)
        made: Tensor = self.layers(x)
        return carried + made if self.scale is None else carried + self.scale * made


class Highway(nn.Module):
    """y = H(x) T(x) + x (1 - T(x)), T(x) = sigmoid(W_T x + b_T), H the user's layers (Srivastava et al. 2015, eq. 3).

    b_T begins at `bias`, which is negative so that most is carried at first: 1 - T is 0.73 at -1, 0.88 at -2, 0.98 at
    -4 where W_T x is 0. Where the shape changes, x is projected first.
    """

    def __init__(self, layers: nn.Module, gate: nn.Module, projection: nn.Module | None, bias: float) -> None:
        super().__init__()
        self.layers, self.gate, self.projection = layers, gate, projection
        with torch.no_grad():
            self.gate.bias.fill_(bias)  # type: ignore[operator]  # linear maps and convolutions have one

    def forward(self, x: Tensor) -> Tensor:
        """Both ways, weighted by the gate."""
        carried: Tensor = x if self.projection is None else self.projection(x)
        t = torch.sigmoid(self.gate(carried))
        made: Tensor = self.layers(x)
        return made * t + carried * (1 - t)


class Dense(nn.Module):
    """Every layer sees what went in and what all layers before it made, concatenated (Huang et al. 2017, eq. 2).

    The user's layers keep their widths: before each but the first, a linear map or 1x1 convolution brings what was
    concatenated to the width that the layer takes, as the bottlenecks there do.
    """

    def __init__(self, layers: list[nn.Module], projections: list[nn.Module], dimension: int) -> None:
        super().__init__()
        self.layers, self.projections = nn.ModuleList(layers), nn.ModuleList(projections)
        self.dimension = dimension

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer makes."""
        seen = [x]
        for number, layer in enumerate(self.layers):
            if number:
                x = self.projections[number - 1](torch.cat(seen, self.dimension))
            seen.append(layer(x))
        return seen[-1]


def with_skips(
    model: nn.Module,
    every: int = 2,
    kind: str = "residual",
    *,
    scale: float | None = 0.0,
    gate_bias: float = -2.0,
    on_change: str = "project",
    at: str | None = None,
    example: Any = None,
) -> nn.Module:
    """A copy of `model` with a connection around every `every` of its own layers.

    kind: "residual", "highway", or "dense", which connects the layers of a block and needs two.
    scale, gate_bias: how `Residual` and `Highway` begin: as (nearly) the identity.
    on_change: what to do where layers change the shape: "project" the input, "refuse", or "leave" them without.
    at: only modules below this name.
    example: a batch of inputs, a tuple for several; not needed for an `nn.Sequential` that begins with a linear layer
        or an embedding.

    The layers are those of the model's longest chain, found by running it: an `nn.Sequential`, or modules inside any
    model that feed one another. A layer is a module with weights and what follows it; the layer that makes the output
    stays as it is, and so do the first where the number is no multiple of `every`. The new weights are drawn from
    torch's global generator. What is fed whole numbers, as an embedding is, is left out. Raises `RavineError` where
    there is no such chain, and says what was found instead; and for layers that write over what they are given.

    >>> import torch
    >>> from torch import nn
    >>> plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with_skips(plain, every=1)[1]
    Residual(
      (layers): Sequential(
        (0): Linear(in_features=8, out_features=8, bias=True)
        (1): ReLU()
      )
    )
    """
    check_value("every", every, int, "[1, inf)")
    if kind not in KINDS:
        raise unknown("kind of skip", str(kind), KINDS)
    if kind == "dense" and every < 2:
        raise RavineError("dense connections join the layers of a block: every=1 leaves none, give every=2 or more")
    if on_change not in CHANGES:
        raise unknown("value of on_change", str(on_change), CHANGES)
    check_value("scale", scale, float | None, None)
    check_value("gate_bias", gate_bias, float, "[-20, 0)")
    if at is not None:
        named(model, at)
    made = copy.deepcopy(model)
    inputs = arguments(made, example)
    chain = longest_chain(made, inputs, at)
    make = KINDS[kind](scale, gate_bias)
    blocks = _blocks(chain, every)
    plain = copy.deepcopy(made).eval()
    changed = [names for block in blocks if (names := _wrap(made, chain, block, make, on_change, plain))]
    if not changed:
        raise RavineError(f"every block of {every} layers changes the shape, so that on_change='leave' leaves no skip")
    _check_same(model, plain, changed, inputs)
    return made


Make = Callable[[list[list[nn.Module]], list[tuple[int, ...]], tuple[int, ...], bool], nn.Module]


def _residual(scale: float | None, bias: float) -> Make:
    def make(parts: list[list[nn.Module]], shapes: list[tuple[int, ...]], out: tuple[int, ...], c: bool) -> nn.Module:
        return Residual(_joined(parts), project(shapes[0], out, c), scale)

    return make


def _highway(scale: float | None, bias: float) -> Make:
    def make(parts: list[list[nn.Module]], shapes: list[tuple[int, ...]], out: tuple[int, ...], c: bool) -> nn.Module:
        return Highway(_joined(parts), mix(out, c), project(shapes[0], out, c), bias)

    return make


def _dense(scale: float | None, bias: float) -> Make:
    def make(parts: list[list[nn.Module]], shapes: list[tuple[int, ...]], out: tuple[int, ...], c: bool) -> nn.Module:
        axis = 1 if c else len(out) - 1
        projections: list[nn.Module] = []
        for number in range(1, len(parts)):
            seen = shapes[: number + 1]
            places = {shape[:axis] + shape[axis + 1 :] for shape in seen}
            if len(places) > 1:
                raise Unfit(f"{' and '.join(map(str, seen))} cannot be concatenated")
            wide = (*seen[0][:axis], sum(shape[axis] for shape in seen), *seen[0][axis + 1 :])
            projections.append(project(wide, shapes[number], c) or nn.Identity())
        return Dense([_joined([part]) for part in parts], projections, axis)

    return make


KINDS = {"residual": _residual, "highway": _highway, "dense": _dense}


def _joined(parts: list[list[nn.Module]]) -> nn.Module:
    modules = [module for part in parts for module in part]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def _blocks(chain: Chain, every: int) -> list[list[Layer]]:
    body = chain.layers[:-1] if chain.to_the_end else chain.layers
    if len(body) < every:
        found = ", ".join(f"'{layer.names[0]}'" for layer in chain.layers) or "none"
        last = " and one that makes the output" if chain.to_the_end else ""
        why = f"; {'; '.join(chain.breaks[:3])}. Put that into modules (nn.ReLU, nn.Flatten)" if chain.breaks else ""
        raise RavineError(
            f"skips around {every} layers need a chain of so many{last}, each fed by the one before and by nothing "
            f"else; the longest has {len(chain.layers)}: {found}{why}"
        )
    start = len(body) % every
    return [list(body[i : i + every]) for i in range(start, len(body), every)]


def _wrap(
    model: nn.Module, chain: Chain, block: list[Layer], make: Make, on_change: str, plain: nn.Module
) -> list[str]:
    """Put a connection around the block, in the model; and the same without one in `plain`. The modules' names."""
    parts = [list(layer.names) for layer in block]
    while not weighs(chain.call(parts[0][0]).module):  # what only brings the data into shape
        parts[0].pop(0)
    before: tuple[int, ...] = tuple(chain.call(parts[0][0]).given[0].shape)
    while len(parts[-1]) > 1 and chain.call(parts[-1][-1]).made.ndim != len(before):
        parts[-1].pop()
    names = [name for part in parts for name in part]
    if repeated := [name for name in names if chain.times[name] > 1]:
        times = chain.times[repeated[0]]
        raise RavineError(f"'{repeated[0]}' is called {times} times: give each place a module of its own")
    after: tuple[int, ...] = tuple(chain.call(names[-1]).made.shape)
    if before != after and on_change == "leave":
        return []
    where = f"layers '{names[0]}' to '{names[-1]}' make {after} of {before}"
    if before != after and on_change == "refuse":
        raise RavineError(f"{where}: with on_change='refuse' only layers that keep the shape can be skipped")
    shapes = [tuple(chain.call(part[0]).given[0].shape) for part in parts]
    modules = [[chain.call(name).module for name in part] for part in parts]
    second = channels_second(after, tuple(module for part in modules for module in part))
    try:
        skip = make(modules, shapes, after, second)
    except Unfit as error:
        raise RavineError(
            f"{where}: {error}. Give another every=, at= a part of the model, or on_change='leave'"
        ) from error
    like = next(p for module in modules[0] for p in module.parameters())
    for name, p in skip.named_parameters():
        if not name.startswith("layers."):  # what is new
            p.data = p.data.to(like)
    _replace(model, names, skip)
    _replace(plain, names, nn.Sequential(*(plain.get_submodule(name) for name in names)))
    return names


def _replace(model: nn.Module, names: list[str], block: nn.Module) -> None:
    """The block stands where the first of the modules stood, and nothing where the others did."""
    for number, name in enumerate(names):
        parent, _, key = name.rpartition(".")
        owner = model.get_submodule(parent)
        if number == 0:
            owner._modules[key] = block
        elif is_chain(owner):
            del owner._modules[key]
        else:
            owner._modules[key] = nn.Identity()


def _watch(block: nn.Module, names: list[str], hooks: ExitStack) -> None:
    """Raise as soon as one of the modules in the block, which have these names, writes over the block's input."""
    given: list[tuple[Tensor, int]] = []

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        given.append((args[0], args[0]._version))

    def leave(name: str, module: nn.Module) -> None:
        x, version = given[-1]
        if x._version != version:
            raise RavineError(
                f"'{name}' ({type(module).__name__}) writes over what it is given (an operation in place, such as "
                "x.relu_()), so that a connection around it would carry something else: let it make a new tensor"
            )

    hooks.callback(block.register_forward_pre_hook(enter).remove)
    for name, inner in zip(names, block.children(), strict=True):
        hook = inner.register_forward_hook(lambda module, args, made, name=name: leave(name, module))
        hooks.callback(hook.remove)


def _check_same(model: nn.Module, gathered: nn.Module, blocks: list[list[str]], inputs: tuple[Any, ...]) -> None:
    """Raise where gathering the layers alone changed the model: then something else uses what goes on between them.

    And where a layer changes in place what the connection would carry.
    """
    with torch.no_grad(), ExitStack() as hooks:
        expected = copy.deepcopy(model).eval()(*inputs)
        for names in blocks:
            _watch(gathered.get_submodule(names[0]), names, hooks)
        found = gathered(*inputs)
    flat = [value for value in (expected, found) if isinstance(value, Tensor)]
    if len(flat) == 2 and not torch.equal(*flat):
        raise RavineError(
            "the model uses what goes on between these layers elsewhere too, or draws at random in evaluation mode: "
            "give at= the name of a part that is a chain"
        )
