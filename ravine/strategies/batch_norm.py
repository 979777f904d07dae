"""Batch normalization as a subject: put into a model, its statistics computed anew, frozen, and folded out again.

report = batch_norm.insert(model)                     # and make the optimizer
batch_norm.recalibrate(model, data)                   # exact statistics, over all of the data
lean = batch_norm.fold(model, example=x).model        # for inference
"""

from types import TracebackType

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ravine.averaging import recalibrate as recalibrate
from ravine.core.errors import RavineError
from ravine.core.modes import hold_in_evaluation
from ravine.strategies.changes import Report as Report
from ravine.strategies.folding import fold as fold
from ravine.strategies.inserting import KINDS as KINDS
from ravine.strategies.inserting import insert as insert
from ravine.strategies.norms import BatchNorm as BatchNorm
from ravine.strategies.norms import GhostBatchNorm as GhostBatchNorm


class frozen:  # reads as what it does: with frozen(model):
    """From now on batch normalization uses its running statistics and leaves them, whatever the model's mode.

    As a context until its end, else until `release()`. With `affine` its scales and shifts take no gradient either. For
    fine-tuning on small batches, and for a batch of one. Raises `RavineError` for a model without such layers.

    >>> import torch, ravine
    >>> from ravine.strategies import batch_norm
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)).train()
    >>> with batch_norm.frozen(model):
    ...     model(torch.ones(1, 4)).shape
    torch.Size([1, 8])
    """

    def __init__(self, model: nn.Module, affine: bool = False) -> None:
        if not isinstance(model, nn.Module):
            raise RavineError(f"frozen takes a model, an nn.Module; got {type(model).__name__}")
        layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        if not (kept := [m for m in layers if m.running_mean is not None]):
            reason = "keeps no running statistics" if layers else "has no batch normalization"
            raise RavineError(f"frozen: the model {reason}, so there is nothing to freeze")
        self._modes = [(m, m.training) for m in kept]
        trained = [p for m in kept for p in m.parameters(recurse=False) if p.requires_grad] if affine else []
        self._hooks = [m.register_forward_pre_hook(hold_in_evaluation) for m in kept]
        self._trained = trained
        for p in trained:
            p.requires_grad_(False)

    def release(self) -> None:
        """End it: modes and what takes a gradient are as they were."""
        for hook in self._hooks:
            hook.remove()
        for m, mode in self._modes:
            m.training = mode
        for p in self._trained:
            p.requires_grad_(True)
        self._hooks, self._modes, self._trained = [], [], []

    def __enter__(self) -> "frozen":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
