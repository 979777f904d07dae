"""How much sooner two workers finish a race than one, and what the coordinator of a thousand trials weighs.

The two races alternate in one run, each a command of its own from start to verdict.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
RACE = ["digits-mlp", "--optimizers", "sgd,momentum,adam", "--points", "8", "--seeds", "10", "--steps", "1000"]
THOUSAND = """
import resource, sys, ravine
verdict = ravine.race("quadratic", "sgd, momentum, nesterov, adam, adamw", points=100, seeds=100, steps=50, every=1,
                      goal=1.5, out=sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / (1024 if sys.platform != "darwin" else 1024**2))
"""


def race(workers: int, folder: Path) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "ravine", "race", *RACE, "--workers", str(workers), "--json", "--out", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    json.loads(done.stdout)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        ratios = []
        for turn in range(ROUNDS):
            order = (1, 2) if turn % 2 == 0 else (2, 1)
            spent = {workers: race(workers, Path(scratch) / f"{turn}-{workers}") for workers in order}
            ratios.append(spent[1] / spent[2])
            print(f"  one worker {spent[1]:.1f} s, two workers {spent[2]:.1f} s: {ratios[-1]:.2f}x", flush=True)
        middle = statistics.median(ratios)
        print(f"two workers finish {middle:.2f}x sooner (min {min(ratios):.2f}, max {max(ratios):.2f})")
        started = time.perf_counter()
        command = [sys.executable, "-c", THOUSAND, str(Path(scratch) / "thousand")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        trials = len(list((Path(scratch) / "thousand" / "records").glob("*.jsonl")))
        seconds = time.perf_counter() - started
        print(f"coordinator of {trials} trials: peak {float(done.stdout):.0f} MB of memory, {seconds:.0f} s")


if __name__ == "__main__":
    main()
