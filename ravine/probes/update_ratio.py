"""How large a step is beside the weights that it changes."""

from dataclasses import dataclass

import torch

from ravine.core.probe import Moment, Probe


@dataclass(frozen=True)
class UpdateRatio(Probe):
    """The size of the last step relative to the parameters, without unit; about 1e-3 is usual.

    update_ratio = ||p_after - p_before|| / ||p_before||
    """

    needs = frozenset({"before"})

    def __call__(self, moment: Moment) -> dict[str, float]:
        if moment.before is None:
            return {}
        moved = size = 0.0
        for name, p in moment.model.named_parameters():
            moved += torch.linalg.vector_norm(p.detach() - moment.before[name], dtype=torch.float64).item() ** 2
            size += torch.linalg.vector_norm(moment.before[name], dtype=torch.float64).item() ** 2
        return {"update_ratio": (moved / size) ** 0.5} if size > 0 else {}
