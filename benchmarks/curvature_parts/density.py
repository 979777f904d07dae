"""How long the density of the spectrum takes, to equal error."""

import copy
import itertools
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from curvature_parts.models import CRITERION, Batch, digits, loss
from curvature_parts.packages import HERE, MAKERS, curvlinops_of, eigenthings_of, table_of_times, turns
from ravine import curvature

if "PyHessian" in HERE:
    import pyhessian
if "hessian-eigenthings" in HERE:
    import hessian_eigenthings
if "curvlinops" in HERE:
    from curvlinops.papyan2020traces.spectrum import fast_lanczos


def bells(at: Tensor, nodes: Tensor, weights: Tensor, width: float) -> Tensor:
    """The density of weighted nodes, spread as normal distributions."""
    z = (at[:, None] - nodes.double()[None, :]) / width
    return torch.exp(-0.5 * z.square()) @ weights.double() / (width * (2 * torch.pi) ** 0.5)


class Problem(NamedTuple):
    """A network, and where and with bells of what width its density is wanted."""

    model: nn.Module
    batch: Batch
    at: Tensor
    width: float


def ours(given: Problem, seed: int, starts: int, steps: int) -> Tensor:
    made = curvature.hessian(given.model, loss, given.batch)
    found = curvature.spectrum(made, starts=starts, steps=steps, generator=torch.Generator().manual_seed(seed))
    return found.density(given.at, given.width)


def of_eigenthings(given: Problem, seed: int, starts: int, steps: int) -> Tensor:
    made = eigenthings_of(given.model, [given.batch])
    options = {"num_runs": starts, "lanczos_steps": steps, "num_grid_points": 1000, "seed": 100 * seed}
    found = hessian_eigenthings.spectral_density(made, **options)
    return bells(given.at, found.raw_eigenvalues.flatten(), found.raw_weights.flatten() / starts, given.width)


def of_curvlinops(given: Problem, seed: int, starts: int, steps: int) -> Tensor:
    torch.manual_seed(seed)
    made = curvlinops_of(given.model, [given.batch])
    found = [fast_lanczos(made, steps) for _ in range(starts)]
    nodes, weights = zip(*((values, vectors[0] ** 2) for values, vectors in found), strict=True)
    return bells(given.at, torch.cat(nodes), torch.cat(weights) / starts, given.width)


WAYS = {"ravine": ours, "hessian-eigenthings": of_eigenthings, "curvlinops": of_curvlinops}
STARTS, STEPS = (1, 2, 3, 4, 6, 8, 12, 16), (8, 10, 12, 15, 18, 20, 25, 30, 40, 60, 80)


def problem() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    batch = digits(1797)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return model, batch


def spectrum(rounds: int) -> None:
    model, batch = problem()
    wide = (batch[0].double(), batch[1])
    truth = torch.linalg.eigvalsh(curvature.hessian(copy.deepcopy(model).double(), loss, wide).dense())
    low, high = float(truth[0]), float(truth[-1])
    width = (high - low) / 100
    at = torch.linspace(low - 5 * width, high + 5 * width, 2000, dtype=torch.float64)
    exact = bells(at, truth, torch.full_like(truth, 1 / len(truth)), width)
    print(f"  mlp of {len(truth)} parameters, eigenvalues {low:.3g} to {high:.3g}, bells of a hundredth of the range")
    if "PyHessian" in HERE:
        try:
            pyhessian.hessian(copy.deepcopy(model), CRITERION, data=batch, cuda=False).density(iter=10)
        except Exception as error:
            print(f"    PyHessian's density() raises {type(error).__name__}: {' '.join(str(error).split())[:80]}")
    for target in (0.1, 0.05):
        runs, settings, errors = {}, {}, {}
        for name, way in WAYS.items():
            if name not in MAKERS:
                continue
            given = Problem(copy.deepcopy(model), batch, at, width)
            if (setting := cheapest(partial(way, given), exact, float(at[1] - at[0]), target)) is None:
                print(f"    {name} does not reach {target}")
                continue
            runs[name] = partial(way, given, 0, *setting[:2])
            settings[name], errors[name] = f"{setting[0]}x{setting[1]}", setting[2]
        print(f"  L1 error of at most {target}, mean of four seeds (setting: starts x steps)")
        table_of_times(turns(runs, rounds), settings, errors)


def cheapest(run: Callable[..., Tensor], exact: Tensor, step: float, target: float) -> tuple[int, int, float] | None:
    """The setting of the fewest products at which the L1 error, the mean of four seeds, is small enough."""
    for starts, steps in sorted(itertools.product(STARTS, STEPS), key=math.prod):
        error = statistics.mean(float((run(seed, starts, steps) - exact).abs().sum()) * step for seed in range(4))
        if error <= target:
            return starts, steps, error
    return None
