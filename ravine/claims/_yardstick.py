"""The runs of Sutskever et al. 2013, table 1, in slices: one that was killed goes on from its last slice."""

import json
import math
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ravine.claims._deep_autoencoder import BATCH, RULES, Curve, momentum, task
from ravine.core.batches import batches
from ravine.core.record import write_json
from ravine.core.seeds import GlobalStream, derive, generator
from ravine.optimizer import Optimizer

LAST, CALM = 1000, 0.9
"""Over the last updates momentum is 0.9 at most (section 3 there)."""


class Run:
    """A method under way from one seed: kind "SGD", "M" or "N", its largest momentum, its learning rate.

    `total` updates are meant: over the last 1,000 of them momentum is 0.9 at most. The training error is noted at
    every `look`th update. What is kept lies in `folder`, by the run's name: a checkpoint after every `slice_` updates.
    """

    def __init__(
        self, kind: str, top: float, lr: float, seed: int, total: int, look: int, folder: Path | None, slice_: int
    ) -> None:
        self.kind, self.top, self.lr, self.seed, self.total = kind, top, lr, seed, total
        self.look, self.slice = look, slice_
        name = f"{kind}-{top:g}-{lr:g}-{seed}"
        self.checkpoint = folder / f"{name}.pt" if folder else None
        self.t, self.curve = 0, Curve()
        with GlobalStream(derive(seed, "init")):
            self.model = task().model()
        self.optimizer = Optimizer(list(self.model.parameters()), RULES[kind], lr=lr)
        if self.checkpoint and self.checkpoint.exists():
            self._load(torch.load(self.checkpoint, weights_only=True))
        self.drawn = batches(task().train, BATCH, generator(seed, "shuffle"), skip=self.t)

    @property
    def diverged(self) -> bool:
        return bool(self.curve) and not math.isfinite(self.curve[-1][1])

    def to(self, updates: int) -> "Run":
        """Go on until so many updates are done, or the loss is not finite."""
        while self.t < updates and not self.diverged:
            end = min(updates, self.t + self.slice)
            while self.t < end and not self.diverged:
                self._update()
            self._save()
        return self

    def error(self, images: Any = None) -> float:
        """The error on the training images, or on others; infinite where the run has diverged."""
        if self.diverged:
            return math.inf
        with torch.no_grad(), self.optimizer.swapped() if self.kind == "N" and self.t else nullcontext():
            found: float = task().judge(self.model, task().train if images is None else images)
        return found

    def _update(self) -> None:
        if self.kind != "SGD":
            top = min(self.top, CALM) if self.t >= self.total - LAST else self.top
            self.optimizer.param_groups[0]["momentum"] = momentum(self.t, top)
        self.optimizer.zero_grad()
        loss = task().loss(self.model, next(self.drawn))
        if not math.isfinite(loss.item()):
            self.curve.append((self.t, math.inf))
            return
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.t += 1
        if self.t % self.look == 0:
            self.curve.append((self.t, self.error()))

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        torch.save({
            "t": self.t, "curve": [list(point) for point in self.curve], "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }, part)  # fmt: skip
        os.replace(part, self.checkpoint)

    def _load(self, state: dict[str, Any]) -> None:
        self.t, self.curve = state["t"], [(int(t), float(error)) for t, error in state["curve"]]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def best_of(
    row: tuple[str, float], lrs: tuple[float, ...], seed: int, trying: int, total: int, folder: Path | None = None,
    slice_: int = 2000,
) -> tuple[float, Curve, float]:  # fmt: skip
    """The learning rate whose training error is lowest after `trying` updates, its curve over `total`, its test error.

    What is found is kept in `folder` as a file of its own, and the checkpoints are removed.
    """
    kept = folder / f"{row[0]}-{row[1]:g}-{seed}.json" if folder else None
    if kept and kept.exists():
        lr, curve, test = json.loads(kept.read_text(encoding="utf-8"))
        return lr, [(int(t), _finite(error)) for t, error in curve], _finite(test)
    look = max(1, total // 60)
    runs: dict[float, Run] = {}
    for lr in lrs:
        run = Run(*row, lr, seed, total, look, folder, slice_)
        if run.t > trying:  # the best one then, which has gone on
            runs = {lr: run}
            break
        runs[lr] = run.to(trying)
    lr = min(runs, key=lambda one: runs[one].error())
    run = runs[lr].to(total)
    curve = run.curve if run.diverged or run.t % look == 0 else [*run.curve, (run.t, run.error())]
    test = run.error(task().test)
    if kept:
        write_json(kept, [lr, [[t, _told(error)] for t, error in curve], _told(test)])
        for other in kept.parent.glob(f"{row[0]}-{row[1]:g}-*-{seed}.pt"):
            other.unlink()
    return lr, curve, test


def _told(error: float) -> float | None:
    """A number that JSON knows."""
    return error if math.isfinite(error) else None


def _finite(error: float | None) -> float:
    return math.inf if error is None else error
