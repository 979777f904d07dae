"""AdEMAMix: Adam with a second, much longer memory of gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like

from ravine.core.rule import Rule, State, choose, log
from ravine.core.space import ADAPTIVE, Dimension


@dataclass(frozen=True)
class AdEMAMix(Rule):
    """A mixture of a fast and a slow average of gradients, over Adam's second moment.

        m1 <- beta1 m1 + (1 - beta1) g        m2 <- beta3(t) m2 + (1 - beta3(t)) g        v <- beta2 v + (1 - beta2) g^2
        u   = (m1 / (1 - beta1^t) + alpha(t) m2)  /  (sqrt(v / (1 - beta2^t)) + eps)

    Pagliardini et al. 2024, section 3 (arXiv:2409.03137). With `warmup` = T steps, alpha(t) = min(t / T, 1) alpha, and
    beta3(t) grows from beta1 to beta3 so that the half-life of the slow average does it in proportion to t; without,
    both are constant. alpha is 2 in the authors' code, as here, and 5 in most of the paper; their code adds 1e-8 to
    the betas inside the logarithms of the warm-up.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    beta3: float = 0.9999
    alpha: float = 2.0
    eps: float = 1e-8
    warmup: int = 0

    ranges = {
        "beta1": "[0, 1)", "beta2": "[0, 1)", "beta3": "(0, 1)", "alpha": "[0, inf)", "eps": "[0, inf)",
        "warmup": "[0, inf)",
    }  # fmt: skip
    name = "ademamix"
    default_lr = 1e-3
    space = ADAPTIVE | {
        "beta3": Dimension(0.99, 0.99999, "log1m", points=33),
        "alpha": Dimension(0.5, 20, points=9),
    }

    def init(self, p: Tensor) -> State:
        return {"m1": zeros_like(p), "m2": zeros_like(p), "v": zeros_like(p)}

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        alpha, beta3 = self._warmed(t) if self.warmup else (self.alpha, self.beta3)
        m1 = self.beta1 * state["m1"] + (1 - self.beta1) * g
        m2 = beta3 * state["m2"] + (1 - beta3) * g
        v = self.beta2 * state["v"] + (1 - self.beta2) * g * g
        u = (m1 / (1 - self.beta1**t) + alpha * m2) / ((v / (1 - self.beta2**t)).sqrt() + self.eps)
        return u, {"m1": m1, "m2": m2, "v": v}

    def _warmed(self, t: Any) -> tuple[Any, Any]:
        done = choose(t < self.warmup, t / self.warmup, 1.0 + 0 * t)
        short, long = (log(0.5) / log(beta) for beta in (self.beta1, self.beta3))  # half-lives
        return done * self.alpha, 0.5 ** (1 / ((1 - done) * short + done * long))
