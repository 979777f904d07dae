"""Chains that have a name of their own."""

from ravine.core.rule import Composition, chain
from ravine.rules.adam import Adam
from ravine.rules.decay import Decay
from ravine.rules.nadam import NAdam

adamw = Composition("adamw", chain(Adam(), Decay()), "Adam with decoupled weight decay (Loshchilov & Hutter 2019).")
nadamw = Composition("nadamw", chain(NAdam(), Decay()), "NAdam with decoupled weight decay.")
