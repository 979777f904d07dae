"""Second-order optimizers: a direction times a search, on plain functions and on whole networks."""

# Directions and searches are known by their specs as soon as their files are imported.
import ravine.solvers.bfgs
import ravine.solvers.cg
import ravine.solvers.coordinate
import ravine.solvers.ekfac
import ravine.solvers.gauss_newton
import ravine.solvers.gradient
import ravine.solvers.hessian_free
import ravine.solvers.kfac
import ravine.solvers.lbfgs
import ravine.solvers.levenberg_marquardt
import ravine.solvers.newton
import ravine.solvers.newton_cg
import ravine.solvers.saddle_free  # noqa: F401
from ravine.solvers.armijo import Armijo as Armijo
from ravine.solvers.base import Direction as Direction
from ravine.solvers.base import Search as Search
from ravine.solvers.exact import Exact as Exact
from ravine.solvers.fixed import Fixed as Fixed
from ravine.solvers.hager_zhang import HagerZhang as HagerZhang
from ravine.solvers.minimizing import Result as Result
from ravine.solvers.minimizing import minimize as minimize
from ravine.solvers.named import BFGS as BFGS
from ravine.solvers.named import CG as CG
from ravine.solvers.named import LBFGS as LBFGS
from ravine.solvers.named import Coordinate as Coordinate
from ravine.solvers.named import Newton as Newton
from ravine.solvers.named import NewtonCG as NewtonCG
from ravine.solvers.named import SaddleFree as SaddleFree
from ravine.solvers.named import SteepestDescent as SteepestDescent
from ravine.solvers.networks import EKFAC as EKFAC
from ravine.solvers.networks import KFAC as KFAC
from ravine.solvers.networks import HessianFree as HessianFree
from ravine.solvers.networks import LevenbergMarquardt as LevenbergMarquardt
from ravine.solvers.outputs import OutputSolver as OutputSolver
from ravine.solvers.solver import Solver as Solver
from ravine.solvers.strong_wolfe import StrongWolfe as StrongWolfe
from ravine.solvers.trust_region import TrustRegion as TrustRegion

ConjugateGradient = CG
