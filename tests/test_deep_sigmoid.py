"""The table of docs/deep-sigmoid.md: it is what its records say, and its runs are what they are said to be."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import deep_sigmoid
from deep_parts import ledger as ledgers
from deep_parts.ledger import Ledger, onward, reached
from deep_parts.page import rows, text
from deep_parts.treatments import SHALLOW, TREATMENTS

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "benchmarks/results/deep-sigmoid.jsonl", ROOT / "docs/deep-sigmoid.md"


@pytest.fixture
def kept(tmp_path: Path) -> Ledger:
    """The records, in a place where they may be changed."""
    copy = tmp_path / "records.jsonl"
    copy.write_bytes(RECORDS.read_bytes())
    return Ledger(copy)


def test_the_page_is_what_the_records_say(kept: Ledger) -> None:
    """`make deep` mends it."""
    assert PAGE.read_text(encoding="utf-8") == text(kept, PAGE.with_suffix(".png").name)
    assert PAGE.with_suffix(".png").exists()


def test_the_records_are_all_there_and_no_others(kept: Ledger) -> None:
    assert {key: kept.header[key] for key in deep_sigmoid.header()} == deep_sigmoid.header()
    assert deep_sigmoid.jobs(kept) == []
    before = len(kept.runs)
    kept.prune()
    assert len(kept.runs) == before
    for name in TREATMENTS:
        runs = kept.fresh(name)
        assert [run["seed"] for run in runs] == list(range(10))
        assert {run["setting"] for run in runs} == {kept.tuned(name)}
        assert all(run["curve"][-1][0] >= deep_sigmoid.BUDGET for run in runs if run["status"] == "done")


def test_a_row_by_hand(kept: Ledger) -> None:
    lines = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()[1:]]
    ends = {name: [] for name in TREATMENTS}
    for line in lines:
        if line["data"] == "test":
            ends[line["treatment"]].append(line["curve"][-1][1] if line["status"] == "done" else 0.1)
    enough = sum(ends[SHALLOW]) / 10 - 0.03
    for row in rows(kept):
        values = ends[row.treatment.name]
        mean = sum(values) / 10
        half = 2.2621571628 * math.sqrt(sum((v - mean) ** 2 for v in values) / 9 / 10)  # t of 9 degrees at 97.5 %
        assert (row.accuracy.low, row.accuracy.high) == pytest.approx((mean - half, mean + half), abs=1e-9)
        assert row.within == sum(v >= enough for v in values)
    means = [row.accuracy.value for row in rows(kept)[1:]]
    assert means == sorted(means, reverse=True)


def test_work_to_the_goal_is_that_of_the_first_good_point() -> None:
    curve = [[0, 0.1], [50, None], [100, 0.91], [150, 0.89], [200, 0.95]]
    assert reached({"curve": curve}, 0.9) == 100
    assert reached({"curve": curve}, 0.96) == math.inf


def test_half_a_decade_on() -> None:
    up = ["m(lr=0.003)", "m(lr=0.01)", "m(lr=0.03)", "m(lr=0.1)", "m(lr=0.3)", "m(lr=1.0)", "m(lr=3.0)", "m(lr=10.0)"]
    for one, other in pairwise(up):
        assert onward(one, up=True) == other
        assert onward(other, up=False) == one


def tuning(treatment: str, values: dict[str, float], seed: int = 1000) -> list[dict[str, Any]]:
    told = {"line": "run", "treatment": treatment, "seed": seed, "data": "valid", "status": "done"}
    return [told | {"setting": setting, "curve": [[1000, value]]} for setting, value in values.items()]


def test_a_grid_goes_on_where_its_best_stands_at_an_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "records.jsonl", deep_sigmoid.header())
    settings = TREATMENTS["highway"].settings
    assert ledger.grid("highway") == list(settings)
    ledger.runs = tuning("highway", {setting: 0.3 + 0.1 * i for i, setting in enumerate(settings)})
    assert ledger.grid("highway") == [*settings, "momentum(lr=3.0)"]
    ledger.runs += tuning("highway", {"momentum(lr=3.0)": 0.5})
    assert ledger.grid("highway") == [*settings, "momentum(lr=3.0)"]
    assert ledger.finalists("highway") == ["momentum(lr=1.0)", "momentum(lr=0.3)"]
    ledger.runs += tuning("highway", {"momentum(lr=1.0)": 0.5, "momentum(lr=0.3)": 0.7}, 1001)
    assert ledger.tuned("highway") == "momentum(lr=0.3)"
    ledger.runs = tuning("highway", {setting: 0.1 + 0.01 * i for i, setting in enumerate(settings)})
    assert ledger.grid("highway") == list(settings)  # it does not learn: no end to look beyond


def test_records_that_were_cut_off_go_on_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    ledger = Ledger(path, deep_sigmoid.header())
    for run in tuning("plain", {"momentum(lr=0.1)": 0.1, "momentum(lr=0.3)": 0.1}):
        ledger.add(run)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    again = Ledger(path, deep_sigmoid.header())
    assert again.known() == {("plain", "momentum(lr=0.1)", 1000, "valid")}
    again.add(ledger.runs[1])
    assert Ledger(path).known() == ledger.known()
    with pytest.raises(SystemExit, match="another experiment"):
        Ledger(path, deep_sigmoid.header() | {"budget": 7})


@pytest.mark.parametrize("name", [name for name in TREATMENTS if name != "search"])
def test_every_treatment_keeps_to_the_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_sigmoid, "BUDGET", 60)
    monkeypatch.setattr(deep_sigmoid, "EVERY", 60)
    setting = TREATMENTS[name].settings[1]
    job = {"treatment": name, "setting": setting, "seed": 3, "data": "test", "teacher": "momentum(lr=0.3)"}
    line = deep_sigmoid.done(job)
    assert line["status"] == "done"
    work = [point[0] for point in line["curve"]]
    assert work == sorted(work)
    assert 60 <= work[-1] < 60 + (30 if name in ("kfac", "hessian-free") else 1)  # a solver's last step is a whole one
    assert 0 < ledgers.final(line) < 1


def test_the_search_pays_for_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_sigmoid, "BUDGET", 120)
    job = {"treatment": "search", "setting": "momentum(lr=0.01)", "seed": 3, "data": "valid", "teacher": ""}
    line = deep_sigmoid.done(job)
    assert line["status"] == "done"
    assert [point[0] for point in line["curve"]][::2] == [0, 120]
    assert line["curve"][1][0] >= 40  # ten passes over 256 images at least
