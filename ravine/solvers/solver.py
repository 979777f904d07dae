"""A solver as a torch optimizer: the parameters of a network as one vector, moved by a direction and a search."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ravine.core.errors import RavineError
from ravine.core.spec import Call
from ravine.engine.finite import NonFinite
from ravine.solvers.base import Direction, Memory
from ravine.solvers.closure import Closure, ClosureProblem
from ravine.solvers.determinism import check_cleared, check_same
from ravine.solvers.making import make_direction as make_direction

Params = Iterable[Any]


class Solver(torch.optim.Optimizer):
    """Any solver by its spec: `Solver(model.parameters(), "lbfgs(history=10)")`. `step(closure)` returns the loss.

    The closure returns the loss, the same function at every call within one step; it may call `backward()` where no
    products of the Hessian are needed. All parameters are one vector, so there is one param group.
    lr: the length of a `fixed` step, and of the longest that `armijo` tries. Other searches choose it themselves and
    refuse one.
    iterations: steps for each call of `step`, all with the same closure, which saves evaluations where it is always
    the same, over all data.
    generator: for solvers that draw; one of their own, seeded with 0, unless given.

    evaluations, products: what it has cost so far, in gradients and in products with the Hessian. reason: why the last
    step did not move; empty where it did.
    """

    needs_outputs: ClassVar[bool] = False
    kind: ClassVar[str] = ""

    def __init__(
        self,
        params: Params,
        solver: str | Direction | None = None,
        *,
        lr: float = 1.0,
        iterations: int = 1,
        generator: torch.Generator | None = None,
        **hyperparameters: Any,
    ) -> None:
        self.method = make_direction(self.kind if solver is None else solver, hyperparameters)
        given = _listed(params, self.method.name)
        if not given:
            raise RavineError(f"{self.method.name} got no parameters: is the model frozen, or its iterator used up?")
        if isinstance(given[0], dict):
            given = _one_group(given, self.method.name)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise RavineError(f"iterations must be a whole number from 1, got {iterations!r}")
        self._check_lr(lr)
        self._sealed = False
        super().__init__(given, {"lr": lr, "iterations": iterations})
        self._sealed = True
        self.generator = generator or torch.Generator().manual_seed(0)
        self.memory: Memory = {}
        self.reason = ""
        self.problem = self._problem()
        self.method.check_problem(self.problem)

    def _problem(self) -> ClosureProblem:
        group = self.param_groups[0]
        names = group.get("param_names") or [str(i) for i in range(len(group["params"]))]
        named = [(name, p) for name, p in zip(names, group["params"], strict=True) if p.requires_grad]
        _check_parameters(named, self.method.name)
        return ClosureProblem(named, "product" in self.method.needs, self.method.name, self.generator)

    def _check_lr(self, lr: Any) -> None:
        if isinstance(lr, bool) or not isinstance(lr, int | float | Tensor) or not 0 <= float(lr) < math.inf:
            raise RavineError(f"{self.method.name}: lr must be in [0, inf), got {lr!r}")
        if float(lr) != 1 and not self.method.searcher.scaled:
            raise RavineError(
                f"{self.method.name} finds the length of its steps by search='{self.method.search}', which has no use "
                f"for lr={float(lr):g}: leave it at 1, or use search='armijo' or 'fixed'"
            )

    @property
    def evaluations(self) -> int:
        return self.problem.evaluations

    @property
    def products(self) -> int:
        return self.problem.products

    @property
    def spec(self) -> Call:
        """The spec that makes this again."""
        group = self.param_groups[0]
        more = {key: group[key] for key in ("lr", "iterations") if group[key] != 1}
        return self.method.call().including(**more)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused once it is made: all parameters are one vector."""
        if getattr(self, "_sealed", False):
            raise RavineError(f"{self.method.name} moves all parameters as one vector: give them all when it is made")
        super().add_param_group(param_group)

    def __repr__(self) -> str:
        shown = Call(self.method.name, tuple(self.method.hyperparameters().items()))
        group = self.param_groups[0]
        return (
            f"{type(self).__name__}({shown}, lr={float(group['lr']):g}, iterations={group['iterations']}: "
            f"{self.problem.size:,} parameters of {self.problem.dtype}, {self.evaluations:,} evaluations, "
            f"{self.products:,} products so far)"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All of it, for copy.deepcopy and pickle; copy the model in the same call, so that both have one weight."""
        return self.__dict__.copy()

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Move the parameters by `iterations` steps; the loss is the one before them.

        Where anything is raised, the parameters are as they were.
        """
        if not callable(closure):
            raise RavineError(f"{self.method.name} needs a closure that returns the loss: step(closure)")
        group, problem = self.param_groups[0], self.problem
        problem.check_trained()
        self._check_lr(group["lr"])
        problem.closure = closure
        start = problem.read()
        at = start
        try:
            point = problem.evaluate(start)
            if not point.finite:
                raise NonFinite(f"the loss or its gradient is not finite at the start ({self._what(closure)})")
            value = point.value
            if not self.memory.get("checked"):
                again = problem.evaluate(start)  # the same tensor, so that a kept graph is of this point
                check_same(point.value, again.value, closure, problem.dtype)
                if problem.called_backward:
                    check_cleared(point.gradient, again.gradient)
            self.memory["checked"] = True
            self.memory["lr"] = float(group["lr"])
            for _ in range(group["iterations"]):
                moved = self.method.step(problem, point, self.memory)
                point, self.reason = moved.point, moved.reason
                if moved.reason:
                    break
            at = point.x
        finally:
            problem.write(at)
            problem.release()
            problem.closure = None
        return torch.tensor(value, dtype=problem.dtype, device=problem.device)

    def _what(self, closure: Closure) -> str:
        with torch.no_grad():
            bad = [name for (name, _), p in zip(self.problem.parts, self.problem.parameters, strict=True)
                   if not torch.isfinite(p).all()]  # fmt: skip
        return f"parameter '{bad[0]}' is not" if bad else "all parameters are: look at the data and the loss"

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on beside the parameters: tensors, numbers and text."""
        group = self.param_groups[0]
        shown = {key: value for key, value in group.items() if key != "params"}
        sizes = [list(p.shape) for p in group["params"]]
        return {
            "solver": str(self.method),
            "state": {0: _copied(self.memory)} if self.memory else {},
            "param_groups": [{**shown, "params": list(range(len(sizes))), "shapes": sizes}],
            "evaluations": self.problem.evaluations,
            "products": self.problem.products,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state; everything is checked first, and a state that does not fit changes nothing."""
        group = self.param_groups[0]
        wanted = {"solver", "state", "param_groups", "evaluations", "products", "generator"}
        if missing := sorted(wanted - set(state_dict)):
            raise RavineError(f"the checkpoint is of another optimizer: it lacks '{missing[0]}'")
        method = make_direction(state_dict["solver"], {})
        if method.name != self.method.name:
            raise RavineError(f"the checkpoint is of '{method.name}', but this solver is '{self.method.name}'")
        (saved, *more) = state_dict["param_groups"]
        shapes = [list(p.shape) for p in group["params"]]
        if more or saved.get("shapes") != shapes:
            raise RavineError(f"the checkpoint has parameters of shapes {saved.get('shapes')}, this solver {shapes}")
        here, there = group.get("param_names"), saved.get("param_names")
        if here and there and here != there:
            raise RavineError(f"the checkpoint's parameters are {there}, this solver's {here}")
        memory = {
            key: _copied(value, None if key.startswith("small_") else self.problem.device)
            for key, value in state_dict["state"].get(0, {}).items()
        }
        _check_memory(memory, self.problem)
        before, was = self.method, dict(group)
        generator = torch.Generator(self.generator.device)
        generator.set_state(state_dict["generator"].clone().cpu())
        try:
            self.method = method
            self._check_lr(saved["lr"])
        except RavineError:
            self.method = before
            raise
        group.update({key: value for key, value in saved.items() if key not in ("params", "shapes")})
        group["params"] = was["params"]
        self.memory = memory
        self.problem.evaluations, self.problem.products = int(state_dict["evaluations"]), int(state_dict["products"])
        self.generator.set_state(generator.get_state())


def _listed(params: Any, name: str) -> list[Any]:
    if isinstance(params, nn.Module):
        raise RavineError(f"{name} is given parameters, not a module: write model.parameters()")
    if isinstance(params, Tensor):
        raise RavineError(f"{name} is given parameters in a list, not a tensor: write [tensor]")
    if not isinstance(params, Iterable):
        raise RavineError(f"{name} is given parameters, as model.parameters(), got {params!r:.80}")
    return list(params)


def _one_group(given: list[Any], name: str) -> list[Any]:
    if len(given) > 1:
        raise RavineError(
            f"{name} moves all parameters as one vector with one step length: give one param group, got {len(given)}"
        )
    if extra := sorted(set(given[0]) - {"params", "param_names"}):
        raise RavineError(f"{name}: a param group says 'params' only, got '{extra[0]}': give it to the solver itself")
    return given


def _check_parameters(named: list[tuple[str, Tensor]], name: str) -> None:
    if not named:
        raise RavineError(f"{name}: none of the parameters requires a gradient")
    first = named[0][1]
    for label, p in named:
        if p.dtype not in (torch.float32, torch.float64):
            raise RavineError(f"{name} works in float32 or float64, but parameter '{label}' is {p.dtype}")
        if p.dtype != first.dtype or p.device != first.device:
            raise RavineError(
                f"{name} makes one vector of all parameters: '{label}' is {p.dtype} on {p.device}, others "
                f"{first.dtype} on {first.device}"
            )
    if not sum(p.numel() for _, p in named):
        raise RavineError(f"{name}: the parameters have no numbers")


def _copied(value: Any, device: torch.device | None = None) -> Any:
    """The same tensors, numbers and text, in memory of their own."""
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(one, device) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one, device) for one in value)
    return value


def _check_memory(memory: Memory, problem: Any) -> None:
    """A vector or matrix of another size than this problem's, or of another dtype, does not belong here."""
    for key, value in memory.items():
        if not isinstance(value, Tensor) or not value.ndim or key.startswith("small_"):
            continue
        if value.shape[-1] != problem.size or value.dtype != problem.dtype:
            raise RavineError(
                f"the checkpoint's '{key}' is {tuple(value.shape)} of {value.dtype}, where this solver has "
                f"{problem.size:,} parameters of {problem.dtype}"
            )


Maker = Callable[..., Solver]
