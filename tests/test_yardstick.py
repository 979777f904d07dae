"""The yardstick of hours: killed at any place and taken up again, it finds the same as undisturbed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ravine import claims
from ravine.claims import _yardstick as yardstick
from ravine.claims.momentum_on_a_deep_autoencoder import PUBLISHED, _checks
from ravine.core.claim import Findings, Trial
from ravine.proving import worker
from ravine.proving.job import job
from ravine.proving.run import _seconds

RATES = (0.01, 0.05)


class Killed(Exception):
    """As a kill: at a save or between two updates."""


def best(folder: Path | None, kind: str = "N") -> tuple[float, list[tuple[int, float]], float]:
    return yardstick.best_of((kind, 0.99), RATES, 7, 4, 12, folder, 3)


@pytest.mark.parametrize("kind", ["N", "SGD"])
def test_killed_and_taken_up_again_is_as_undisturbed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yardstick, "LAST", 3)
    undisturbed = best(None, kind)
    update, left = yardstick.Run._update, [0]

    def mortal(self: yardstick.Run) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        update(self)

    monkeypatch.setattr(yardstick.Run, "_update", mortal)
    kills, found = 0, None
    while found is None:
        left[0] = 5
        try:
            found = best(tmp_path, kind)
        except Killed:
            kills += 1
    assert kills >= 3
    assert found == undisturbed
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # no checkpoint is left
    left[0] = 0
    assert best(tmp_path, kind) == undisturbed  # nothing is run again


def test_momentum_is_low_again_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardstick, "LAST", 2)
    monkeypatch.setattr(yardstick, "momentum", lambda t, top: top)
    run, seen = yardstick.Run("M", 0.99, 0.01, 7, 5, 5, None, 5), []
    for t in range(1, 6):
        run.to(t)
        seen.append(run.optimizer.param_groups[0]["momentum"])
    assert seen == [0.99, 0.99, 0.99, 0.9, 0.9]


def test_a_run_that_diverges_is_the_worst(tmp_path: Path) -> None:
    run = yardstick.Run("N", 0.99, 1e38, 7, 6, 6, tmp_path, 2).to(6)
    assert run.diverged
    assert run.error() == float("inf")
    assert yardstick.best_of(("N", 0.99), (1e38, 0.01), 7, 4, 6, tmp_path, 2)[0] == 0.01


def test_the_full_scale_judges_every_cell_of_the_table() -> None:
    found = {row: (0.01, [(750_000, error)], 1.0) for row, error in PUBLISHED.items()}
    full, short = _checks(found, True), _checks(found, False)
    assert all(check.passed for check in full)
    assert [check.role for check in full].count("claim") == 4
    assert [check.role for check in full].count("condition") == len(PUBLISHED) == 9
    assert len(short) == 1


def test_the_full_scale_has_hours() -> None:
    one = job("momentum-on-a-deep-autoencoder", "full", 0)
    assert _seconds(one) == claims.claim(one.claim).full_seconds > 3600
    assert Trial("a").kept is None


def test_a_measurement_is_given_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Path | None] = []

    def measure(trial: Trial) -> Findings:
        given.append(trial.kept)
        raise Killed

    class Pipe:
        def send(self, message: Any) -> None: ...
        def close(self) -> None: ...

    jobs = [job("terminal-velocity", "full", seed) for seed in (0, 0, 1)]
    claim = dataclasses.replace(claims.claim("terminal-velocity"), measure=measure)
    monkeypatch.setattr(claims, "claim", lambda name: claim)
    monkeypatch.setattr("ravine.racing.worker._behave", lambda: None)
    for one in jobs:
        worker.prove(Pipe(), "", one, partial=tmp_path)  # type: ignore[arg-type]
    first, again, other = given
    assert first == again == tmp_path / f"terminal-velocity-{jobs[0].id}"
    assert other != first
