"""PowerSign, a rule that ravine does not bring, and a probe of the weights."""

import math
from dataclasses import dataclass

import torch
from ravine import Probe, Rule
from ravine.core.space import Dimension


@dataclass(frozen=True)
class PowerSign(Rule):
    """Longer steps where the gradient and its average agree in sign, shorter ones where they do not.

        m <- beta m + (1 - beta) g        u = alpha^(sign(g) sign(m)) g

    Bello et al. 2017, "Neural Optimizer Search with Reinforcement Learning" (arXiv:1709.07417), without their decay.
    """

    alpha: float = math.e
    beta: float = 0.9

    ranges = {"alpha": "[1, inf)", "beta": "[0, 1)"}
    default_lr = 0.05
    space = {"lr": Dimension(1e-4, 1.0), "beta": Dimension(0.7, 0.99, "log1m", points=9)}

    def init(self, p):
        return {"m": torch.zeros_like(p)}

    def update(self, g, p, t, **state):
        m = self.beta * state["m"] + (1 - self.beta) * g
        return self.alpha ** (g.sign() * m.sign()) * g, {"m": m}


@dataclass(frozen=True)
class WeightNorm(Probe):
    """The 2-norm of all parameters together.

    weight_norm = ||w||
    """

    def __call__(self, moment):
        norms = [torch.linalg.vector_norm(p.detach(), dtype=torch.float64) for p in moment.model.parameters()]
        return {"weight_norm": torch.linalg.vector_norm(torch.stack(norms)).item()}
