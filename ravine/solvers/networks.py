"""The solvers of outputs as optimizers of a network, with the arguments that their specs have."""

from typing import Any, ClassVar

from torch import nn

from ravine.core.errors import RavineError
from ravine.solvers.outputs import OutputSolver
from ravine.solvers.signature import refuse_unnamed, signature


class NamedOutput(OutputSolver):
    """A solver of one kind; what is said of it stands at its direction, in `ravine.solvers.<its name>`."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__signature__ = signature(OutputSolver, cls.kind)  # type: ignore[attr-defined]

    def __init__(self, model: nn.Module, *more: Any, **arguments: Any) -> None:
        refuse_unnamed(self.kind, more)
        if "criterion" not in arguments:
            raise RavineError(f"{self.kind} looks at outputs: give criterion=, as in criterion=nn.CrossEntropyLoss()")
        super().__init__(model, None, **arguments)


class KFAC(NamedOutput):
    """K-FAC: `KFAC(model, criterion=nn.CrossEntropyLoss())`, stepped with `step((inputs, targets))`."""

    kind: ClassVar[str] = "kfac"


class EKFAC(NamedOutput):
    """E-KFAC: `EKFAC(model, criterion=nn.CrossEntropyLoss())`."""

    kind: ClassVar[str] = "ekfac"


class HessianFree(NamedOutput):
    """Hessian-free optimization after Martens: `HessianFree(model, criterion=nn.CrossEntropyLoss())`."""

    kind: ClassVar[str] = "hessian_free"


class LevenbergMarquardt(NamedOutput):
    """Levenberg and Marquardt's method: `LevenbergMarquardt(model, criterion=nn.MSELoss())`."""

    kind: ClassVar[str] = "levenberg_marquardt"
