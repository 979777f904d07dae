"""Weight decay: a pull towards zero."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.core.rule import Rule, State
from ravine.core.space import Dimension
from ravine.core.torch_format import TorchFormat


@dataclass(frozen=True)
class Decay(Rule):
    """Adds a share of the parameter to what it is given.

        form="decoupled":   u = g + weight_decay p
        form="proximal":    p <- (p - lr g) / (1 + lr weight_decay)

    Behind a rule it is decoupled weight decay: chain(Adam(), Decay(0.1)) is AdamW (Loshchilov & Hutter 2019,
    arXiv:1711.05101). Before a rule it is the gradient of an L2 penalty: chain(Decay(0.1), Adam()) is
    torch.optim.Adam(weight_decay=0.1). For plain SGD the two are the same. Behind a rule that applies lr by itself the
    pull is lr weight_decay p, so that decay means the same everywhere. The proximal form, Adan's (Xie et al. 2022,
    arXiv:2208.06677, eq. 7), pulls the moved weight and never beyond zero; it applies lr, and goes behind the rule.
    """

    weight_decay: float = 0.01
    form: str = "decoupled"

    ranges = {"weight_decay": "[0, inf)"}
    choices = {"form": ("decoupled", "proximal")}
    needs = frozenset({"lr"})
    space = {"weight_decay": Dimension(1e-4, 1, points=17, zero=0.2)}

    @property
    def applies_lr(self) -> bool:
        return self.form == "proximal"

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, State]:
        share = state["lr"] * self.weight_decay
        if self.form == "proximal":
            return (state["lr"] * g + share * p) / (1 + share), {}
        return g + share * p, {}

    def in_torch(self) -> TorchFormat | None:
        if self.form == "proximal":
            return None
        return TorchFormat(numbers={"weight_decay": "weight_decay"}, counts=False)
