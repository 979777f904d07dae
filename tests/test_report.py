import ast
import base64
import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from race_folder import NASTY, RACERS, Racer, build
from rich.console import Console

from ravine import report
from ravine.core.errors import RavineError
from ravine.core.record import Damaged, write_json
from ravine.report import curves, winner, words

RACES = {
    "five": {},
    "nasty": {"racers": RACERS | {NASTY: Racer(3e-3, 70)}, "task": "my <b>task</b> [red]$x$"},
    "one": {"racers": {"adam": RACERS["adam"]}},
    "never": {"goal": 0.99},
    "loss": {"better": "lower", "goal": 0.05},
    "aimless": {"goal": None},
    "steep": {"goal": None, "better": "lower", "racers": {"sgd": Racer(0.3, 60, 1.0), "adam": Racer(2e-3, 30, 1.01)}},
    "large": {"steps": 2_000_000, "every": 40_000},
    "wide": {"racers": {f"number {k} of many": Racer(0.01, 40 + 9 * k) for k in range(10)}, "points": 3, "seeds": 4},
}


@pytest.fixture(scope="session")
def races(tmp_path_factory):
    root = tmp_path_factory.mktemp("races")
    return {name: build(root / name, **options) for name, options in RACES.items()}


@pytest.fixture(scope="session")
def pages(races):
    return {name: report.page(report.load(folder)) for name, folder in races.items()}


@pytest.fixture
def folder(races, tmp_path):
    """A copy of the race of five to change."""
    return Path(shutil.copytree(races["five"], tmp_path / "digits-mlp"))


every_race = pytest.mark.parametrize("name", RACES)


def change(folder, file, edit):
    content = json.loads((folder / file).read_text())
    edit(content)
    write_json(folder / file, content)
    return folder


# --- reading ---------------------------------------------------------------------------------------------------------


def test_load_reads_the_reruns(races):
    race = report.load(races["five"])
    assert list(race.optimizers) == list(RACERS)
    assert len(race.records) == 5 * 10
    assert race.missing == []
    assert all(record.finished for record in race.records.values())


def test_records_that_the_verdict_does_not_name_are_left_alone(folder):
    (folder / "records" / "stranger.jsonl").write_text("not a record\n")
    assert "stranger" not in report.load(folder).records


def test_a_folder_that_is_missing_names_its_nearest_neighbour(folder):
    with pytest.raises(RavineError, match=r"there is no folder '.*digits-mpl': did you mean '.*digits-mlp'\?"):
        report.load(folder.parent / "digits-mpl")
    with pytest.raises(RavineError, match="there is no folder"):
        report.load(folder.parent / "nowhere" / "at-all")


def test_a_file_is_not_a_race(folder):
    with pytest.raises(RavineError, match="is a file"):
        report.load(folder / "plan.json")


def test_a_folder_without_a_plan_names_the_races_inside(folder):
    with pytest.raises(RavineError, match=r"not a race's folder.*the races in it are digits-mlp"):
        report.load(folder.parent)
    (folder / "plan.json").unlink()
    with pytest.raises(RavineError, match=r"holds no plan\.json: give the folder"):
        report.load(folder)


