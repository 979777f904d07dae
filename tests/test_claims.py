"""Claims: how they are chosen, run, kept and shown; and that the gallery is what its records say."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from ravine import claims
from ravine.claims import terminal_velocity
from ravine.cli import app
from ravine.core.claim import Claim, Findings, Kind, Trial, Verdict, verdict
from ravine.core.errors import RavineError
from ravine.core.evidence import Estimate, above, at_least
from ravine.core.record import read
from ravine.proving import pages, worker
from ravine.proving.job import job
from ravine.proving.proof import proof
from ravine.proving.run import Progress, run

GALLERY = Path(__file__).parents[1] / "docs" / "claims"
NAME = "terminal-velocity"
EXACT = [name for name in claims.CLAIMS if claims.claim(name).kind == "EXACT"]


def ravine(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["claims", *arguments])


# ---------------------------------------------------------------- the claims themselves


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_every_claim_says_what_it_is(name: str) -> None:
    claim = claims.claim(name)
    assert claim.slide
    assert claim.kind in get_args(Kind)
    assert 0 < claim.seconds <= 300
    assert claim.statement.rstrip(")").endswith(".")
    assert claim.disagreement or not claim.because


def test_the_list_follows_the_slides() -> None:
    last = [claims.claim(name).slide[-1] for name in claims.CLAIMS]
    assert last == sorted(last)
    assert len(set(claims.CLAIMS)) == len(claims.CLAIMS)


def test_every_disagreement_has_a_claim_of_its_own() -> None:
    found = [claims.claim(name).disagreement for name in claims.CLAIMS]
    here = sorted(filter(None, found), key=lambda name: int(name[1:]))
    assert here == [f"D{n}" for n in range(1, 16)]


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_claim_comes_out_as_its_page_says(name: str) -> None:
    found = claims.claim(name).measure(Trial(name, "quick"))
    shown = proof(GALLERY / "records" / f"{name}.jsonl")
    assert shown is not None
    assert verdict(claims.claim(name), found.checks) == shown.outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in claims.CLAIMS if name not in EXACT])
def test_every_other_claim_runs_quickly_to_a_verdict(name: str) -> None:
    found = claims.claim(name).measure(Trial(name, "quick"))
    assert verdict(claims.claim(name), found.checks) in get_args(Verdict)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    one, other = Trial("a", seed=0), Trial("a", seed=1)
    assert one.seeds(2) == Trial("a").seeds(2) != other.seeds(2)
    assert one.numpy("x").normal() == Trial("a").numpy("x").normal() != Trial("b").numpy("x").normal()
    assert [one.pick(quick=1, normal=2, full=3), Trial("a", "quick").pick(quick=1, normal=2)] == [2, 1]
    assert [Trial("a", "full").pick(quick=1, normal=2, full=3), Trial("a", "full").pick(quick=1, normal=2)] == [3, 2]


# ---------------------------------------------------------------- the gallery


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_the_gallery_is_what_the_records_say(name: str) -> None:
    """`ravine claims run NAME --out docs/claims` mends it."""
    record = GALLERY / "records" / f"{name}.jsonl"
    assert record.exists(), f"ravine claims run {name} --out docs/claims"
    shown = proof(record)
    assert shown is not None
    assert shown.said["code"] == job(name, "normal", 0).code, f"{name} has changed since its page was made"
    assert verdict(claims.claim(name), shown.checks) == shown.outcome
    assert (GALLERY / f"{name}.md").read_text(encoding="utf-8") == pages.page(shown)
    assert len(list(GALLERY.glob(f"{name}-[0-9].svg"))) == len(shown.figures)


def test_the_gallery_holds_nothing_else() -> None:
    found = pages.read_all(GALLERY)
    assert [one.name for one in found] == list(claims.CLAIMS)
    assert (GALLERY / "index.md").read_text(encoding="utf-8") == pages.index(found)
    stems = {path.stem for path in GALLERY.glob("*.md")} - {"index"}
    assert stems == set(claims.CLAIMS)


def test_the_table_of_the_readme_is_what_the_records_say() -> None:
    """Names stand in its first comment; `brief` gives what belongs between it and the last."""
    readme = (GALLERY.parents[1] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- claims: (.*?) -->\n(.*?)<!-- /claims -->", readme, flags=re.S)
    assert found is not None
    shown = [proof(GALLERY / "records" / f"{name}.jsonl") for name in found[1].split()]
    assert found[2] == pages.brief([one for one in shown if one is not None], "docs/claims")


def test_a_page_escapes_what_would_be_markup() -> None:
    assert pages.cell("|f-f'| <= 1_0*2") == "\\|f-f'\\| &lt;= 1\\_0\\*2"


# ---------------------------------------------------------------- running them


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("claims")
    run([NAME], out=out)
    return out


def test_a_run_leaves_a_record_from_which_everything_can_be_rebuilt(folder: Path) -> None:
    record = read(folder / "records" / f"{NAME}.jsonl")
    assert record.status == "done"
    assert record.header["statement"] == terminal_velocity.claim.statement
    shown = proof(folder / "records" / f"{NAME}.jsonl")
    assert shown is not None
    assert shown.verdict == "REPRODUCED"
    direct = terminal_velocity.claim.measure(Trial(NAME))
    assert [(c.what, c.measured, c.passed) for c in shown.checks] == [
        (c.what, c.measured, c.passed) for c in direct.checks
    ]


def test_what_is_done_is_not_run_again(folder: Path) -> None:
    before = (folder / "records" / f"{NAME}.jsonl").read_bytes()
    seen: list[Progress] = []
    run([NAME], out=folder, observe=seen.append)
    assert [(now.done, now.planned) for now in seen] == [(1, 1)]
    assert (folder / "records" / f"{NAME}.jsonl").read_bytes() == before


def test_a_record_of_other_code_is_kept_aside_and_the_claim_run_again(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (found,) = run([NAME], out=tmp_path, seed=5)
    assert found.said["seed"] == 5
    earlier = list((tmp_path / "records" / "earlier").glob("*.jsonl"))
    assert [read(path).header["seed"] for path in earlier] == [0]


def test_a_damaged_record_is_set_aside_and_said(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "records" / f"{NAME}.jsonl"
    path.write_text(path.read_text().replace('"passed": true', '"passed": false', 1))
    seen: list[Progress] = []
    (found,) = run([NAME], out=tmp_path, observe=seen.append)
    assert found.verdict == "REPRODUCED"
    assert re.search("checksum .* set aside in damaged/ and the claim is run again", seen[-1].notes[0])


def test_a_run_that_was_cut_off_is_run_again(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "records" / f"{NAME}.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:3]) + b"\n")
    assert proof(path) is None
    (found,) = run([NAME], out=tmp_path)
    assert found.verdict == "REPRODUCED"


def test_a_quick_run_says_so_and_stands_beside_the_other(folder: Path) -> None:
    (found,) = run([NAME], scale="quick", out=folder)
    assert found.verdict == "REPRODUCED (quick)"
    pages.write([found], folder)
    assert f"({NAME}-quick.md)" in (folder / "index.md").read_text()
    assert f"claims run {NAME} --quick" in (folder / f"{NAME}-quick.md").read_text()
    (folder / "records" / f"{NAME}-quick.jsonl").unlink()


class _Pipe:
    """Where a worker sends what it finds."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send(self, message: tuple[str, Any]) -> None:
        self.sent.append(message)

    def close(self) -> None:
        pass


