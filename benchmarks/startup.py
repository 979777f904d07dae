"""How long a command takes to answer: `ravine --help`, and `ravine report` on a real race of five optimizers.

    python benchmarks/startup.py [FOLDER OF A FINISHED RACE]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7


def seconds(*arguments: str) -> list[float]:
    spent = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ravine", *arguments], check=True, capture_output=True)
        spent.append(time.perf_counter() - started)
    return sorted(spent[1:])


def loaded(folder: str) -> str:
    """Which of torch and scipy a report loads."""
    code = (
        "import sys; from ravine.cli import app; app(['report', sys.argv[1]], standalone_mode=False); "
        "print([name for name in ('torch', 'scipy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
    return done.stderr.splitlines()[-1]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = sys.argv[1] if len(sys.argv) > 1 else str(Path(scratch) / "race")
        if len(sys.argv) == 1:
            race = ["race", "quadratic", "--steps", "100", "--goal", "1.5", "--out", folder]
            subprocess.run([sys.executable, "-m", "ravine", *race], check=True, capture_output=True)
        for name, arguments in {"ravine --help": ["--help"], "ravine report": ["report", folder]}.items():
            spent = seconds(*arguments)
            print(f"  {name:16s} median {statistics.median(spent):.2f} s   min {spent[0]:.2f}   max {spent[-1]:.2f}")
        print(f"  of torch and scipy, a report loads {loaded(folder)}")


if __name__ == "__main__":
    main()
