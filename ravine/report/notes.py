"""What a reader must know beside the numbers: the verdict's notes, and what is missing in the folder."""

from ravine.report import words
from ravine.report.read import Race


def notes(race: Race) -> list[str]:
    """The notes of the verdict, and one about runs whose record is gone."""
    found = [words.line(note) for note in race.verdict["notes"]]
    if race.missing:
        runs = "1 rerun has" if len(race.missing) == 1 else f"{len(race.missing)} reruns have"
        found.append(f"{runs} no record in the folder: the learning curves are drawn without")
    return found
