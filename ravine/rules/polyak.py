"""Polyak-Ruppert averaging: the mean of the iterates."""

from dataclasses import dataclass
from typing import Any

from ravine.core.rule import choose
from ravine.rules.averages import Average


@dataclass(frozen=True)
class Polyak(Average):
    """The mean of the weights after every step from `begin` on, for any rule: it is judged, the steps stay the rule's.

        m_n = (theta_1 + ... + theta_n) / n                                                with eta = 0
        m_n = (1 - c) m_{n-1} + c theta_n,    c = (eta + 1) / (n + eta)                    in general

    Polyak & Juditsky 1992; Goodfellow, Bengio & Courville 2016, section 8.7.3. With eta > 0 it is the polynomial-decay
    averaging of Shamir & Zhang 2013 (arXiv:1212.1824), which forgets the beginning: about the last 1 / (eta + 1) of the
    way counts, however long it will be. n is counted from `begin`, before
    which the weights themselves are judged.
    """

    begin: int = 1
    eta: float = 0.0

    ranges = {"begin": "[1, inf)", "eta": "[0, inf)"}

    @property
    def first(self) -> int:
        return self.begin

    def share(self, t: Any) -> Any:
        n = choose(t > self.begin - 0.5, t - self.begin + 1, 1 + 0 * t)
        return (self.eta + 1) / (n + self.eta)