def test_a_measurement_that_fails_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(trial: Trial) -> Findings:
        raise ArithmeticError("no roots")

    broken: Claim = dataclasses.replace(terminal_velocity.claim, measure=fail)
    monkeypatch.setattr(claims, "claim", lambda name: broken)
    monkeypatch.setattr("ravine.racing.worker._behave", lambda: None)
    pipe = _Pipe()
    worker.prove(pipe, "", job(NAME, "normal", 0))  # type: ignore[arg-type]
    ((kind, content),) = pipe.sent
    assert kind == "failed"
    assert content["reason"] == "ArithmeticError: no roots"


def test_a_failed_measurement_has_no_verdict(folder: Path) -> None:
    shown = proof(folder / "records" / f"{NAME}.jsonl")
    assert shown is not None
    failed = dataclasses.replace(shown, failure="ArithmeticError: no roots", checks=[], outcome="")
    assert failed.verdict == "FAILED: ArithmeticError: no roots"
    assert failed.reason == "the measurement itself failed: ArithmeticError: no roots"
    assert "FAILED" in pages.page(failed)


def test_the_reason_names_what_decided(folder: Path) -> None:
    shown = proof(folder / "records" / f"{NAME}.jsonl")
    assert shown is not None
    assert shown.reason == "all 6 criteria were met"
    no, elsewhere = at_least("speed", 1, 2), at_least("on noisy labels", 1, 2, role="condition")
    assert dataclasses.replace(shown, checks=[no]).reason == "1 of 1 criteria were not met: speed"
    yes = at_least("speed", 2, 2)
    assert dataclasses.replace(shown, checks=[yes, elsewhere]).reason == (
        "its one criterion was met; it did not hold under: on noisy labels"
    )
    unclear = above("gain", Estimate(0.1, -0.1, 0.3))
    assert dataclasses.replace(shown, checks=[unclear]).reason == (
        "1 of 1 criteria were not met: gain (undecided: the interval holds 0)"
    )
    texts = {**shown.said, "because": "The deck says a; the book b."}
    assert dataclasses.replace(shown, said=texts, checks=[yes]).reason == (
        "The deck says a; the book b. In the experiment its one criterion was met"
    )


