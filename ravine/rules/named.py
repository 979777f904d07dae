"""Chains that have a name of their own."""

from ravine.core.composition import Composition
from ravine.core.errors import RavineError
from ravine.core.rule import Rule, chain
from ravine.rules.adam import Adam
from ravine.rules.decay import Decay
from ravine.rules.momentum import Momentum
from ravine.rules.nadam import NAdam
from ravine.rules.nesterov import Nesterov
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
