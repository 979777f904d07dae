"""What the solvers cost beside scipy's and torch's, on the same starts in one run.

    python benchmarks/solvers.py [--parts rosenbrock,logistic,mgh,saddles,memory,overhead] [--starts 20]

rosenbrock, logistic: evaluations (of a function with its gradient; products of the Hessian behind a +) until |g| <=
1e-6 in float64, medians of starts that are perturbed by 1e-6. Rosenbrock is the chained one of 100 numbers from
(-1.2, 1, ...); logistic is mean softplus(-y z'w) + 0.0005 |w|^2 on 200 normal rows z of 20 columns scaled from 1 to
0.03 evenly in logarithm, y = sign(z'v), v normal, seed 2: of the few such sets that were tried the one on which
scipy's counts are nearest to those that this project had been given to beat. mgh: twenty problems of More, Garbow &
Hillstrom. saddles: starts 1e-8 beside a saddle's stable manifold. memory: growth of the process over 200 steps.
overhead: what a step of L-BFGS takes beside its closure, 25 M parameters, history 10, one thread, seconds of the
processor.
"""

import argparse
import contextlib
import gc
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import mgh
import numpy as np
import scipy.optimize
import torch
from torch import Tensor

import ravine
from ravine.solvers import Direction, Solver

Function = Callable[[Tensor], Tensor]
TOL = 1e-6
BETAS = ("fletcher_reeves", "polak_ribiere", "hestenes_stiefel", "dai_yuan", "hager_zhang")
PAIRS = (
    ("lbfgs", "L-BFGS-B"), ("bfgs", "BFGS"), ("cg", "CG"), ("newton_cg", "Newton-CG"),
    ("newton_cg(search='trust_region')", "trust-ncg"),
)  # fmt: skip


class Done(Exception):
    """The gradient is small enough."""


def chained_rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def logistic() -> Function:
    g = torch.Generator().manual_seed(2)
    z = torch.randn(200, 20, generator=g, dtype=torch.float64) * torch.logspace(0, -1.5228787, 20)
    y = torch.sign(z @ torch.randn(20, generator=g, dtype=torch.float64))
    return lambda w: torch.nn.functional.softplus(-y * (z @ w)).mean() + 0.5e-3 * (w @ w)


class Counted:
    """A function for a peer: counts, and raises `Done` where the gradient is small."""

    def __init__(self, f: Function) -> None:
        self.f, self.evaluations, self.products, self.value = f, 0, 0, float("nan")

    def both(self, x: Any) -> tuple[float, Any]:
        self.evaluations += 1
        t = torch.tensor(x, requires_grad=True)
        value = self.f(t)
        (g,) = torch.autograd.grad(value, t)
        if float(g.norm()) <= TOL:
            self.value = value.item()
            raise Done
        return value.item(), g.numpy()

    def product(self, x: Any, p: Any) -> Any:
        self.products += 1
        t = torch.tensor(x, requires_grad=True)
        (g,) = torch.autograd.grad(self.f(t), t, create_graph=True)
        return torch.autograd.grad(g, t, torch.tensor(p))[0].numpy()


def scipys(method: str, f: Function, x0: Tensor) -> Counted:
    """scipy's method with its own settings, but for those that would stop it earlier."""
    counted = Counted(f)
    options = {
        "L-BFGS-B": {"maxiter": 10**5, "maxfun": 10**5, "gtol": 1e-12, "ftol": 0}, "trust-ncg": {"gtol": 1e-7},
        "Newton-CG": {"xtol": 1e-12, "maxiter": 10**5},
    }.get(method, {"gtol": 1e-7, "maxiter": 10**5})  # fmt: skip
    hessp = {"hessp": counted.product} if method in ("Newton-CG", "trust-ncg") else {}
    with contextlib.suppress(Done):
        scipy.optimize.minimize(counted.both, x0.numpy(), jac=True, method=method, options=options, **hessp)
    return counted


