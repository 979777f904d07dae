"""What a trial's process does: load the task, train, and send what happens to the coordinator, which alone writes."""

import contextlib
import dataclasses
import importlib
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import connection, parent_process
from typing import Any

import torch

from ravine.assembly import assemble
from ravine.core.batches import Batch, batches, to
from ravine.core.dry_run import dry_run, hash_tensors
from ravine.core.errors import RavineError
from ravine.core.seeds import generator
from ravine.core.spec import parse
from ravine.core.task import Task
from ravine.loop import Run, check_device, moments
from ravine.racing.server import WARM
from ravine.racing.source import load
from ravine.racing.unit import Unit


def warm() -> None:
    """Load the coming race's task in the fork server, so that trials find it ready. What fails here fails there too."""
    _speak_aside()
    torch.set_num_threads(1)  # before any fork: a pool of threads would not survive it
    importlib.import_module("torch._dynamo")  # a second and more, which torch's optimizers import at their first use
    source = os.environ.get(WARM)
    if source:
        try:
            load(source)
        except BaseException:  # sys.exit() in a user's file too
            load.cache_clear()


@contextlib.contextmanager
def reporting(pipe: connection.Connection) -> Iterator[None]:
    """Inside, the process behaves as a crew's must, and what goes wrong is told through the pipe."""
    _behave()
    try:
        yield
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more
    except BaseException as error:
        pipe.send(("failed", {"reason": _reason(error), "traceback": traceback.format_exc(limit=-4)}))
    finally:
        pipe.close()


def run(pipe: connection.Connection, source: str, unit: Unit) -> None:
    """One trial."""
    with reporting(pipe):
        _train(pipe, load(source), unit)


def inspect(pipe: connection.Connection, source: str, specs: list[str], steps: int, device: str) -> None:
    """Try everything once, and tell what the coordinator must know of the task."""
    _behave()
    try:
        pipe.send(("end", _inspect(load(source), specs, steps, device)))
    except BaseException as error:
        shown = str(error) if isinstance(error, RavineError) else f"{type(error).__name__}: {error}"
        pipe.send(("failed", {"reason": shown}))
    finally:
        pipe.close()


def _inspect(task: Task, specs: list[str], steps: int, device: str) -> dict[str, Any]:
    place = check_device(device)
    dry = dry_run(task, device, test=True)
    for spec in specs:
        run = Run(task, lambda model, spec=spec: assemble(parse(spec), model, steps, "ignore", task), 0, place)  # type: ignore[misc]
        run.advance(2, keep_before=False)
    started = time.perf_counter()
    run.advance(5, keep_before=False)
    step = (time.perf_counter() - started) / 3
    started = time.perf_counter()
    run.judge(None, ())
    return {
        "name": task.name,
        "metric": task.metric_name,
        "better": task.better,
        "goal": task.goal,
        "batch_size": task.batch_size,
        "parameters": dry.parameters,
        "fingerprint": dry.fingerprint,
        "step_seconds": step,
        "evaluation_seconds": time.perf_counter() - started,
        "can_swap": _targets_apart(task),
    }


def _train(pipe: connection.Connection, task: Task, unit: Unit) -> None:
    place = check_device(unit.device)
    if unit.kind == "swapped":
        task = swapped(task, unit.seed)
    spec = parse(unit.spec)
    run = Run(task, lambda model: assemble(spec, model, unit.steps, "ignore", task), unit.seed, place)
    started = time.perf_counter()
    weights, order, moment = "", [], None
    for moment in moments(run, unit.steps, unit.every, (), None):
        if moment.step == 0:
            weights = hash_tensors(moment.model.state_dict())
        order.append(hash_tensors([moment.batch]))
        pipe.send(("row", moment.row()))
    assert moment is not None
    test = None
    if unit.kind == "run" and task.test is not None and not moment.diverged:
        with run.judging.again():
            test = run.judged(to(task.test, place))
    observed = {
        "seconds": time.perf_counter() - started,
        "evaluation_seconds": moment.evaluation_seconds,
        "memory_mb": peak_memory(),
    }
    # A run that diverged saw fewer batches: the order is compared as far as both went.
    content = {"test": test, "weights": weights, "order": order, "observed": observed}
    pipe.send(("end", {"status": "diverged" if moment.diverged else "done"} | content))


def swapped(task: Task, seed: int) -> Task:
    """The same task with the targets of every batch dealt out anew: nothing in the inputs tells them."""
    draw = generator(seed, "swapped")
    last: list[Any] = [None, None]  # a batch keeps its targets for as long as a solver looks at it

    def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        x, y = batch
        if last[0] is not batch:
            last[:] = batch, torch.randperm(len(y), generator=draw).to(y.device)
        return task.loss(model, (x, y[last[1]]))

    def criterion(outputs: Any, batch: Batch) -> torch.Tensor:
        assert task.criterion is not None
        x, y = batch
        own = generator(seed, "swapped", hash_tensors([y]))  # parts of a batch are looked at apart from it
        return task.criterion(outputs, (x, y[torch.randperm(len(y), generator=own).to(y.device)]))

    return dataclasses.replace(task, loss=loss, criterion=criterion if task.criterion is not None else None)


def _targets_apart(task: Task) -> bool:
    """Whether batches are (inputs, targets), so that targets can be swapped."""
    if task.criterion is None:
        return False
    batch = next(batches(task.train, task.batch_size, generator(0, "dry run")))
    return isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], torch.Tensor)


def _behave() -> None:
    """One thread; Ctrl-C is the coordinator's business; die with the coordinator."""
    _speak_aside()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _speak_aside() -> None:
    """What the user's code prints goes to standard error: standard output is for the coordinator's result."""
    sys.stdout.flush()
    os.dup2(2, 1)


def _die_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, MemoryError) or re.search("(not enough|out of|can't allocate) memory", text, re.IGNORECASE):
        return f"out of memory ({text})"
    return text


def peak_memory() -> float:
    """The most MB that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)
