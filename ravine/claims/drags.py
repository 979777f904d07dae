"""Slide 26: why the drag is viscous: a turbulent one never lets go, dry friction stops too early."""

import math
from collections.abc import Callable

import torch

from ravine.claims._descent import seen, walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import at_most, reported, within
from ravine.core.figure import Figure, Panel, Series
from ravine.racing import estimate
from ravine.rules import Momentum

H, FINE, TIME, EVERY = 0.01, 0.001, 200, 100
STEPS = round(TIME / H)
CURVATURE, HEIGHT, FRICTION = 0.1, 3.0, 0.5

Drag = Callable[[float, float], float]


def _turbulent(v: float, force: float) -> float:
    """The velocity after a step under the force and a drag of -v|v|."""
    return v + FINE * (force - v * abs(v))


def _dry(v: float, force: float) -> float:
    """The velocity after a step under the force and a drag of constant size, which holds what it can stop."""
    pushed = v + FINE * force
    return math.copysign(max(abs(pushed) - FINE * FRICTION, 0.0), pushed)


def _motion(drag: Drag, x: float, v: float, curvature: float) -> tuple[list[float], float]:
    """Places of a particle on ½ curvature x² at every multiple of H, by semi-implicit Euler, and its last velocity."""
    places = [x]
    for k in range(1, round(TIME / FINE) + 1):
        v = drag(v, -curvature * x)
        x += FINE * v
        if k % round(H / FINE) == 0:
            places.append(x)
    return places, v


def _viscous() -> tuple[list[float], list[float]]:
    """The same under the drag -v, pushed on flat ground and released on the bowl.

    It is the book's momentum with ε = h², α = 1 - h, set in motion by its first gradient.
    """
    curvature, start, push = (torch.tensor(pair, dtype=torch.float64) for pair in ((0, CURVATURE), (0, HEIGHT), (1, 0)))
    kicks = iter([push / H])
    path = walk(Momentum(1 - H, form="book"), H * H, start, lambda x: curvature * x - next(kicks, 0.0))
    flat, bowl = seen(path, range(STEPS + 1)).T.tolist()
    return flat, bowl


def _measure(trial: Trial) -> Findings:
    flat, speed = _motion(_turbulent, 0.0, 1.0, 0.0)
    coast, rest = _viscous()
    stuck, _ = _motion(_dry, HEIGHT, 0.0, CURVATURE)
    swinging, _ = _motion(_turbulent, HEIGHT, 0.0, CURVATURE)
    thrown, _ = _motion(_dry, 8.0, 0.0, CURVATURE)
    late = range(STEPS // 10, STEPS + 1, EVERY)
    growth = estimate.slope([math.log1p(H * k) for k in late], [flat[k] for k in late], log=False)
    checks = [
        within("turbulent drag, no force: distance at T = 200", flat[-1], math.log1p(TIME), rel=0.01),
        within("its speed then: it never rests", speed, 1 / (1 + TIME), rel=0.01),
        within("its distance per unit of ln(1 + T)", growth, 1.0, rel=0.01),
        within("viscous drag, no force: distance in all", coast[-1], 1.0, rel=0.01),
        within("dry friction on the bowl: place at T = 200", stuck[-1], HEIGHT, rel=0.01),
        at_most(
            "viscous drag on the bowl: distance from the minimum, share of the first", abs(rest[-1]) / HEIGHT, 0.01
        ),
        reported("turbulent drag on the bowl: swing in the last tenth", max(map(abs, swinging[-STEPS // 10 :]))),
        reported("dry friction, released at 8: rests at", thrown[-1]),
    ]
    rows = [
        ["turbulent, -v|v|", "ln(1 + T) = 5.303", f"{flat[-1]:.4g}", f"{swinging[-1]:.3g}"],
        ["viscous, -v", "v₀ = 1", f"{coast[-1]:.4g}", f"{rest[-1]:.1e}"],
        ["dry, constant", "v₀²/2μ = 1", f"{_motion(_dry, 0.0, 1.0, 0.0)[0][-1]:.4g}", f"{stuck[-1]:.3g}"],
    ]
    columns = ["drag", "distance of a push, theory", "distance of a push by T = 200", "place on the bowl at T = 200"]
    table = Table("A push of v₀ = 1 on flat ground, and a release at x = 3 on 0.05x²", columns, rows)
    times = [H * k for k in range(0, STEPS + 1, EVERY)]
    pairs = (("turbulent, -v|v|", flat, swinging), ("viscous, -v", coast, rest), ("dry", None, stuck))
    ground = [Series(name, times[1:], push[::EVERY][1:]) for name, push, _ in pairs if push]
    ground.append(Series("ln(1 + T)", times[1:], [math.log1p(t) for t in times[1:]], kind="reference"))
    bowl = [Series(name, times, places[::EVERY]) for name, _, places in pairs]
    panels = [
        Panel("time T", "distance after a push", ground, title="flat ground", log="x"),
        Panel("time T", "place", bowl, title="bowl 0.05x²"),
    ]
    caption = (
        "Turbulent drag lets the particle go on for ever; dry friction holds it where it was let go; viscous "
        "drag brings it to the minimum."
    )
    return Findings(checks, [Figure(caption, panels)], [table], NOTES)


NOTES = [
    "Dry friction of size μ holds a particle wherever |J'| < μ: at x = 3 the slope is 0.3 and μ is 0.5, so that it "
    "never starts, although the minimum is in sight.",
    "On the bowl the turbulent drag fades with the swing: the particle is still under way when the viscous one has "
    "long come to rest.",
]

claim = Claim(
    slide=(26,),
    kind="EXACT",
    statement="The drag of momentum is viscous, -v, since a turbulent one (-v²) is too weak at small speeds to ever "
    "let the particle rest, and dry friction is so strong that it may rest before a minimum.",
    source="Goodfellow, Bengio & Courville 2016, sec. 8.3.2, p. 299",
    equation="v' = -v²: x(T) = ln(1 + T);   v' = -γv: x(∞) = v₀/γ;   v' = -μ sign v: at rest where |J'| < μ",
    claimed="ln 201 = 5.303 after T = 200 and no end; a distance of v₀/γ = 1; a puck at 3 that never moves",
    setting="A particle of unit mass, semi-implicit Euler with h = 0.001 up to T = 200 (the viscous one is the "
    "book's momentum itself, h = 0.01): v₀ = 1 on flat ground; released at x = 3 on 0.05x² with μ = 0.5.",
    measure=_measure,
    seconds=4,
)
