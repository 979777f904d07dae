"""Labels outside the classes are told before anything is trained, whichever strategy is asked and wherever they are."""

import dataclasses

import pytest
import small_nets as nets
import torch
from torch import nn
from torch.utils.data import Dataset

import ravine
from ravine.core.errors import RavineError
from ravine.strategies import distill, pretrain, transfer
from ravine.strategies.labels import check_labels

STRATEGIES = {
    "pretrain": lambda task, out: pretrain(task, steps_per_layer=2, steps=2, out=out),
    "distill": lambda task, out: distill(nn.Linear(6, 3), None, task, hint_steps=2, steps=2, out=out),
    "transfer": lambda task, out: transfer(task, nets.task("mlp", name="b"), steps=2, seeds=1, out=out),
    "transfer to": lambda task, out: transfer(nets.task("mlp", name="b"), task, steps=2, seeds=1, out=out),
}


def odd(label: int, at: slice = slice(77, 78)) -> torch.Tensor:
    """The labels of the small tasks, with another one there."""
    y = nets.Y.clone()
    y[at] = label
    return y


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("part", "y", "message"), [
    ("train", odd(3), "labels of train go up to 3, but the model gives 3 classes, 0 to 2: make its last layer wider"),
    ("train", odd(-1), "labels of train go down to -1, but the model gives 3 classes"),
    ("train", odd(9, slice(None)), "labels of train go up to 9"),  # in the first batch too
    ("valid", odd(7), "labels of valid go up to 7"),
    ("test", odd(-1), "labels of test go down to -1"),
])  # fmt: skip
def test_labels_outside_the_classes(strategy, part, y, message, tmp_path):
    with pytest.raises(RavineError, match=message):
        STRATEGIES[strategy](nets.task("mlp", **{part: (nets.X, y)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_that_the_criterion_leaves_out_are_none_of_these():
    check_labels(nets.task("mlp", train=(nets.X, odd(-100))))
    check_labels(nets.task("mlp", train=(nets.X, odd(255)), criterion=nn.CrossEntropyLoss(ignore_index=255)))
    with pytest.raises(RavineError, match="go down to -100"):
        check_labels(nets.task("mlp", train=(nets.X, odd(-100)), criterion=nn.CrossEntropyLoss(ignore_index=255)))
    *_, last = pretrain(nets.task("mlp", train=(nets.X, odd(-100))), steps_per_layer=2, steps=2)
    assert not last.diverged


def test_labels_of_a_language_model_and_numbers_that_are_none():
    task = nets.task("transformer")
    text = task.train[1].clone()
    text[40, 3] = 5
    with pytest.raises(RavineError, match="labels of train go up to 5, but the model gives 5 classes"):
        check_labels(dataclasses.replace(task, train=(task.train[0], text)))
    counts = torch.randint(20, (96,))
    check_labels(
        nets.task(
            "mlp", model=lambda: nn.Linear(6, 1), train=(nets.X, counts), valid=(nets.X, counts), metric="loss",
            criterion=lambda out, y: (out.squeeze(1) - y).square().mean(),
        )
    )  # fmt: skip


class Listed(Dataset):
    """Examples that only indexing tells; the last has a label outside the classes."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return nets.X[i], 3 if i == 95 else int(nets.Y[i])


def test_a_label_that_turns_up_on_the_way_is_told_with_its_step():
    task = nets.task("mlp", train=Listed(), batch_size=4)
    with pytest.raises(RavineError, match=r"task 'mlp': step \d+ failed: Target 3 is out of bounds.*holds a label"):
        list(pretrain(task, steps_per_layer=24, steps=24))
    with pytest.raises(RavineError, match="task 'mlp': step"):
        list(ravine.train(task, steps=24))
