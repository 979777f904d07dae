"""Every solver as an optimizer of a network, with the arguments that its spec has."""

from typing import Any, ClassVar

from ravine.solvers.signature import refuse_unnamed, signature
from ravine.solvers.solver import Solver


class Named(Solver):
    """A solver of one kind; what is said of it stands at its direction, in `ravine.solvers.<its name>`."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__signature__ = signature(Solver, cls.kind)  # type: ignore[attr-defined]

    def __init__(self, params: Any, *more: Any, **arguments: Any) -> None:
        refuse_unnamed(self.kind, more)
        super().__init__(params, None, **arguments)


class SteepestDescent(Named):
    """-g with a line search: `SteepestDescent(model.parameters(), search="armijo")`."""

    kind: ClassVar[str] = "steepest_descent"


class CG(Named):
    """Nonlinear conjugate gradients: `CG(model.parameters(), beta="polak_ribiere")`."""

    kind: ClassVar[str] = "cg"


class LBFGS(Named):
    """Limited-memory BFGS: `LBFGS(model.parameters(), history=10, search="strong_wolfe")`."""

    kind: ClassVar[str] = "lbfgs"


class BFGS(Named):
    """BFGS, at most 5,000 parameters: `BFGS(model.parameters())`."""

    kind: ClassVar[str] = "bfgs"


class Newton(Named):
    """Newton's method with the whole Hessian, at most 5,000 parameters: `Newton(model.parameters(), damping=1e-3)`."""

    kind: ClassVar[str] = "newton"


class NewtonCG(Named):
    """Truncated Newton: `NewtonCG(model.parameters(), search="trust_region")`."""

    kind: ClassVar[str] = "newton_cg"


class SaddleFree(Named):
    """Saddle-free Newton: `SaddleFree(model.parameters(), subspace=50)`."""

    kind: ClassVar[str] = "saddle_free"


class Coordinate(Named):
    """Block coordinate descent: `Coordinate(model.named_parameters(), blocks="tensor")`."""

    kind: ClassVar[str] = "coordinate"
