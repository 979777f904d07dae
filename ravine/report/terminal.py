"""A race as a table in the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ravine.report import words
from ravine.report.notes import notes
from ravine.report.read import Race
from ravine.report.winner import ranked, reached

_COLORS = {"faster": "green", "slower": "red", "tie": "cyan", "not enough runs": "dim"}
_MARKS = {True: ("✓ passed", "green"), False: ("✗ FAILED", "bold red"), None: ("– not run", "dim")}
_ASCII = str.maketrans("≥≤–✓✗", "><-+x")


@dataclass(frozen=True)
class _Report:
    race: Race

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType | Segment]:
        parts = Group(*self.parts(wide=options.max_width >= 100))
        if not options.ascii_only:
            yield parts
            return
        for segment in console.render(parts, options):
            yield Segment(segment.text.translate(_ASCII).encode("ascii", "replace").decode(), *segment[1:])

    def parts(self, wide: bool) -> Iterator[RenderableType]:
        yield from _headline(self.race)
        yield _optimizers(self.race, wide)
        if self.race.verdict["pairs"]:
            yield _pairs(self.race)
        if self.race.verdict["gates"]:
            yield _gates(self.race)
        for note in notes(self.race):
            yield Text(f"note: {note}", style="dim")


def table(race: Race) -> RenderableType:
    """The verdict of `race` for `rich.print`: sentence, optimizers, pairs, gates, notes. Fits 80 columns."""
    return _Report(race)


def _headline(race: Race) -> Iterator[RenderableType]:
    verdict, settings = race.verdict, race.plan["settings"]
    yield Text(words.line(verdict["sentence"]), style="bold")
    goal = "no goal" if verdict["goal"] is None else f"goal: {verdict['metric']} {words.plain(verdict['goal'])}"
    budget = f"budget: {words.count(race.horizon)} {words.currency(verdict.get('batch_size'))}"
    effort = f"{settings['points']} points to tune, {settings['seeds']} reruns"
    yield Text(f"{words.line(verdict['task'])} | {goal} | {budget} | {effort}", style="dim")


def _grid(*columns: tuple[str, bool]) -> Table:
    """A table of `columns`: those of numbers are never wrapped or cut, the others share what is left."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name, number in columns:
        made.add_column(name, no_wrap=number, overflow="fold", min_width=None if number else 12, justify="left")
    return made


def _optimizers(race: Race, wide: bool) -> Table:
    verdict, final = race.verdict, words.line(f"final {race.verdict['metric']}", 18)
    made = _grid(("optimizer", False), ("success", True), ("work to goal", True), (final, True), ("diverged", True))
    if wide:
        made.add_column("test", no_wrap=True)
    for place, name in enumerate(ranked(race)):
        found = race.optimizers[name]
        title = Text(words.line(name), style="bold green" if place == 0 and reached(race) else "bold")
        if found["spec"] != name:
            title.append(f"\n{words.line(found['spec'])}", style="not bold default dim")
        interval = words.between(words.metric(found["final_low"]), words.metric(found["final_high"]))
        made.add_row(
            title,
            words.NONE if verdict["goal"] is None else words.percent(found["success_rate"]),
            words.crossing(found["work_to_goal"], race.horizon, verdict["goal"]),
            f"{words.metric(found['final_metric'])} {interval if wide else ''}".strip(),
            Text(words.plain(found["diverged"]), style="red" if found["diverged"] else ""),
            *([words.metric(found["test_metric"])] if wide else []),
        )
    return made


def _pairs(race: Race) -> Table:
    made = _grid(("pair", False), ("verdict", True), ("ratio of work", True), ("p", True), ("detectable", True))
    for pair in race.verdict["pairs"]:
        interval = words.between(words.ratio(pair["low"]), words.ratio(pair["high"]))
        made.add_row(
            Text(f"{words.line(pair['a'])} vs {words.line(pair['b'])}"),
            Text(words.line(pair["verdict"]), style=_COLORS.get(pair["verdict"], "")),
            f"{words.ratio(pair['ratio'], pair.get('bound', ''))} {interval}".strip(),
            words.chance(pair["p"]),
            words.ratio(pair["detectable"]),
        )
    return made


def _gates(race: Race) -> Table:
    made = _grid(("gate", False), ("", True), ("detail", False))
    for gate in race.verdict["gates"]:
        made.add_row(
            Text(words.line(gate["name"])), Text(*_MARKS[gate["passed"]]), Text(words.line(gate["detail"] or ""))
        )
    return made
