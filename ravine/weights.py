"""A task's model where one wants to look at it: freshly drawn, trained, or with the weights of a file."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError, unknown
from ravine.core.probe import Moment
from ravine.core.roles import plain, unwrapped
from ravine.core.seeds import GlobalStream, derive
from ravine.core.task import Task
from ravine.curvature.mapped import draws
from ravine.loop import check_device, train
from ravine.optimizer import Optimizer

Observe = Callable[[int, int], None] | None


def fresh(task: Task, seed: int = 0, device: str = "cpu") -> nn.Module:
    """The model with which `ravine.train` begins for this seed."""
    place = check_device(device)
    with GlobalStream(derive(seed, "init"), place):
        return task.model().to(place).train()


def trained(
    task: Task, optimizer: str = "adam", steps: int = 500, seed: int = 0, device: str = "cpu", observe: Observe = None
) -> nn.Module:
    """The model at the end of `ravine.train`, at the parameters that the optimizer says count.

    Raises `RavineError` where training diverges.
    """
    last: Moment | None = None
    for moment in train(task, optimizer, steps=steps, seed=seed, device=device):
        last = moment
        if observe is not None:
            observe(moment.work, steps)
    assert last is not None
    if last.diverged:
        raise RavineError(f"'{optimizer}' diverged on '{task.name}' after {last.work} steps: give it a smaller lr")
    return settled(last)


def settled(moment: Moment) -> nn.Module:
    """The model of a run's last moment, at the parameters that its optimizer says count."""
    counting = moment.optimizer.swapped() if isinstance(moment.optimizer, Optimizer) else nullcontext()
    with counting:
        kept = {name: value.clone() for name, value in moment.model.state_dict().items()}
    moment.model.load_state_dict(kept)
    return moment.model.train()


def stored(task: Task, file: str | Path, device: str = "cpu") -> nn.Module:
    """The model with the weights of a file by `torch.save(model.state_dict(), file)`, or of the checkpoint (or folder)
    that `ravine.train(out=...)` left.

    Nothing but tensors is unpickled. Raises `RavineError` for a file that holds something else, and for weights that
    are missing, not the model's, of another shape, or not finite.
    """
    path = Path(file)
    path = path / "checkpoint.pt" if path.is_dir() else path
    given = {plain(name): value for name, value in _weights(path).items()}
    model = fresh(task, 0, device)
    inner = unwrapped(model)
    _compare(path, task, inner.state_dict(), given)
    inner.load_state_dict(given)
    return model


def _weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise RavineError(f"there is no checkpoint '{path}'")
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        why = str(error).split("\n")[0].split(". ")[0]
        raise RavineError(
            f"'{path}' cannot be read as weights ({why}): save them by torch.save(model.state_dict(), ...)"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("run"), dict):
        found = found["run"].get("model")
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        listed = f" with the keys {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else ""
        raise RavineError(
            f"'{path}' holds a {type(found).__name__}{listed}, no weights: save them by "
            "torch.save(model.state_dict(), ...), or give what ravine train --out left"
        )
    return found


def _compare(path: Path, task: Task, wanted: Mapping[str, Any], given: Mapping[str, Tensor]) -> None:
    """Raise unless the file has every tensor of the model and no other, each of the right shape and finite."""
    missing, others = [name for name in wanted if name not in given], [name for name in given if name not in wanted]
    if others and not missing:
        raise unknown(f"weight in '{path}' for the model of task '{task.name}'", others[0], wanted)
    if missing:
        more = f", and has {_some(others)} instead" if others else ""
        raise RavineError(
            f"'{path}' lacks {_some(missing)} of the model of task '{task.name}'{more}: is it of another task?"
        )
    for name, value in wanted.items():
        if isinstance(value, Tensor) and value.shape != given[name].shape:
            raise RavineError(
                f"'{path}': {name} has the shape {tuple(given[name].shape)}, but in the model of task '{task.name}' "
                f"{tuple(value.shape)}"
            )
        if not torch.isfinite(given[name]).all():
            raise RavineError(f"'{path}': {name} has numbers that are not finite: the run diverged, or the file broke")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def still(model: nn.Module) -> list[str]:
    """Put what drops at random into evaluation mode, and nothing else; the names of these modules."""
    found = [name for name, module in model.named_modules() if draws(module)]
    for name in found:
        model.get_submodule(name).train(False)
    return found
