"""Curvature as operators on flat vectors: the Hessian, Gauss-Newton, Fisher and K-FAC, and estimates of them."""

from ravine.curvature.condition import condition_number as condition_number
from ravine.curvature.diagonal import diagonal as diagonal
from ravine.curvature.drawing import plot_spectrum as plot_spectrum
from ravine.curvature.eigen import bottom as bottom
from ravine.curvature.eigen import top as top
from ravine.curvature.ekfac import ekfac as ekfac
from ravine.curvature.fisher import fisher as fisher
from ravine.curvature.function import of_function as of_function
from ravine.curvature.gauss_newton import gauss_newton as gauss_newton
from ravine.curvature.hessian import hessian as hessian
from ravine.curvature.kfac import kfac as kfac
from ravine.curvature.layer_drawing import plot_layers as plot_layers
from ravine.curvature.negative import negative_curvature as negative_curvature
from ravine.curvature.of_task import of_task as of_task
from ravine.curvature.per_layer import per_layer as per_layer
from ravine.curvature.solve import solve as solve
from ravine.curvature.spectrum import spectrum as spectrum
from ravine.curvature.survey import survey as survey
from ravine.curvature.survey import survey_layers as survey_layers
from ravine.curvature.trace import trace as trace
