"""How long the five largest eigenvalues take, to 1 %."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvature_parts.models import CRITERION, Batch, loss, trained
from curvature_parts.packages import HERE, MAKERS, curvlinops_of, eigenthings_of, table_of_times, turns
from ravine import curvature

if "PyHessian" in HERE:
    import pyhessian
if "hessian-eigenthings" in HERE:
    import hessian_eigenthings


def values_ours(model: nn.Module, batch: Batch, seed: int, tol: float, certify: bool = False) -> Any:
    made = curvature.hessian(model, loss, batch)
    return curvature.top(made, 5, tol=tol, certify=certify, generator=torch.Generator().manual_seed(seed)).value


def values_certified(model: nn.Module, batch: Batch, seed: int, tol: float) -> Any:
    """With the search for what one Krylov space misses, which no peer makes."""
    return values_ours(model, batch, seed, tol, certify=True)


def values_pyhessian(model: nn.Module, batch: Batch, seed: int, tol: float) -> Any:
    torch.manual_seed(seed)
    return pyhessian.hessian(model, CRITERION, data=batch, cuda=False).eigenvalues(maxIter=300, tol=tol, top_n=5)[0]


def values_eigenthings(model: nn.Module, batch: Batch, seed: int, steps: int) -> Any:
    made = eigenthings_of(model, [batch])
    return hessian_eigenthings.lanczos(made, k=5, max_iter=steps, which="LA", seed=seed).eigenvalues


def values_curvlinops(model: nn.Module, batch: Batch, seed: int, tol: float) -> Any:
    made = curvlinops_of(model, [batch])
    start = np.random.default_rng(seed).standard_normal(made.shape[0]).astype(np.float32)
    return eigsh(made.to_scipy(dtype=np.float32), k=5, which="LA", tol=tol, v0=start, return_eigenvectors=False)


TOLERANCES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 5e-3, 3e-3, 2e-3, 1e-3, 5e-4, 3e-4, 2e-4, 1e-4, 1e-5)
EIGEN: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "ravine": (values_ours, TOLERANCES), "ravine, certified": (values_certified, TOLERANCES),
    "PyHessian": (values_pyhessian, TOLERANCES),
    "hessian-eigenthings": (values_eigenthings, (*range(8, 32), 40, 50, 75, 100)),
    "curvlinops": (values_curvlinops, TOLERANCES),
}  # fmt: skip


def apart(found: Any, truth: np.ndarray) -> float:
    """The largest relative error."""
    values = np.sort(np.asarray(found, dtype=float))[::-1]
    return float(np.abs(values / truth - 1).max())


def exact_top(model: nn.Module, batch: Batch) -> np.ndarray:
    """The five largest eigenvalues in float64 by ARPACK, which is not ours."""
    wide = tuple(x.double() if x.is_floating_point() else x for x in batch)
    made = curvature.hessian(copy.deepcopy(model).double(), loss, wide)
    seen = LinearOperator(made.shape, matvec=lambda v: (made @ torch.from_numpy(v.reshape(-1))).numpy(), dtype=float)
    both = eigsh(seen, k=5, which="LM", tol=1e-7, return_eigenvectors=False)
    values = np.sort(eigsh(seen, k=5, which="LA", tol=1e-7, return_eigenvectors=False))[::-1]
    if not np.allclose(np.sort(both)[::-1], values, rtol=1e-5):
        print("    the largest in size are others, which PyHessian looks for")
    return values


def loosest(run: Callable[..., Any], settings: Iterable[Any], truth: np.ndarray) -> Any:
    """The first setting that gives 1 % from each of three seeds, or None."""
    for setting in settings:
        if all(apart(run(seed, setting), truth) <= 0.01 for seed in range(3)):
            return setting
    return None


def top(rounds: int) -> None:
    for case in ("mlp", "cnn", "transformer"):
        model, batch = trained(case)
        truth = exact_top(model, batch)
        print(f"  {case}: " + ", ".join(f"{value:.4g}" for value in truth))
        runs, settings, errors = {}, {}, {}
        with sdpa_kernel(SDPBackend.MATH):
            for name, (values, ladder) in EIGEN.items():
                if name.split(",")[0] not in MAKERS:
                    continue
                mine = copy.deepcopy(model)
                run = partial(values, mine, batch)
                setting = loosest(run, ladder, truth)
                if setting is None:
                    print(f"    {name:30s}1 % is not reached")
                    continue
                settings[name], errors[name] = setting, apart(run(0, setting), truth)
                runs[name] = partial(run, 0, setting)
            run = partial(values_certified, copy.deepcopy(model), batch, 0, 1e-4)
            runs["ravine, as it comes"], settings["ravine, as it comes"] = run, 1e-4
            errors["ravine, as it comes"] = apart(run(), truth)
            spent = turns(runs, rounds)
        table_of_times(spent, settings, errors)
