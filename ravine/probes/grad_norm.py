"""How large the gradient is."""

from dataclasses import dataclass

import torch

from ravine.core.probe import Moment, Probe


@dataclass(frozen=True)
class GradNorm(Probe):
    """The 2-norm of the minibatch gradient over all parameters, in units of loss per parameter.

    grad_norm = ||g||
    """

    def __call__(self, moment: Moment) -> dict[str, float]:
        gradients = [p.grad.detach().to_dense() for p in moment.model.parameters() if p.grad is not None]
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
        return {"grad_norm": torch.linalg.vector_norm(torch.stack(norms)).item()} if norms else {}
