"""The runs behind the table: a file of JSON lines, a header and then one line a run, to which a run adds itself."""

import json
import math
from pathlib import Path
from typing import Any

from deep_parts.treatments import TREATMENTS

Line = dict[str, Any]
CHANCE = 0.1


class Ledger:
    """What has been run. A last line that a kill cut short is dropped; another header is another experiment."""

    def __init__(self, path: Path, header: Line | None = None) -> None:
        self.path = path
        found = _lines(path)
        if found and header is not None and (differ := [k for k, v in header.items() if found[0].get(k) != v]):
            raise SystemExit(f"{path} holds runs of another experiment ({', '.join(differ)} differ): choose --records")
        if not found:
            if header is None:
                raise SystemExit(f"there are no records in {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            found = [{"line": "header"} | header]
        path.write_text("".join(json.dumps(line) + "\n" for line in found), encoding="utf-8")
        self.header, self.runs = found[0], found[1:]

    def note(self, **facts: Any) -> None:
        """Add to the header what was found before the first run."""
        self.header |= facts
        self.path.write_text("".join(json.dumps(x) + "\n" for x in (self.header, *self.runs)), encoding="utf-8")

    def add(self, run: Line) -> None:
        """Take in one run, on disk when this returns."""
        self.runs.append(run)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")

    def known(self) -> set[tuple[str, str, int, str]]:
        """What need not be run again."""
        return {(run["treatment"], run["setting"], run["seed"], run["data"]) for run in self.runs}

    def at(self, treatment: str, setting: str, seed: int) -> float | None:
        """The accuracy on the validation data at the end of a tuning run; None before there is one."""
        wanted = (treatment, setting, seed, "valid")
        keys = ("treatment", "setting", "seed", "data")
        return next((final(run) for run in self.runs if tuple(run[key] for key in keys) == wanted), None)

    def grid(self, treatment: str) -> list[str]:
        """The settings to try on the first tuning seed.

        Where the best stands at an end of the grid, and learns at all, the grid goes on by half a decade.
        """
        settings, first = list(TREATMENTS[treatment].settings), self.header["tuning_seeds"][0]
        while True:
            found = [self.at(treatment, setting, first) for setting in settings]
            known = [value for value in found if value is not None]
            if len(known) < len(found) or max(known) < 2 * CHANCE:
                return settings
            best = known.index(max(known))
            if best not in (0, len(settings) - 1):
                return settings
            further = onward(settings[best], up=best > 0)
            settings = [*settings, further] if best else [further, *settings]

    def finalists(self, treatment: str) -> list[str]:
        """The two best on the first tuning seed, which are tried on the second."""
        first = self.header["tuning_seeds"][0]
        return sorted(self.grid(treatment), key=lambda setting: -(self.at(treatment, setting, first) or 0))[:2]

    def tuned(self, treatment: str) -> str:
        """The finalist with the best mean over the tuning seeds."""
        seeds = self.header["tuning_seeds"]
        return max(self.finalists(treatment), key=lambda s: sum(self.at(treatment, s, seed) or 0 for seed in seeds))

    def prune(self) -> None:
        """Keep only what the table rests on."""
        first, second = self.header["tuning_seeds"]
        called = {(name, s, first, "valid") for name in TREATMENTS for s in self.grid(name)}
        called |= {(name, s, second, "valid") for name in TREATMENTS for s in self.finalists(name)}
        called |= {(name, self.tuned(name), s, "test") for name in TREATMENTS for s in self.header["seeds"]}
        order = list(TREATMENTS)
        kept = [run for run in self.runs if (run["treatment"], run["setting"], run["seed"], run["data"]) in called]
        self.runs = sorted(kept, key=lambda r: (r["data"] == "test", order.index(r["treatment"]), r["seed"]))
        self.note()

    def fresh(self, treatment: str) -> list[Line]:
        """The runs on seeds that tuning has not seen, judged on the test data, in the order of their seeds."""
        chosen = [run for run in self.runs if (run["treatment"], run["data"]) == (treatment, "test")]
        return sorted(chosen, key=lambda run: run["seed"])


def _lines(path: Path) -> list[Line]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def onward(setting: str, up: bool) -> str:
    """The setting half a decade on: 1, 3, 10, 30, ..."""
    head, _, value = setting.rstrip(")").partition("=")
    exponent = math.floor(math.log10(float(value)) + 1e-9)
    one = float(value) < 2 * 10.0**exponent
    digit, power = (3, exponent if up else exponent - 1) if one else (1, exponent + 1 if up else exponent)
    return f"{head}={float(f'{digit}e{power}')!r})"


def final(run: Line) -> float:
    """The accuracy at the end; that of guessing where the run broke off."""
    last = run["curve"][-1][1] if run["curve"] else None
    return CHANCE if last is None or run["status"] != "done" else last


def reached(run: Line, goal: float) -> float:
    """The work at the first judged point that is good enough; infinite where there is none."""
    return next((work for work, value in run["curve"] if value is not None and value >= goal), math.inf)