def test_a_race_that_has_not_finished_counts_its_trials(folder):
    (folder / "verdict.json").unlink()
    path = next((folder / "records").glob("*.jsonl"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(RavineError, match="has not finished: 89 trials are recorded; run the same command again"):
        report.load(folder)


@pytest.mark.parametrize("file", ["plan.json", "verdict.json"])
def test_damaged_json_is_named(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(Damaged, match=rf"{file} is not JSON"):
        report.load(folder)
    (folder / file).write_text("[]")
    with pytest.raises(Damaged, match=rf"{file} holds a list"):
        report.load(folder)
    (folder / file).write_text('{"format": 1, "task": {}}')
    with pytest.raises(Damaged, match=rf"{file} has no '"):
        report.load(folder)


def test_a_damaged_record_is_named(folder):
    path = folder / "records" / f"{sorted(report.load(folder).records)[3]}.jsonl"
    path.write_text(path.read_text().replace('"work": 40', '"work": 41'))
    with pytest.raises(Damaged, match=path.name):
        report.load(folder)


def test_another_format_says_so(folder):
    change(folder, "plan.json", lambda plan: plan.update(format=2))
    with pytest.raises(RavineError, match="format 2, this version of ravine reads format 1"):
        report.load(folder)


# --- the table -------------------------------------------------------------------------------------------------------


def shown(race, width, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, legacy_windows=False).print(report.table(race))
    file.seek(0)
    return file.read()


@every_race
@pytest.mark.parametrize("width", [80, 120])
def test_the_table_cuts_no_number(races, name, width):
    race = report.load(races[name])
    text = shown(race, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for found in race.optimizers.values():
        assert words.crossing(found["work_to_goal"], race.horizon, race.verdict["goal"]) in text
        assert words.metric(found["final_metric"]) in text
    for pair in race.verdict["pairs"]:
        interval = words.between(words.ratio(pair["low"]), words.ratio(pair["high"]))
        assert f"{words.ratio(pair['ratio'], pair['bound'])} {interval}".strip() in text
        assert words.chance(pair["p"]) in text
        assert words.ratio(pair["detectable"]) in text


def test_the_table_says_everything(races):
    race = report.load(races["five"])
    text = " ".join(shown(race, 120).split())
    for gate in race.verdict["gates"]:
        assert gate["name"] in text
    for said in (
        "✓ passed",
        "✗ FAILED",
        "– not run",
        "adamw",
        "slower",
        "tie",
        "not enough runs",
        "goal: accuracy 0.95",
    ):
        assert said in text
    assert " ".join(race.verdict["sentence"].split()) in text


def test_the_table_does_not_read_names_as_markup(races):
    text = shown(report.load(races["nasty"]), 120)
    assert "[red]$x$" in text
    assert NASTY in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_the_table_reaches_terminals_with_few_letters(races, encoding):
    text = shown(report.load(races["five"]), 80, encoding)
    for said in ("+ passed", "x FAILED", "- not run", "598 [549, > 1,000]", "> 1.83 [1.65, 2.04]"):
        assert said in text


# --- the page --------------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """What stands in a page: its elements with their attributes, and whether every tag that opens is closed."""

    VOID = {"meta", "link", "br", "rect", "path", "use", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@every_race
def test_the_page_needs_nothing_else(pages, name):
    page = pages[name]
    assert len(page.encode()) < 3_000_000
    assert set(re.findall(r"https?://[^\"'\s<)]*", page)) <= {"http://www.w3.org/2000/svg"}
    outline = Outline(page)
    loading = [a[key] for _, a in outline.elements for key in ("src", "href", "data", "action") if key in a]
    assert all(address.startswith(("#", "data:,")) for address in loading)
    assert "@import" not in page
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", page))


@every_race
def test_ids_are_unique_and_references_are_met(pages, name):
    outline = Outline(pages[name])
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {a["href"][1:] for _, a in outline.elements if a.get("href", "").startswith("#")}
    referred |= set(re.findall(r"url\(#([^)]*)\)", pages[name]))
    referred |= {a["aria-labelledby"] for _, a in outline.elements if "aria-labelledby" in a}
    assert referred <= set(ids)


@every_race
def test_only_the_page_s_own_script_may_run(pages, name):
    outline = Outline(pages[name])
    assert len(outline.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256("".join(outline.texts["script"]).encode()).digest()).decode()
    (policy,) = (meta["content"] for meta in outline.all("meta") if "http-equiv" in meta)
    assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_what_users_name_is_escaped(pages):
    page = pages["nasty"]
    assert NASTY not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page
    outline = Outline(page)
    assert outline.all("b") == []
    assert any(NASTY in text for text in outline.texts["text"])  # in a figure


@pytest.mark.parametrize(
    "bad", ['a"b', "a'b", "$\\frac$", "font-family: x", 'id="y" href="#z"', "a\nb\x00", "😀 漢字", "-->"]
)
def test_no_name_breaks_the_page(tmp_path, bad):
    racers = {bad: RACERS["adam"], "sgd": RACERS["sgd"]}
    race = report.load(build(tmp_path / "race", racers, points=2, seeds=3, task=bad))
    outline = Outline(report.page(race))
    assert any(words.line(bad) in text for text in outline.texts["text"])
    ast.parse(report.best(race))
    assert words.line(bad) in " ".join(shown(race, 120).split())


@every_race
def test_every_setting_can_be_copied(races, pages, name):
    copied = {button["data-copy"] for button in Outline(pages[name]).all("button") if "data-copy" in button}
    race = report.load(races[name])
    for found in race.optimizers.values():
        assert found["spec"] in copied
        assert {point["spec"] for point in found["tuning"]["points"]} <= copied
    assert report.best(race) in copied


@every_race
def test_tables_have_headers_and_figures_have_words(pages, name):
    outline = Outline(pages[name])
    assert all(cell["scope"] in ("col", "row") for cell in outline.all("th"))
    for svg in outline.all("svg"):
        assert svg.get("aria-label") if svg.get("role") == "img" else svg["aria-hidden"] == "true"
    assert all(button.get("type") == "button" for button in outline.all("button"))
    assert outline.all("html") == [{"lang": "en"}]


def test_the_page_says_what_the_race_found(races, pages):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", pages["five"]))
    race = report.load(races["five"])
    for said in ("work to goal", "gradient evaluations (batch of 64)", "not enough runs", "✓ passed", "✗ failed"):
        assert said in text
    for said in ("2.13.0+cpu", "x86_64", "logarithmic", "91d0c4", "11, 12, 13", "1 of 4 checks failed"):
        assert said in text
    assert words.line(race.verdict["sentence"].split(". ")[0]) in text
    assert race.verdict["notes"][0].replace("'", "&#39;") in text


def test_without_a_goal_the_page_claims_none(pages):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", pages["aimless"]))
    assert "Best result" in text
    assert "not reached" not in text
    assert "the race had no goal" in text


def test_one_optimizer_has_no_pairs(pages):
    assert "there is no pair to judge" in pages["one"]


def test_write_puts_the_same_page_into_the_folder(folder):
    path = report.write(report.load(folder))
    assert path == folder / "report.html"
    first = path.read_bytes()
    assert report.write(report.load(folder)).read_bytes() == first
    assert not list(folder.glob("*.part"))


def test_a_folder_that_cannot_be_written_says_so(folder):
    (folder / "report.html.part").mkdir()
    with pytest.raises(RavineError, match=r"cannot write .*report\.html: Is a directory"):
        report.write(report.load(folder))


def test_the_page_is_the_same_in_another_process_and_with_other_settings(races, pages, tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\naxes.facecolor: red\n")
    code = (
        "import sys; from ravine import report; sys.stdout.buffer.write(report.page(report.load(sys.argv[1])).encode())"
    )
    environment = {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code, races["five"]], env=environment, capture_output=True, check=True
    )
    assert found.stdout.decode() == pages["five"]


def test_the_page_does_not_depend_on_where_the_folder_lies(folder, pages):
    assert report.page(report.load(folder)) == pages["five"]


def test_missing_records_are_noted(folder):
    race = report.load(folder)
    runs = [run["id"] for run in race.verdict["optimizers"]["adam"]["runs"]]
    for name in runs[:3]:
        (folder / "records" / f"{name}.jsonl").unlink()
    race = report.load(folder)
    assert race.missing == runs[:3]
    assert "3 reruns have no record" in report.page(race)
    assert "3 reruns have no record" in " ".join(shown(race, 80).split())


def test_without_any_record_there_are_still_tables(folder):
    shutil.rmtree(folder / "records")
    page = report.page(report.load(folder))
    Outline(page)
    assert "there is no curve to draw" in page
    assert "Winner" in page


def test_every_number_may_be_null(folder):
    def emptied(value, key=""):
        if isinstance(value, dict):
            return {name: emptied(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [emptied(item) for item in value]
        return value if isinstance(value, str | bool) or key in ("seed", "lr") else None

    change(folder, "verdict.json", lambda verdict: verdict.update(emptied(verdict)))
    race = report.load(folder)
    Outline(report.page(race))
    shown(race, 80)
    ast.parse(report.best(race))
    for key in ("goal", "goals", "budget"):
        original = json.loads((folder / "plan.json").read_text())
        restored = {"goal": 0.95, "goals": {"given": 0.95}, "budget": original["settings"]["steps"]}
        change(folder, "verdict.json", lambda verdict, key=key, value=restored[key]: verdict.update({key: value}))
        Outline(report.page(report.load(folder)))


def test_optional_parts_of_the_plan_may_be_absent(folder):
    def lean(plan):
        for key in ("references", "seeds", "versions", "machine", "given_goal", "goals", "id"):
            del plan[key]

    Outline(report.page(report.load(change(folder, "plan.json", lean))))


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(page):
    found = re.findall(r'<svg xmlns="http://www.w3.org/2000/svg".*?</svg>', page, flags=re.S)
    return [ElementTree.fromstring(svg) for svg in found]


@every_race
def test_figures_take_their_colours_from_the_page(pages, name):
    drawn = figures(pages[name])
    assert len(drawn) == 5 + 2 * (name not in ("aimless", "steep"))
    for figure in drawn:
        styles = [element.get("style", "") for element in figure.iter()]
        used = {value for style in styles for value in re.findall(r"(?:fill|stroke): ([^;]+)", style)}
        assert "currentColor" in used
        assert all(
            re.fullmatch(r"none|currentColor|var\(--(paper|series-\d), #[0-9a-f]{3,6}\)", value) for value in used
        )
        assert any(value.startswith("var(--series") for value in used)
        for text in figure.iter("{http://www.w3.org/2000/svg}text"):
            assert text.get("fill") == "currentColor"
            assert "font-family" not in ElementTree.tostring(text, "unicode")


def test_figures_say_their_units(pages):
    labels = [
        "".join(text.itertext())
        for figure in figures(pages["five"])
        for text in figure.iter()
        if text.tag[-4:] == "text"
    ]
    for said in (
        "gradient evaluations (batch of 64)",
        "accuracy",
        "learning rate",
        "goal 0.95",
        "50%: 0.93",
        "diverged",
    ):
        assert said in labels


def test_marks_tell_what_they_are(pages):
    told = Outline(pages["five"]).texts["title"]
    assert any(text.startswith("adam(lr=") and text.endswith(": diverged") for text in told)
    assert any(re.fullmatch(r"adam, seed \d+: \d+", text) for text in told)
    assert "sgd: not reached" in told
    assert "rmsprop: diverged" in told


def test_optimizers_differ_without_colour():
    from ravine.report.palette import style

    looks = [style(number) for number in range(20)]
    assert len(set(looks)) == 20
    assert all(a.marker != b.marker for a, b in itertools.pairwise(looks))


def test_a_band_holds_the_middle_half(races):
    race = report.load(races["five"])
    found = curves.band(race, "sgd")
    runs = [race.records[run["id"]].column("metric") for run in race.optimizers["sgd"]["runs"]]
    low, median, high = np.quantile(runs, (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose([found.low, found.median, found.high], [low, median, high])


def test_a_run_that_diverged_counts_as_the_worst(races):
    race = report.load(races["five"])
    name = "rmsprop"
    runs = race.optimizers[name]["runs"]
    lost = sum(run["status"] == "diverged" for run in runs)
    assert lost == 2
    found = curves.band(race, name)
    last = [race.records[run["id"]].rows[-1]["metric"] for run in runs]
    finite = sorted(value for value in last if value is not None)
    assert found.median[-1] == pytest.approx((finite[5 - lost] + finite[4 - lost]) / 2)
    for run in runs[: 6 - lost]:
        record = race.records[run["id"]]
        if run["status"] != "diverged":
            record.rows[:] = record.rows[:5]
            object.__setattr__(record, "end", {"status": "diverged"})
    half = curves.band(race, name)
    assert np.isfinite(half.median[4])
    assert np.isnan(half.median[-1])


# --- the winner ------------------------------------------------------------------------------------------------------


@every_race
def test_best_is_python_that_names_the_winner(races, name):
    race = report.load(races[name])
    text = report.best(race)
    first = winner.ranked(race)[0]
    (call,) = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert ast.unparse(call.func) == "ravine.assemble"
    assert [ast.literal_eval(call.args[0]), ast.unparse(call.args[1])] == [race.optimizers[first]["spec"], "model"]
    assert f"STEPS = {race.plan['settings']['steps']}" in text
    assert f'--optimizer "{race.optimizers[first]["spec"]}"' in text
    assert max(map(len, text.splitlines())) <= 120


def test_best_tells_its_evidence(races):
    text, failed = (
        " ".join(report.best(report.load(races[name])).replace("\n#", "").split()) for name in ("five", "never")
    )
    assert "adamw reached accuracy 0.95 in 10 of 10 runs, after a median of 279 [244, 302]" in text
    assert "Faster than nesterov (0.59 of its work [0.53, 0.65], p = 0.020)" in text
    assert "A tie with adam" in text
    assert "adamw has the best result" in failed
    assert "no optimizer reached accuracy 0.99" in failed


def test_the_order_is_the_verdicts(folder):
    race = report.load(change(folder, "verdict.json", lambda verdict: verdict["ranking"].reverse()))
    assert winner.ranked(race) == race.verdict["ranking"]
    assert race.optimizers[race.verdict["ranking"][0]]["spec"] in report.best(race)


def test_pairs_turn_round(races):
    race = report.load(races["five"])
    race.verdict["pairs"][:] = [
        {
            "a": "sgd",
            "b": "adam",
            "ratio": 2.0,
            "low": 1.6,
            "high": 2.5,
            "p": 0.01,
            "verdict": "slower",
            "bound": "lower",
        },
        {"a": "adam", "b": "adamw", "ratio": 0.5, "low": None, "high": 1.0, "p": None, "verdict": "tie", "bound": ""},
    ]
    turned, straight = winner.facing(race, "adam")
    assert [turned[key] for key in ("a", "b", "ratio", "low", "high")] == ["adam", "sgd", 0.5, 0.4, 0.625]
    assert [turned[key] for key in ("verdict", "bound")] == ["faster", "upper"]
    assert straight["ratio"] == 0.5
    assert winner.standing(race, "adam")[0] == "Faster than sgd (≤ 0.50 of its work [0.40, 0.62], p = 0.010)."


@pytest.mark.parametrize(("bound", "sign"), [("", ""), ("lower", "≥ "), ("upper", "≤ "), ("both", "~ ")])
def test_every_kind_of_bound_is_drawn(folder, bound, sign):
    change(folder, "verdict.json", lambda verdict: [pair.update(bound=bound, ratio=1.5) for pair in verdict["pairs"]])
    race = report.load(folder)
    assert f'aria-label="{sign}1.50 [' in report.page(race)
    assert f"{sign}1.50 [" in shown(race, 80)
    assert {pair["bound"] for pair in winner.facing(race, "rmsprop")} <= {
        bound,
        {"lower": "upper", "upper": "lower"}.get(bound),
    }


def test_the_command_survives_a_shell(races):
    spec = "adam(mode='$HOME', text='`x`')"
    command = winner.command("it's a task.py:task", spec, 50)
    echoed = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    words = ["ravine", "train", "it's a task.py:task", "--optimizer", spec, "--steps", "50"]
    assert echoed.stdout.splitlines() == words


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.14159, "3.14"), (99.7, "99.7"), (1234.5, "1,234"), (123456, "123k"), (2.5e6, "2.5M"), (None, "–")],
)
def test_counts(value, text):
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.975, "0.975"),
        (0.00025, "2.5e-4"),
        (1e-5, "1e-5"),
        (0.0, "0"),
        (250.0, "250"),
        (2e5, "200k"),
        (-0.0005, "-5e-4"),
    ],
)
def test_ticks(value, text):
    assert words.tick(value) == text


@pytest.mark.parametrize(
    ("work", "text"),
    [
        ({"median": 210.5, "low": 180, "high": 250}, "210 [180, 250]"),
        ({"median": 900, "low": 800, "high": None}, "900 [800, > 1,000]"),
        ({"median": None, "low": 800, "high": None}, "> 1,000 [800, > 1,000]"),
        ({"median": None, "low": None, "high": None}, "> 1,000"),
        (None, "–"),
    ],
)
def test_crossings(work, text):
    assert words.crossing(work, 1000, 0.95) == text


@pytest.mark.parametrize(("value", "text"), [(0.0004, "< 0.001"), (0.02, "0.020"), (1.0, "1.000"), (None, "–")])
def test_chances(value, text):
    assert words.chance(value) == text


def test_lines_are_one_line():
    assert words.line("a\n b\x00\x1b[31mc") == "a b [31mc"
    assert words.line("x" * 50, 20) == f"{'x' * 13}…{'x' * 6}"


# --- the house -------------------------------------------------------------------------------------------------------


def loaded(folder, code):
    program = f"import sys; from ravine import report; race = report.load({str(folder)!r}); {code}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_neither_torch_nor_scipy_is_loaded(races):
    modules = loaded(races["five"], "report.page(race); report.table(race); report.best(race)")
    assert not {"torch", "scipy", "sklearn", "matplotlib.pyplot"} & modules
    assert {"matplotlib", "jinja2", "rich"} <= modules


def test_the_table_and_the_code_need_no_matplotlib(races):
    modules = loaded(races["five"], "report.table(race); report.best(race)")
    assert not {"torch", "scipy", "matplotlib", "jinja2"} & modules


def test_importing_the_room_loads_nothing_heavy():
    program = "import sys; from ravine import report; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "matplotlib", "jinja2", "rich"} & set(found)
    assert set(report.__all__) <= set(dir(report))
    with pytest.raises(AttributeError, match="no attribute 'tabel'"):
        report.tabel  # noqa: B018
