"""Times of a training step, taken in a process of their own, where the number of threads can be chosen.

A worker of the claims runs with one thread and was forked; a pool of threads that is started after a fork can hang.
"""

import json
import os
import subprocess
import sys

from ravine.core.errors import RavineError

_PROGRAM = """
import json, sys, time
import torch

asked = json.loads(sys.argv[1])
generator = torch.Generator().manual_seed(asked["seed"])
net = torch.nn.Sequential(*(
    layer
    for a, b in zip(asked["widths"], asked["widths"][1:])
    for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())
))[:-1]
for part in net.parameters():
    part.data = torch.randn(part.shape, generator=generator) / part.shape[-1] ** 0.5
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
data = {
    size: (
        torch.randn(size, asked["widths"][0], generator=generator),
        torch.randint(asked["widths"][-1], (size,), generator=generator),
    )
    for size in asked["sizes"]
}

def step(size):
    x, y = data[size]
    loss = torch.nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

def seconds(size, limit):
    start, steps, passed = time.perf_counter(), 0, 0.0
    while steps < 3 or passed < limit:
        step(size)
        steps, passed = steps + 1, time.perf_counter() - start
    return passed / steps

found = []
for repeat in range(asked["repeats"] + 1):
    for threads in asked["threads"]:
        torch.set_num_threads(threads)
        for size in asked["sizes"]:
            time_of_one = seconds(size, asked["seconds"] if repeat else 0)
            if repeat:  # the first is for warming up
                found.append((threads, size, time_of_one))
print(json.dumps(found))
"""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_seconds(
    *, widths: list[int], sizes: list[int], threads: list[int], repeats: int, seconds: float, seed: int
) -> dict[tuple[int, int], list[float]]:
    """Seconds of a step of SGD on a dense net of those widths, by (threads, batch size): interleaved repeats.

    Each repeat runs every size in turn for about that many seconds.
    """
    asked = {"widths": widths, "sizes": sizes, "threads": threads, "repeats": repeats, "seconds": seconds, "seed": seed}
    command = [sys.executable, "-c", _PROGRAM, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RavineError(f"the process that takes times ended with {done.returncode}: {done.stderr[-500:].strip()}")
    found: dict[tuple[int, int], list[float]] = {}
    for thread, size, time in json.loads(done.stdout):
        found.setdefault((thread, size), []).append(time)
    return found
