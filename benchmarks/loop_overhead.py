"""What `ravine.train` costs beside the plainest loop that does the same work: a ratio, one process, interleaved.

Both train digits-mlp for 500 steps on one thread with the same optimizer object's class and judge the metric at the
same 51 points. The second table line takes torch.optim.Adam in both instead.
"""

import statistics
import time

import torch

import ravine
from ravine.core.seeds import generator

STEPS, EVERY, ROUNDS = 500, 10, 15


def plain(task, make):
    """The loop one writes by hand: an epoch is a permutation, every tenth step is judged."""
    torch.manual_seed(0)
    model = task.model()
    optimizer = make(model)
    shuffle = generator(0, "shuffle")
    x, y = task.train
    criterion = torch.nn.CrossEntropyLoss()
    step, rows = 0, [accuracy(model, task.valid)]
    total = torch.zeros(())
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
                rows.append((total.item(), accuracy(model, task.valid)))
                total.zero_()
            if step == STEPS:
                break
    return rows


def accuracy(model, data):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in zip(data[0].split(1024), data[1].split(1024), strict=True):
            right += (model(x).argmax(1) == y).sum().item()
    model.train()
    return right / len(data[1])


def ours(task, make):
    return [moment.metric for moment in ravine.train(task, make, steps=STEPS, every=EVERY)]


def main() -> None:
    torch.set_num_threads(1)
    task = ravine.task("digits-mlp")
    makers = {
        "ravine.optim.Adam in both": lambda model: ravine.optim.Adam(model.parameters(), lr=1e-3),
        "torch.optim.Adam in both": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
    }
    print(f"time of ravine.train / time of a hand-written loop; {STEPS} steps, {ROUNDS} rounds A B B A")
    for name, make in makers.items():
        ratios, seconds = [], []
        for turn in range(ROUNDS + 1):
            pair = [ours, plain] if turn % 2 else [plain, ours]
            spent = {}
            for run in pair:
                started = time.perf_counter()
                run(task, make)
                spent[run] = time.perf_counter() - started
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
