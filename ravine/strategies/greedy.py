"""Greedy supervised pretraining: a deep model layer by layer, each layer with a temporary head; then all of it."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.batches import to
from ravine.core.declared import check_value
from ravine.core.dry_run import dry_run
from ravine.core.errors import RavineError
from ravine.core.probe import Probe
from ravine.core.seeds import GlobalStream, derive
from ravine.core.task import Task
from ravine.nn.fitting import Unfit, channels_second, head
from ravine.nn.layers import Layer
from ravine.nn.tracing import example_batch, executed, features, first_tensor, reached, run_on
from ravine.strategies.copying import hold
from ravine.strategies.labels import check_labels
from ravine.strategies.stages import Stage, StageMoment, check_budget, check_task, staged
from ravine.weights import fresh

Keep = bool | tuple[int, int]


def pretrain(
    task: Task,
    optimizer: Any = "adam",
    lr: float | None = None,
    *,
    steps_per_layer: int = 100,
    steps: int = 500,
    keep_outer: Keep = False,
    seed: int = 0,
    every: int | None = None,
    probes: Iterable[Probe] = (),
    device: str = "cpu",
    out: str | Path | None = None,
) -> Iterator[StageMoment]:
    """Greedy supervised pretraining, then joint fine-tuning; a moment at every point of the way.

    Stage i trains layer i alone, on what the trained layers below it make, with a temporary linear head that is then
    thrown away (Bengio et al. 2007, section 5: "supervised greedy"). The last hidden layer has the model's own output
    layer. The stage "joint" trains everything for `steps`.

    keep_outer: pretrain a shallow model made of the outer layers instead, then insert the middle ones with their
        random weights (Simonyan & Zisserman 2015, section 3.1, who kept 4 and 3). True leaves out every inner layer
        that keeps the shape; a pair says how many to keep at either end. Its stage takes `steps_per_layer` for each
        layer that it has.
    steps_per_layer, steps: in gradient evaluations. Compare with `ravine.train` at the same total, which every moment
        has as `works`; a gradient of a stage costs less than one of the whole model.
    out: a folder; a run that was cut off goes on from there, and ends with the same numbers.

    A layer is a module with weights and what follows it, in the order in which the model runs them, so any model will
    do; what a layer makes is what the next is given. Initial weights are those of `ravine.train` for this seed. Raises
    `RavineError` for a model of one layer, for layers from which no head can be built, and where the middle cannot be
    left out. A spec with roles needs parameters of each role in every stage.

    >>> for moment in ravine.strategies.pretrain(task, "adam", steps_per_layer=200, steps=1000):    # doctest: +SKIP
    ...     print(moment.stage, moment.work, moment.metric)
    """
    check_task("pretrain", task)
    check_budget(steps_per_layer=steps_per_layer, steps=steps)
    check_value("seed", seed, int, "[0, inf)")
    check_labels(task)
    dry = dry_run(task, device)
    with GlobalStream(derive(seed, "plan")):  # heads are drawn to see whether they fit
        plan = _Plan(task, fresh(task, seed, device), steps_per_layer)
        stages = plan.outer(keep_outer) if keep_outer else plan.greedy()
    joint = Stage("joint", steps, lambda: plan.whole(plan.model), plan.take)
    settings = {"strategy": "pretrain", "task": task.name, "fingerprint": dry.fingerprint}
    settings["keep_outer"] = str(keep_outer)
    return staged(
        [*stages, joint], optimizer, lr, seed=seed, every=every, probes=probes, device=device, out=out,
        settings=settings,
    )  # fmt: skip


class _Part(nn.Module):
    """A model as far as the module `until`, whose input goes to a head; all of what comes later is not run."""

    def __init__(self, model: nn.Module, until: str, head: nn.Module) -> None:
        super().__init__()
        self.model, self.until, self.head = model, until, head

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        seen = features(self.model, [self.until], lambda: self.model(*args, **kwargs), "input")
        return self.head(seen[self.until])


class _Plan:
    """The model as far as it is trained, and the stages that its layers make."""

    def __init__(self, task: Task, model: nn.Module, steps: int) -> None:
        self.task, self.model, self.steps = task, model, steps
        device = next(model.parameters()).device
        self.run = run_on(task, to(example_batch(task), device))
        probe = copy.deepcopy(model).eval()
        self.layers = executed(probe, lambda: self.run(probe))
        if len(self.layers) < 2:
            raise RavineError(
                f"pretraining layer by layer needs two layers at least; the model of task '{task.name}' is one, "
                f"{_described(model, self.layers[0])}: build it from modules of its own"
                if self.layers
                else f"the model of task '{task.name}' has no layer with weights among its modules"
            )
        seen: list[Any] = []
        hook = probe.register_forward_hook(lambda module, args, made: seen.append(made))
        self.reached_by_all = reached(probe, first_tensor(self.run(probe)))
        hook.remove()
        output = first_tensor(seen[-1], "the model's output")
        self.output = tuple(output.shape)

    def take(self, model: nn.Module) -> None:
        """Keep what a stage has learnt."""
        learnt = (model.model if isinstance(model, _Part) else model).state_dict()
        self.model.load_state_dict(learnt, strict=False)

    def whole(self, model: nn.Module) -> Task:
        """The task on this very model."""
        return dataclasses.replace(self.task, model=lambda: copy.deepcopy(model))

    def greedy(self) -> list[Stage]:
        """A stage for each hidden layer."""
        known: set[str] = set()
        stages: list[Stage] = []
        held: list[Layer] = []
        for number, following in enumerate(self.layers[1:-1], 1):
            probe = copy.deepcopy(self.model).eval()
            given = self._given(probe, following.names[0])
            new = reached(probe, given) - known if given.is_floating_point() else set()
            if new:  # an embedding of positions, fed by nothing that was learnt, goes with the next
                make = self._with_head(following.names[0], given, new, list(held))
                stages.append(Stage(f"layer {number}", self.steps, make, self.take))
                known |= new
                held = list(self.layers[:number])
        last = set(self.reached_by_all) - known
        stages.append(Stage(f"layer {len(self.layers) - 1}", self.steps, lambda: self._alone(last, held), self.take))
        return stages

    def _given(self, probe: nn.Module, name: str) -> Tensor:
        """What the module of that name is given."""
        return features(probe, [name], lambda: self.run(probe), "input")[name]

    def _with_head(self, until: str, given: Tensor, new: set[str], held: list[Layer]) -> Callable[[], Task]:
        second = channels_second(tuple(given.shape), (self.model,))

        def build() -> nn.Module:
            try:
                return head(tuple(given.shape), self.output, second).to(given)
            except Unfit as error:
                raise RavineError(f"no head can be built on what is given to '{until}': {error}") from error

        build()

        def make() -> Task:
            prepared = self._only(new, held)
            return dataclasses.replace(self.task, model=lambda: _Part(copy.deepcopy(prepared), until, build()))

        return make

    def _alone(self, new: set[str], held: list[Layer]) -> Task:
        return self.whole(self._only(new, held))

    def _only(self, new: set[str], held: list[Layer]) -> nn.Module:
        """A copy of the model of which only the parameters `new` train; the layers `held` are in evaluation mode."""
        copied = copy.deepcopy(self.model)
        for layer in held:
            hold(layer.modules(copied))
        for name, p in copied.named_parameters():
            p.requires_grad_(name in new)
        return copied

    def outer(self, keep: Keep) -> list[Stage]:
        """The stage that trains the model without its middle."""
        left_out = self._middle(keep)
        kept = len(self.layers) - len(left_out)

        def shallow() -> nn.Module:
            return _without(self.model, left_out)

        try:
            probe = shallow().eval()
            output: list[Any] = []
            probe.register_forward_hook(lambda module, args, made: output.append(made))
            with torch.no_grad():
                self.run(probe)
        except Exception as error:
            shapes = ", ".join(f"'{layer}' {a} to {b}" for layer, (a, b) in self._shapes().items() if layer in left_out)
            raise RavineError(
                f"the model does not run without its middle layers, which change the shape ({shapes}): keep more with "
                "keep_outer=(first, last)"
            ) from error
        name = f"outer {kept} layers"
        return [Stage(name, self.steps * kept, lambda: self.whole(shallow()), self.take)]

    def _middle(self, keep: Keep) -> list[Layer]:
        if keep is True:
            shapes = self._shapes()
            found = [layer for layer in self.layers[1:-1] if shapes[layer][0] == shapes[layer][1]]
            if not found:
                raise RavineError("every inner layer changes the shape: there is no middle that could be left out")
            return found
        if not (isinstance(keep, tuple) and len(keep) == 2 and all(isinstance(n, int) and n > 0 for n in keep)):
            raise RavineError(f"keep_outer must be True, False or a pair of whole numbers from 1, got {keep!r}")
        if sum(keep) >= len(self.layers):
            raise RavineError(f"keep_outer={keep} leaves no middle: the model has {len(self.layers)} layers")
        return self.layers[keep[0] : len(self.layers) - keep[1]]

    def _shapes(self) -> dict[Layer, tuple[tuple[int, ...], tuple[int, ...]]]:
        """What each layer is given and what the next is: the shapes."""
        probe = copy.deepcopy(self.model).eval()
        names = [layer.names[0] for layer in self.layers]
        given = features(probe, names, lambda: self.run(probe), "input", stop=False)
        shapes = [tuple(given[name].shape) for name in names] + [self.output]
        return {layer: (shapes[i], shapes[i + 1]) for i, layer in enumerate(self.layers)}


def _described(model: nn.Module, layer: Layer) -> str:
    """Its name, and the kind of the module that has it; the model itself has no name."""
    kind = type(layer.modules(model)[0]).__name__
    return f"'{layer}' ({kind})" if str(layer) else f"a {kind}"


def _without(model: nn.Module, layers: list[Layer]) -> nn.Module:
    """A copy of the model in which these layers do nothing."""
    copied = copy.deepcopy(model)
    for name in (name for layer in layers for name in layer.names):
        parent, _, key = name.rpartition(".")
        copied.get_submodule(parent)._modules[key] = nn.Identity()
    return copied
