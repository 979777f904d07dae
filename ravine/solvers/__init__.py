"""Second-order optimizers: a direction times a search, on plain functions and on whole networks."""

from ravine.solvers.armijo import Armijo as Armijo
from ravine.solvers.base import Direction as Direction
from ravine.solvers.base import Search as Search
from ravine.solvers.fixed import Fixed as Fixed
from ravine.solvers.lbfgs import LBFGS as _LBFGS  # noqa: F401 - makes its name known
from ravine.solvers.named import LBFGS as LBFGS
from ravine.solvers.solver import Solver as Solver
from ravine.solvers.strong_wolfe import StrongWolfe as StrongWolfe
