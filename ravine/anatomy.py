"""The curvature of a task at one place: which weights, which data, and all that is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ravine.assembly import check
from ravine.core.batches import length
from ravine.core.declared import check_value
from ravine.core.errors import RavineError
from ravine.core.roles import named_parameters
from ravine.core.seeds import generator
from ravine.core.task import Task
from ravine.curvature.of_task import check_asked as check_kind
from ravine.curvature.of_task import of_task
from ravine.curvature.per_layer import per_layer
from ravine.curvature.result import Eigenpairs, Estimate
from ravine.curvature.survey import Layer, Survey, Watch, check_asked, survey, survey_layers
from ravine.weights import fresh, still, stored, trained

_BATCHES = 4  # of the task's size are looked at unless told
_KEPT = 1024  # up to so many examples what products need is kept, though a stream of data cuts them into small batches


@dataclass(frozen=True)
class Anatomy:
    """What was found.

    where: the place in words. examples: how many the curvature is the mean of. still: modules that would drop at
    random and were put into evaluation mode.
    """

    task: str
    kind: str
    where: str
    examples: int
    seed: int
    whole: Survey
    layers: Mapping[str, Layer] = field(default_factory=dict)
    still: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """All of it as numbers and words, without vectors."""
        whole = self.whole
        found: dict[str, Any] = {name: getattr(self, name) for name in ("task", "kind", "where", "examples", "seed")}
        found |= {"still": list(self.still), "parameters": whole.size, "products": whole.products}
        for name in ("top", "bottom", "trace", "condition"):
            found[name] = told(getattr(whole, name))
        found["negative"] = told(whole.negative) | {"below": whole.limit}
        found["spectrum"] = {
            "error": whole.spectrum.error,
            "products": whole.spectrum.products,
            "nodes": whole.spectrum.nodes.tolist(),
            "weights": whole.spectrum.weights.tolist(),
        }
        found["layers"] = {
            name: {"size": one.size, "top": told(one.top), "trace": told(one.trace)}
            for name, one in self.layers.items()
        }
        return found


def told(found: Estimate | Eigenpairs) -> dict[str, Any]:
    """An estimate as numbers and words."""
    value, error = (part if isinstance(part, int | float) else part.tolist() for part in (found.value, found.error))
    return {
        "value": value,
        "error": error,
        "converged": found.converged,
        "reason": found.reason,
        "products": found.products,
    }


def anatomy(
    task: Task,
    *,
    kind: str = "hessian",
    checkpoint: str | Path | None = None,
    optimizer: str | None = None,
    steps: int = 500,
    examples: int | None = None,
    layers: bool = False,
    top: int = 3,
    samples: int = 100,
    most: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    observe: Watch = None,
) -> Anatomy:
    """The curvature of a task, surveyed: see `ravine.curvature.of_task` for `kind`, and `survey` for the numbers.

    It is taken at the initial weights; with `optimizer` after `ravine.train` of so many steps; with `checkpoint` at the
    weights of that file. examples: the first so many of the training data; four batches unless given. layers: each
    layer's own block too.
    What is asked for is checked before anything is computed. Raises `RavineError`.
    """
    examples = few(task) if examples is None else examples
    check_kind(task, kind, examples)
    check_value("seed", seed, int, "[0, inf)")
    check_value("steps", steps, int, "[1, inf)")
    if checkpoint is not None and optimizer is not None:
        raise RavineError("the weights are those of a checkpoint or of training: give one of the two")
    if optimizer is not None:
        check(optimizer)
    model = fresh(task, seed, device) if checkpoint is None else stored(task, checkpoint, device)
    _check_size(model, top, samples, most)
    where = "initial weights" if checkpoint is None else f"weights of {Path(checkpoint).name}"
    if optimizer is not None:
        seen = None if observe is None else lambda done, planned: observe("training", done, planned)
        model = trained(task, optimizer, steps, seed, device, seen)
        where = f"after {steps} gradient evaluations of {optimizer}"
    quiet = still(model)

    def of(params: list[str] | None) -> Any:
        options: dict[str, Any] = {"generator": generator(seed, "targets")} if kind == "fisher" else {}
        if kind not in ("kfac", "ekfac"):
            options["keep"] = examples <= _KEPT
        return of_task(task, model, kind, examples, params, **options)

    whole = survey(of(None), top, samples=samples, most=most, generator=generator(seed, "survey"), observe=observe)
    found: dict[str, Layer] = {}
    if layers:
        blocks = per_layer(of, model)
        found = survey_layers(blocks, samples=samples, most=most, generator=generator(seed, "layers"), observe=observe)
    return Anatomy(task.name, kind, where, examples, seed, whole, found, tuple(quiet))


def few(task: Task) -> int:
    """As many examples as four batches have, or as there are."""
    count, n = _BATCHES * task.batch_size, length(task.train)
    return count if n is None else min(n, count)


def _check_size(model: nn.Module, top: int, samples: int, most: int | None) -> None:
    sizes = [(p.numel(), p.dtype.itemsize) for p in named_parameters(model).values() if p.requires_grad]
    if sizes:  # of none, the operator says so
        check_asked(sum(count for count, _ in sizes), top, samples, most, sizes[0][1])
