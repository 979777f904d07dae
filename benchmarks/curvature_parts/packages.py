"""The packages that are compared, each as a maker of products, and turns that they take."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from curvature_parts.models import CRITERION, Batch, loss
from ravine import curvature

PEERS = {"PyHessian": "pyhessian", "hessian-eigenthings": "hessian_eigenthings", "curvlinops": "curvlinops"}
HERE = {name for name, module in PEERS.items() if importlib.util.find_spec(module)}
if "PyHessian" in HERE:
    import pyhessian
if "hessian-eigenthings" in HERE:
    import hessian_eigenthings
if "curvlinops" in HERE:
    import curvlinops


def split(model: nn.Module, v: Tensor) -> list[Tensor]:
    parts = v.split([p.numel() for p in model.parameters()])
    return [part.view_as(p) for part, p in zip(parts, model.parameters(), strict=True)]


def join(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def pyhessian_of(model: nn.Module, batches: list[Batch]) -> Callable[[Tensor], Tensor]:
    given = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    made = pyhessian.hessian(model, CRITERION, cuda=False, **given)
    if len(batches) == 1:
        return lambda v: join(pyhessian.utils.hessian_vector_product(made.gradsH, made.params, split(model, v)))
    return lambda v: join(made.dataloader_hv_product(split(model, v))[1])


def eigenthings_of(model: nn.Module, batches: list[Batch]) -> Any:
    return hessian_eigenthings.HessianOperator(model, batches, loss)


def curvlinops_of(model: nn.Module, batches: list[Batch]) -> Any:
    return curvlinops.HessianLinearOperator(model, CRITERION, list(model.parameters()), batches)


def product_of(made: Any) -> Callable[[Tensor], Tensor]:
    return made if callable(made) else lambda v: made @ v


MAKERS: dict[str, Callable[[nn.Module, list[Batch]], Any]] = {
    "ravine": lambda model, batches: curvature.hessian(model, loss, batches)
}
for _name, _maker in zip(PEERS, (pyhessian_of, eigenthings_of, curvlinops_of), strict=True):
    if _name in HERE:
        MAKERS[_name] = _maker


def turns(runs: dict[str, Callable[[], Any]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each, in turns, after some rounds of warming up; one that raises has none."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    failed: set[str] = set()
    for turn in range(rounds + warm):
        for name, run in runs.items():
            if name in failed:
                continue
            started = time.process_time()
            try:
                run()
            except Exception as error:
                failed.add(name)
                print(f"    {name} raises {type(error).__name__}: {str(error).splitlines()[0]:.90}")
                continue
            if turn >= warm:
                spent[name].append(time.process_time() - started)
    return {name: seconds for name, seconds in spent.items() if seconds and name not in failed}


def told(values: list[float], digits: int = 2) -> str:
    """The median, with the quartiles."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def ratios(spent: dict[str, list[float]], a: str, b: str) -> list[float]:
    return [x / y for x, y in zip(spent[a], spent[b], strict=True)]


def gradient_of(model: nn.Module, batches: list[Batch]) -> Callable[[], Any]:
    parameters = list(model.parameters())
    return lambda: [torch.autograd.grad(loss(model, batch), parameters) for batch in batches]


def table_of_times(spent: dict[str, list[float]], settings: dict[str, Any], errors: dict[str, float]) -> None:
    peers = [name for name in spent if name in PEERS]
    fastest = min(peers, key=lambda name: statistics.median(spent[name]), default="ravine")
    for name, seconds in spent.items():
        against = told(ratios(spent, name, fastest)) if peers else ""
        cells = f"{told(seconds, 3):24s}{settings[name]!s:>10s}{errors[name]:10.2g}   {against}"
        print(f"    {name:26s}{cells}", flush=True)
    print(f"    (seconds, setting, error, times those of {fastest}, the fastest peer)")