# ---------------------------------------------------------------- the command


def test_the_list_for_programs() -> None:
    rows = json.loads(ravine("list", "--json").stdout)
    assert [row["name"] for row in rows] == list(claims.CLAIMS)
    for row in rows:
        assert list(row) == ["name", "slide", "statement", "kind", "seconds"]
        assert all(isinstance(number, int) for number in row["slide"])


def test_the_list_for_people_can_be_of_one_slide() -> None:
    shown = ravine("list", "--slide", "25").stdout
    assert NAME in shown
    assert "adagrad" not in shown


def test_a_run_for_programs(folder: Path) -> None:
    found = ravine("run", NAME, "--json", "--out", str(folder))
    assert found.exit_code == 0, found.output
    (row,) = json.loads(found.stdout)
    assert {"name", "slide", "statement", "kind", "seconds", "claimed", "measured", "criterion", "verdict"} <= set(row)
    assert row["verdict"] == "REPRODUCED"
    assert "terminal speed, α = 0.9: 10" in row["measured"]
    assert "within a relative 1e-9 of 10" in row["criterion"]


def test_a_run_for_people_shows_claimed_beside_measured_and_why(folder: Path) -> None:
    shown = ravine("run", NAME, "--out", str(folder)).stdout
    assert "claimed: α = 0.5" in shown
    assert "REPRODUCED: all 6 criteria were met" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["terminal-velocty"], "unknown claim 'terminal-velocty': did you mean 'terminal-velocity'?"),
        ([], "which claims? Give names (.*), --slide N, or --all"),
        (["terminal-velocity", "--all"], "give names of claims, or --all, or --slide: not several of these"),
        (["--slide", "37"], "no claim is about slide 37: the nearest slides with claims are 36 and 38. All: 4, 5"),
        (["--all", "--quick", "--full"], "give either --quick or --full"),
        (["terminal-velocity", "--workers", "0"], "workers"),
    ],
)
def test_bad_input_is_told_before_anything_is_run(arguments: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = ravine("run", *arguments, "--out", str(out))
    assert isinstance(found.exception, RavineError)
    assert re.search(message.replace("?", r"\?").replace("(.*)", r"\(.*\)"), str(found.exception))
    assert not out.exists()


def test_pages_of_a_folder_without_records(tmp_path: Path) -> None:
    found = ravine("pages", str(tmp_path))
    assert "has no records/ of claims: `ravine claims run --all --out" in str(found.exception)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ravine", "claims", "run", NAME, "--out", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.read(1)  # it has begun
    process.kill()
    process.communicate()
    done = subprocess.run(command, check=True, capture_output=True)
    assert [row["verdict"] for row in json.loads(done.stdout)] == ["REPRODUCED"]
