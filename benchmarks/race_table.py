"""The table of a finished race for a document: each optimizer's work to the goal, beside that of one of them.

    python benchmarks/race_table.py FOLDER [--against adamw]

The ratio is the geometric mean over paired seeds with its 95 % interval; above 1 an optimizer takes less work than the
one it stands beside. A bound (a run that never reached the goal) has no interval that means anything, and shows none.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from ravine import report


def ratio(pairs: list[dict[str, Any]], name: str, against: str) -> str:
    """The work of `against` over that of `name`, with its interval, and the race's word."""
    for pair in pairs:
        if {pair["a"], pair["b"]} == {name, against} and pair["ratio"]:
            value, low, high = pair["ratio"], pair["low"], pair["high"]
            bound = pair.get("bound", "")
            if pair["a"] == name:
                value, low, high = 1 / value, 1 / high, 1 / low
                bound = {"lower": "upper", "upper": "lower"}.get(bound, "")
            sign = {"lower": "at least ", "upper": "at most "}.get(bound, "")
            words = {"faster": "slower", "slower": "faster"} if pair["b"] == name else {}
            word = words.get(pair["verdict"], pair["verdict"])
            interval = "" if bound else f" [{low:.2f}, {high:.2f}]"
            return f"{sign}{value:.2f}{interval} | {word}"
    return " | "


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--against", default="adamw")
    given = arguments.parse_args()
    race = report.load(given.folder)
    ordered = sorted(race.optimizers.items(), key=lambda item: item[1]["work_to_goal"]["median"] or math.inf)
    print(f"| optimizer | setting | runs at the goal | work, median | {given.against}'s work / its | verdict |")
    print("|---|---|---|---|---|---|")
    for name, found in ordered:
        median = found["work_to_goal"]["median"]
        work = f"{median:.0f}" if median else "–"
        beside = ratio(race.verdict["pairs"], name, given.against)
        runs = f"{round(found['success_rate'] * len(found['runs']))} of {len(found['runs'])}"
        print(f"| `{name}` | `{found['spec']}` | {runs} | {work} | {beside} |")


if __name__ == "__main__":
    main()
