"""What `ravine.train` costs beside the plainest loop that does the same work: a ratio, one process, in lockstep.

Both train digits-mlp for 500 steps on one thread with the same optimizer's class and judge the metric at the same 51
points. They take turns from one evaluation to the next, so that a busy moment of the machine falls on both alike. The
second line of the table takes torch.optim.Adam in both instead.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch

import ravine
from ravine.core.seeds import generator

STEPS, EVERY, ROUNDS = 500, 10, 15


def plain(task, make) -> Iterator[float]:
    """The loop one writes by hand: an epoch is a permutation, every tenth step is judged."""
    torch.manual_seed(0)
    model = task.model()
    optimizer = make(model)
    shuffle = generator(0, "shuffle")
    x, y = task.train
    criterion = torch.nn.CrossEntropyLoss()
    step, total, losses = 0, torch.zeros(()), []
    yield accuracy(model, task.valid)
    while step < STEPS:
        order = torch.randperm(len(x), generator=shuffle)
        for start in range(0, len(x) - task.batch_size + 1, task.batch_size):
            index = order[start : start + task.batch_size]
            optimizer.zero_grad()
            loss = criterion(model(x[index]), y[index])
            loss.backward()
            optimizer.step()
            total += loss.detach()
            step += 1
            if step % EVERY == 0:
                losses.append(total.item() / EVERY)
                total.zero_()
                yield accuracy(model, task.valid)
            if step == STEPS:
                break


def accuracy(model, data) -> float:
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in zip(data[0].split(1024), data[1].split(1024), strict=True):
            right += (model(x).argmax(1) == y).sum().item()
    model.train()
    return right / len(data[1])


def ours(task, make) -> Iterator[float]:
    for moment in ravine.train(task, make, steps=STEPS, every=EVERY):
        yield moment.metric


def lockstep(task, make, first: Callable, second: Callable) -> dict[Callable, float]:
    """Seconds that each of two loops took, start and end included, when they take turns at every evaluation."""
    spent = {first: 0.0, second: 0.0}
    running = {}
    for run in (first, second):
        started = time.perf_counter()
        running[run] = run(task, make)
        spent[run] += time.perf_counter() - started
    points = dict.fromkeys(spent, 0)
    while running:
        for run in list(running):
            started = time.perf_counter()
            ended = next(running[run], None) is None
            spent[run] += time.perf_counter() - started
            if ended:
                del running[run]
            else:
                points[run] += 1
    assert set(points.values()) == {STEPS // EVERY + 1}
    return spent


def main() -> None:
    torch.set_num_threads(1)
    task = ravine.task("digits-mlp")
    makers = {
        "ravine.optim.Adam in both": lambda model: ravine.optim.Adam(model.parameters(), lr=1e-3),
        "torch.optim.Adam in both": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    }
    print(f"time of ravine.train / time of a hand-written loop; {STEPS} steps, {ROUNDS} rounds in lockstep")
    for name, make in makers.items():
        ratios, seconds = [], []
        for turn in range(ROUNDS + 1):
            spent = lockstep(task, make, *((ours, plain) if turn % 2 else (plain, ours)))
            if turn:  # the first turn warms up
                ratios.append(spent[ours] / spent[plain])
                seconds.append(spent[plain])
        ratios.sort()
        print(
            f"  {name:28s} median {statistics.median(ratios):.3f}   min {ratios[0]:.3f}   max {ratios[-1]:.3f}"
            f"   (by hand {statistics.median(seconds):.3f} s)"
        )


if __name__ == "__main__":
    main()
