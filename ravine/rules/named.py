"""Chains that have a name of their own."""

from ravine.core.composition import Composition
from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.rules.adam import Adam
from ravine.rules.decay import Decay
from ravine.rules.gradient_average import GradientAverage
from ravine.rules.momentum import Momentum
from ravine.rules.nadam import NAdam
from ravine.rules.nesterov import Nesterov
from ravine.rules.orthogonalize import Orthogonalize
from ravine.rules.rmsprop import RMSProp
from ravine.rules.schedule_free import ScheduleFree

adamw = Composition("adamw", chain(Adam(), Decay()), "Adam with decoupled weight decay (Loshchilov & Hutter 2019).")
schedule_free_adamw = Composition(
    "schedule_free_adamw",
    chain(RMSProp(rho=0.999, corrected=True), Decay(), ScheduleFree()),
    "AdamW without momentum, averaged in place of a schedule (Defazio et al. 2024).",
)
nadamw = Composition("nadamw", chain(NAdam(), Decay()), "NAdam with decoupled weight decay.")


def _with_velocity(rule: Rule, momentum: float = 0.0, nesterov: bool = False) -> Rule:
    """RMSProp's steps as the gradients of momentum, or of Nesterov momentum in the book's form (Algorithm 8.6)."""
    if nesterov and not momentum:
        raise RavineError("rmsprop: nesterov=true needs a momentum, as in rmsprop(nesterov=true, momentum=0.9)")
    return chain(rule, Nesterov(momentum, "book") if nesterov else Momentum(momentum)) if momentum else rule


_rmsprop = Composition("rmsprop", RMSProp(), RMSProp.summary(), _with_velocity)


def _orthogonalized(
    rule: Rule, nesterov: bool = True, steps: int = 5, adjust: str = "original", method: str = "newton_schulz",
    precision: str = "auto",
) -> Rule:  # fmt: skip
    """Muon's choices, which stand in its links."""
    average, orthogonal, decay = (link.hyperparameters() for link in rule.links)
    average["nesterov"] = nesterov
    orthogonal |= {"steps": steps, "adjust": adjust, "method": method, "precision": precision}
    return chain(GradientAverage(**average), Orthogonalize(**orthogonal), Decay(**decay))


muon = Composition(
    "muon", chain(GradientAverage(), Orthogonalize(), Decay(0.1)),
    "Momentum orthogonalized, for hidden matrices (Jordan et al. 2024).", _orthogonalized,
)  # fmt: skip
