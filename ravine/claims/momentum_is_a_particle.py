"""Slide 26: momentum is a particle of unit mass, pushed downhill and slowed by a viscous drag."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from ravine.claims._descent import seen, walk
from ravine.core.claim import Claim, Findings, Trial
from ravine.core.evidence import at_most, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing import estimate
from ravine.rules import Momentum

Array = NDArray[Any]
DRAG, TIME = 1.0, 6.4
START = (-1.8, 1.5)
STEPS = (0.4, 0.2, 0.1, 0.05, 0.025, 0.0125, 0.00625)


def _force(x: Array) -> Array:
    """-∇J of J = ¼(x² - 1)² + 3/2 y² + ½xy, which has two valleys."""
    return np.array([x[0] - x[0] ** 3 - 0.5 * x[1], -3 * x[1] - 0.5 * x[0]])


def _gradient(x: Tensor) -> Tensor:
    return -torch.from_numpy(_force(x.numpy()))


def _momentum(h: float) -> Array:
    """The book's momentum with ε = h² and α = 1 - γh, up to TIME."""
    path = walk(Momentum(1 - DRAG * h, form="book"), h * h, torch.tensor(START, dtype=torch.float64), _gradient)
    return np.asarray(seen(path, range(round(TIME / h) + 1)).numpy())


def _euler(h: float) -> Array:
    """Semi-implicit Euler: the velocity by the force where the particle is, then the place by the new velocity."""
    x, v = np.array(START), np.zeros(2)
    places = [x]
    for _ in range(round(TIME / h)):
        v = v + h * (_force(x) - DRAG * v)
        x = x + h * v
        places.append(x)
    return np.stack(places)


def _motion() -> Any:
    """The solution of θ'' = -∇J - γθ' as a function of time."""
    return solve_ivp(
        lambda t, z: np.concatenate([z[2:], _force(z[:2]) - DRAG * z[2:]]),
        (0, TIME), [*START, 0, 0], method="DOP853", rtol=1e-11, atol=1e-12, dense_output=True,
    ).sol  # fmt: skip


def _measure(trial: Trial) -> Findings:
    motion = _motion()
    walks = {h: _momentum(h) for h in STEPS}
    same = max(float(np.abs(walks[h] - _euler(h)).max()) for h in STEPS)
    errors = [float(np.linalg.norm(w - motion(h * np.arange(len(w)))[:2].T, axis=1).max()) for h, w in walks.items()]
    fine = STEPS[2:]
    checks = [
        at_most("momentum and semi-implicit Euler: largest distance", same, 1e-12, claimed=0),
        within("exponent of h in the distance to the true motion", estimate.slope(fine, errors[2:]), 1.0, tol=0.15),
    ]
    times = np.linspace(0, TIME, 200)
    curves = [
        Series(f"momentum, h = {h}", (h * np.arange(len(walks[h]))).tolist(), walks[h][:, 0].tolist(), kind="both")
        for h in STEPS[:2]
    ]
    curves.append(Series("Newton's law", times.tolist(), motion(times)[0].tolist(), kind="reference"))
    sizes = [
        Series("measured", STEPS, errors, kind="both"),
        Series("∝ h", STEPS, [errors[-1] * h / STEPS[-1] for h in STEPS], kind="reference"),
    ]
    panels = [
        Panel("time hk", "first coordinate", curves),
        Panel("h = √ε", "largest distance from the true motion", sizes, log="xy"),
    ]
    caption = "Steps of momentum lie along the path of a particle with drag, and closer the smaller the step."
    notes = [
        "With the drag -v of the slide (γ = 1) the momentum is α = 1 - √ε: α = 0.9 goes with ε = 0.01. Another α at "
        "the same ε is another drag, γ = (1 - α)/√ε.",
        "The two walks are equal by algebra with v = h·(velocity), here to rounding. The motion itself is met to first "
        "order in h; the exponent is fitted for h of 0.1 and below.",
    ]
    return Findings(checks, [Figure(caption, panels)], notes=notes)


claim = Claim(
    slide=(26,),
    kind="EXACT",
    statement="Momentum simulates a particle of unit mass on the cost surface under two forces: one downhill, one a "
    "viscous drag -v.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.2, eq. 8.18-8.20",
    equation="θ'' = -∇J(θ) - γθ',   ε = h²,   α = 1 - γh",
    claimed="The same walk as semi-implicit Euler with step h, and O(h) from the solution of the equation of motion",
    setting="J = ¼(x² - 1)² + 3/2 y² + ½xy from rest at (-1.8, 1.5), γ = 1, up to time 6.4, h from 0.4 to 0.00625; the "
    "motion by an eighth-order Runge-Kutta method at a tolerance of 1e-11.",
    measure=_measure,
    seconds=1,
)