def torchs(history: int, f: Function, x0: Tensor) -> Counted:
    """torch.optim.LBFGS with its strong Wolfe search."""
    counted, x = Counted(f), x0.clone().requires_grad_()
    opt = torch.optim.LBFGS(
        [x], max_iter=10**5, max_eval=10**5, tolerance_grad=0, tolerance_change=0, history_size=history,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        value, g = counted.both(x.detach().numpy().copy())
        x.grad = torch.from_numpy(g)
        return torch.tensor(value)

    with contextlib.suppress(Done, IndexError):
        opt.step(closure)
    return counted


def ours(spec: str, f: Function, x0: Tensor) -> Counted:
    counted = Counted(f)
    found = ravine.minimize(f, x0, spec, tol=TOL)
    counted.evaluations, counted.products = found.evaluations, found.products
    if found.converged:
        counted.value = found.value
    return counted


def functions(count: int, which: list[str]) -> None:
    """The table of each of the functions that are wanted."""
    g = torch.Generator().manual_seed(1)
    noise = [1e-6 * torch.randn(100, generator=g) for _ in range(count)]
    at = {"rosenbrock": (chained_rosenbrock, torch.tensor([-1.2, 1.0]).repeat(50)),
          "logistic": (logistic(), torch.zeros(20))}  # fmt: skip
    at = {name: one for name, one in at.items() if name in which}
    runs: list[tuple[str, Callable[[Function, Tensor], Counted]]] = []
    for spec in ("lbfgs", "lbfgs(history=10)"):
        runs.append((f"ravine {spec}", partial(ours, spec)))
    runs += [(f"torch LBFGS, history {m}", partial(torchs, m)) for m in (10, 100)]
    runs += [("scipy L-BFGS-B, history 10", partial(scipys, "L-BFGS-B"))]
    runs += [("ravine bfgs", partial(ours, "bfgs")), ("scipy BFGS", partial(scipys, "BFGS"))]
    runs += [(f"ravine cg(beta='{beta}')", partial(ours, f"cg(beta='{beta}')")) for beta in BETAS]
    runs += [("scipy CG", partial(scipys, "CG"))]
    for spec, theirs in PAIRS[3:]:
        runs += [(f"ravine {spec}", partial(ours, spec)), (f"scipy {theirs}", partial(scipys, theirs))]
    for spec in ("newton", "newton(search='trust_region')", "saddle_free", "saddle_free(subspace=20)"):
        runs.append((f"ravine {spec}", partial(ours, spec)))
    print(f"\nevaluations (+products) until |g| <= {TOL:g}: median, [least, most] of {count} starts;"
          " * where not all got there")
    print(f"{'':44s}" + "".join(f"{name:>34s}" for name in at) + "   values reached")
    for name, run in runs:
        cells, values = [], ""
        for label, (f, x0) in at.items():
            found = [run(f, x0 + one[: len(x0)]) for one in noise]
            counts = [one.evaluations for one in found]
            products = int(statistics.median(one.products for one in found))
            missed = "*" if any(np.isnan(one.value) for one in found) else ""
            more = f" (+{products})" if products else ""
            cells.append(f"{statistics.median(counts):g}{missed}{more} [{min(counts)}, {max(counts)}]")
            if label == "rosenbrock":
                values = f"   0: {sum(v.value < 1 for v in found)}, 3.987: {sum(v.value > 1 for v in found)}"
            else:
                values += f"   {min(v.value for v in found):.6f}"
        print(f"{name:44s}" + "".join(f"{cell:>34s}" for cell in cells) + values, flush=True)


def problems() -> None:
    print("\nMore, Garbow & Hillstrom: evaluations of ours / scipy's; - where |g| <= 1e-6 was not"
          " reached; ~ another minimum; ! more than 1.05 of scipy's")
    totals = {}
    rows: dict[str, list[str]] = {name: [] for name in mgh.PROBLEMS}
    for spec, theirs in PAIRS:
        good = lost = 0
        for name, (residuals, x0) in mgh.PROBLEMS.items():
            f = partial(_squares, residuals)
            mine, peer = ours(spec, f, x0), scipys(theirs, f, x0)
            solved, peer_solved = not np.isnan(mine.value), not np.isnan(peer.value)
            same = not (solved and peer_solved) or abs(mine.value - peer.value) <= 1e-6 * max(1.0, abs(peer.value))
            within = solved and (not peer_solved or (mine.evaluations <= 1.05 * peer.evaluations and same))
            good, lost = good + within, lost + (peer_solved and not solved)
            cell = f"{mine.evaluations if solved else '-'}/{peer.evaluations if peer_solved else '-'}"
            rows[name].append(cell + ("" if same else "~") + ("" if within else " !"))
        totals[spec] = f"{good}/20, {lost} lost"
    print(f"{'':32s}" + "".join(f"{spec.replace('newton_cg(search=', '(')[:16]:>17s}" for spec, _ in PAIRS))
    for name, cells in rows.items():
        print(f"{name:32s}" + "".join(f"{cell:>17s}" for cell in cells))
    print(f"{'at most 1.05 x scipy':32s}" + "".join(f"{total:>17s}" for total in totals.values()))


def _squares(residuals: Function, x: Tensor) -> Tensor:
    return (residuals(x) ** 2).sum()


def every_solver() -> list[str]:
    more = [f"cg(beta='{beta}')" for beta in BETAS]
    more += ["newton(search='trust_region')", "newton(modify='eigenvalues')", "newton(modify='cholesky')",
             "newton_cg(search='trust_region')", "saddle_free(subspace=2)", "coordinate(blocks='tensor')"]  # fmt: skip
    known = [name for name, one in Direction.family().items() if one.__module__.startswith("ravine.solvers")]
    return [*(name for name in known if "outputs" not in Direction.registry[name].needs), *more]


def _factors(x: Tensor) -> Tensor:
    """Residuals of a product of two 3 x 3 matrices against a diagonal: saddles lack one of its numbers."""
    a, b = x[:9].view(3, 3), x[9:].view(3, 3)
    return (a @ b - torch.diag(torch.tensor([3.0, 2.0, 1.0]))).reshape(-1)


def saddles() -> None:
    """Residuals whose |r|^2 / 2 has a saddle, and a start 1e-8 off the manifold that leads there."""
    two = torch.diag(torch.tensor([1.5, 1.0, 0.0])).reshape(-1)  # the third singular value is not there yet
    cases = {
        "x, y^2 - 1": (lambda x: torch.stack([x[0], x[1] ** 2 - 1]), torch.tensor([1.0, 1e-8])),
        "x_i^2 - 1 of five, x_1..5": (
            lambda x: torch.cat([x[5:], x[:5] ** 2 - 1]), torch.tensor([1e-8] * 2 + [0.7, 1.2, -0.8] + [1.0] * 5)
        ),
        "A B = diag(3, 2, 1)": (_factors, torch.cat([two, two]) + 1e-8),
    }  # fmt: skip
    print("\nstarts 1e-8 beside a saddle's stable manifold: what is_minimum says, and with escape=True")
    print(f"{'':34s}" + "".join(f"{name:>30s}" for name in cases))
    for spec in every_solver():
        cells = []
        for residuals, x0 in cases.values():
            f = residuals if spec == "gauss_newton" else partial(_half, residuals)
            plain = ravine.minimize(f, x0, spec)
            out = ravine.minimize(f, x0, spec, escape=True)
            cells.append(f"{plain.is_minimum} {plain.value:.3g} -> {out.is_minimum} {out.value:.3g}")
        print(f"{spec:34s}" + "".join(f"{cell:>30s}" for cell in cells), flush=True)


def _half(residuals: Function, x: Tensor) -> Tensor:
    return 0.5 * (residuals(x) ** 2).sum()


def overhead(size: int = 25_000_000, tensors: int = 100, rounds: int = 5) -> None:
    print(f"\nL-BFGS on {size:,} float32 parameters in {tensors} tensors, history 10, one thread: processor"
          " seconds a step beside its closure")
    scale = torch.linspace(0.5, 2.0, size // tensors)
    for name in ("torch", "ravine"):
        torch.manual_seed(0)
        params = [torch.randn(size // tensors).requires_grad_() for _ in range(tensors)]
        if name == "torch":
            opt: Any = torch.optim.LBFGS(
                params, max_iter=1, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
            )
        else:
            opt = Solver(params, "lbfgs(history=10)")
        inside, calls = [0.0], [0]

        def closure(params: list[Tensor] = params, inside: list[float] = inside, calls: list[int] = calls) -> Tensor:
            began = time.process_time()
            for p in params:
                p.grad = None
            loss = sum((scale * (p - 0.3 * torch.tanh(p)) ** 2).sum() for p in params)
            loss.backward()
            inside[0] += time.process_time() - began
            calls[0] += 1
            return loss

        for _ in range(12):
            opt.step(closure)
        seconds, counts = [], []
        for _ in range(rounds):
            inside[0], calls[0], began = 0.0, 0, time.process_time()
            opt.step(closure)
            seconds.append(time.process_time() - began - inside[0])
            counts.append(calls[0])
        print(f"{name:10s} {statistics.median(seconds):.3f} [{min(seconds):.3f}, {max(seconds):.3f}], "
              f"closures {counts}")
        del opt, params, closure
        gc.collect()


def memory(steps: int = 200) -> None:
    print(f"\nresident memory after 50 steps and its growth over {steps} more, a network of 122 parameters in float64")
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float32).double()
    for spec in every_solver():
        if "residuals" in Direction.make(ravine.parse(spec).groups[0].links[0]).needs:
            continue
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(5, 20), torch.nn.Tanh(), torch.nn.Linear(20, 2))
        opt = Solver(net.parameters(), spec)
        generator = torch.Generator().manual_seed(0)

        def step(net: torch.nn.Module = net, opt: Solver = opt, generator: torch.Generator = generator) -> None:
            y = torch.randn(64, 2, generator=generator)
            opt.step(lambda: ((net(x) - y) ** 2).mean())

        for _ in range(50):
            step()
        before, objects = _resident(), len(gc.get_objects())
        for _ in range(steps):
            step()
        gc.collect()
        print(f"{spec:34s} {before / 2**20:7.1f} MiB {(_resident() - before) / 2**10:+8.0f} KiB"
              f" {len(gc.get_objects()) - objects:+6d} objects", flush=True)  # fmt: skip


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--parts", default="rosenbrock,logistic,mgh,saddles,memory,overhead")
    options.add_argument("--starts", type=int, default=20)
    given = options.parse_args()
    warnings.simplefilter("ignore")  # scipy's, of precision it does not reach
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    print(f"torch {torch.__version__}, scipy {scipy.__version__}, one thread")
    parts = given.parts.split(",")
    for which in ("rosenbrock", "logistic"):
        if which in parts:
            functions(given.starts, [which])
    if "mgh" in parts:
        problems()
    if "saddles" in parts:
        saddles()
    if "memory" in parts:
        memory()
    if "overhead" in parts:
        torch.set_default_dtype(torch.float32)
        overhead()


if __name__ == "__main__":
    main()
