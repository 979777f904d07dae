"""Tasks: the built-in ones, a user's own, what is wrong with one, and how batches are drawn."""

import math
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split

import ravine
from ravine import tasks
from ravine.checks import check_task
from ravine.core.batches import batches, in_order, leading_size, length, picker, to
from ravine.core.dry_run import dry_run, hash_tensors
from ravine.core.errors import RavineError
from ravine.core.seeds import generator
from ravine.core.task import Task
from ravine.weights import fresh

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


def ordinary(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "name": "signs", "model": lambda: nn.Linear(3, 2), "criterion": nn.CrossEntropyLoss(),
        "train": (X, Y), "valid": (X, Y), "batch_size": 8,
    }  # fmt: skip
    return ravine.supervised(**settings | changes)


def bare(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "name": "bare", "model": lambda: nn.Linear(3, 1), "loss": lambda model, batch: model(batch[0]).square().mean(),
        "train": (X,), "valid": X, "metric": lambda model, data: model(data).square().mean(), "better": "lower",
        "batch_size": 8,
    }  # fmt: skip
    return Task(**settings | changes)


def said(attempt: Callable[[], object]) -> str:
    with pytest.raises(RavineError) as error:
        attempt()
    return str(error.value)


# ---------------------------------------------------------------- the built-in ones


def built_in(name: str) -> Task:
    try:
        return ravine.task(name)
    except RavineError as error:
        if "ravine data fetch" in str(error):
            pytest.skip(f"{name} needs data that have not been fetched: {error}")
        raise


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_built_in_task_runs_dry_and_learns(name: str) -> None:
    task = built_in(name)
    assert task.name == name
    assert check_task(task).parameters > 0
    start, middle, end = ravine.train(task, "adam(lr=0.003)", steps=20, every=10)
    assert end.examples == 20 * task.batch_size
    if name != "digits-deep-sigmoid":  # whose point is that it does not
        assert end.loss < middle.loss
        assert task.is_better(end.metric, start.metric)


def test_the_deep_sigmoid_net_tells_no_image_from_another() -> None:
    task = ravine.task("digits-deep-sigmoid")
    model = fresh(task)
    outputs = model(task.train[0][:512]).detach()
    assert outputs.std(0).max() < 1e-6  # float32's rounding; behind one layer it is 0.04
    assert model[:2](task.train[0][:512]).std(0).mean() > 0.01
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    assert len(weights) == 21
    assert all(0.12 < w.abs().max() <= 1 / 8 for w in weights)
    assert not any(layer.bias.any() for layer in model if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("name", tasks.TASKS)
def test_what_a_built_in_task_is_can_be_said_without_its_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVINE_DATA", "no such folder")
    text = tasks.summary(name)
    assert text.endswith(".")
    assert text[0].isupper()


@pytest.mark.parametrize("name", ["fashion-mlp", "moby-lm", "autoencoder-mnist", "autoencoder-faces"])
def test_data_that_are_not_there_are_asked_for(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path))
    message = said(lambda: ravine.task(name))
    assert "has not been fetched" in message
    assert "`ravine data fetch " in message
    assert str(tmp_path) in message


def test_the_splits_of_the_digits_share_no_image() -> None:
    task = ravine.task("digits-mlp")
    splits = [{row.numpy().tobytes() for row in x} for x, _ in (task.train, task.valid, task.test)]
    assert [len(x) for x, _ in (task.train, task.valid, task.test)] == [997 * 9, 400 * 9, 400 * 9]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]
    for x, y in (task.train, task.valid, task.test):
        assert (x.min(), x.max()) == (0, 1)
        assert set(y.tolist()) == set(range(10))
    assert ravine.task("digits-cnn").train[0] is task.train[0]


def test_the_digits_are_moved_by_a_pixel_each_way() -> None:
    x, y = ravine.task("digits-mlp").valid
    places = x.view(9, 400, 8, 8)
    middle = places[4]
    assert torch.equal(y.view(9, 400), y[:400].expand(9, 400))
    for k, (i, j) in enumerate((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
        moved = torch.zeros_like(middle)
        rows, columns = slice(max(0, -i), 8 - max(0, i)), slice(max(0, -j), 8 - max(0, j))
        moved[:, rows, columns] = middle[:, slice(max(0, i), 8 + min(0, i)), slice(max(0, j), 8 + min(0, j))]
        assert torch.equal(places[k], moved)


def test_the_quadratic_is_what_it_says() -> None:
    task = ravine.task("quadratic")
    model = task.model()

    def loss(x: Tensor, slope: Tensor) -> Tensor:
        return task.loss(lambda: x, slope)  # type: ignore[arg-type]

    still = torch.zeros(1, 50)
    hessian = torch.autograd.functional.hessian(lambda x: loss(x, still), torch.zeros(50))
    values = torch.linalg.eigvalsh(hessian.double())
    assert values.max().item() == pytest.approx(1, rel=1e-5)
    assert (values.max() / values.min()).item() == pytest.approx(1000, rel=1e-3)
    with torch.no_grad():
        model.x.zero_()
    assert task.judge(model, ()) == 0.0  # the known minimum
    draws = torch.cat(list(islice(batches(task.train, 1, generator(0, "shuffle")), 4000)))
    assert draws.mean().item() == pytest.approx(0, abs=4 * 0.1 / math.sqrt(draws.numel()))
    assert draws.std().item() == pytest.approx(0.1, rel=4 / math.sqrt(2 * draws.numel()))
    gradient = torch.autograd.functional.jacobian(lambda x: loss(x, draws[:1]), torch.zeros(50))
    torch.testing.assert_close(gradient, draws[0])  # at the minimum, nothing but noise


def test_an_unknown_task_is_told_its_neighbour() -> None:
    assert said(lambda: ravine.task("digit-mlp")) == (
        "unknown task 'digit-mlp': did you mean 'digits-mlp'? Allowed: "
        f"{', '.join(sorted(tasks.TASKS))}. Or a problem of your own: path/to/file.py:function or "
        "package.module:function."
    )


# ---------------------------------------------------------------- a user's own

IMPORT = "{file} cannot be imported: it raised "
EMPTY = "return ravine.supervised(name='x', model=None, criterion=None, train=[], valid=[])"
OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset, random_split

import ravine
from helper_of_ravine_tests import CLASSES


def make_model():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    data = TensorDataset(x, x[:, :CLASSES].argmax(1))
    train, valid = random_split(data, [200, 100], generator)
    return ravine.supervised(
        name="mine", model=make_model, criterion=nn.CrossEntropyLoss(), train=train, valid=valid,
        goal=0.9, batch_size=32,
    )


ready = problem()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a user's, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper_of_ravine_tests.py").write_text("CLASSES = 3\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("ravine_task_", "helper_of", "package_of")):
            del sys.modules[name]


def test_a_file_of_25_lines_is_a_task_that_trains(folder: Path) -> None:
    file = folder / "mine.py"
    file.write_text(OWN)
    assert len(OWN.split("ready")[0].strip().splitlines()) <= 25
    task = ravine.task(f"{file}:problem")
    assert (task.name, task.goal, task.metric_name) == ("mine", 0.9, "accuracy")
    first, *_, last = ravine.train(task, "adam(lr=0.01)", steps=60, every=20)
    assert last.metric > max(first.metric, 0.6)
    assert ravine.task(f"{file}:ready").name == "mine"  # a task that stands ready will do as well
    check_task(task)


def test_a_function_in_a_package_is_a_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "package_of_ravine_tests").mkdir()
    (folder / "package_of_ravine_tests" / "mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    assert ravine.task("package_of_ravine_tests.mine:problem").name == "mine"


def test_two_files_of_one_name_live_side_by_side(folder: Path) -> None:
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "task.py").write_text(OWN.replace('"mine"', f'"{place}"'))
    (folder / "a" / "helper_of_ravine_tests.py").write_text("CLASSES = 3\n")
    assert [ravine.task(f"{folder / place / 'task.py'}:problem").name for place in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def problem():\n    return 3", "{ref} must return a ravine.Task (see ravine.supervised), got int"),
        ("problem = 'text'", "{ref} must return a ravine.Task (see ravine.supervised), got str"),
        ("def porblem(): ...", "unknown function in {file} 'problem': did you mean 'porblem'? Allowed: porblem."),
        ("x = 1", "unknown function in {file} 'problem': None is allowed here."),
        ("x = 1\ny = 1 / 0", IMPORT + "ZeroDivisionError: division by zero (line 2 of mine.py)"),
        ("import no_such_thing", IMPORT + "ModuleNotFoundError: No module named 'no_such_thing' (line 1 of mine.py)"),
        ("def f(:\n", IMPORT + "SyntaxError: invalid syntax (mine.py, line 1)"),
        (
            "def problem():\n    x = []\n    return x[3]",
            "{ref} raised IndexError: list index out of range (line 3 of mine.py)",
        ),
        ("def problem(x): ...", "{ref} raised TypeError: problem() missing 1 required positional argument: 'x'"),
        (
            "import json\ndef problem():\n    return json.loads('')",
            "{ref} raised JSONDecodeError: Expecting value: line 1 column 1 (char 0) (line 3 of mine.py)",
        ),
        (
            "import torch\ndef problem():\n    return torch.nn.Linear(2, 2)(torch.zeros(3))",
            "{ref} raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x3 and 2x2) (line 3 of mine.py)",
        ),
        ("import ravine\ndef problem():\n    " + EMPTY, "{ref}: valid is empty"),
    ],
)
def test_what_is_wrong_with_a_task_file_is_said(folder: Path, text: str, message: str) -> None:
    file = folder / "mine.py"
    file.write_text(text)
    expected = message.format(file=file, ref=f"{file}:problem")
    found = said(lambda: ravine.task(f"{file}:problem"))
    assert found == expected
    if message.startswith(IMPORT):  # a file that could not be imported is read again
        file.write_text(OWN)
        assert ravine.task(f"{file}:problem").name == "mine"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no/such/file.py:problem", "there is no file no/such/file.py; a task of your own is written path/to/file.py"),
        (
            "no_such_package.x:problem",
            "module 'no_such_package.x' cannot be imported: it raised ModuleNotFoundError: No module named 'no_such_p",
        ),
        ("math:problem", "unknown function in math 'problem': did you mean"),
        (":problem", "':problem' names no task: write path/to/file.py:function or package.module:function"),
        ("file.py:", "'file.py:' names no task: write path/to/file.py:function or package.module:function"),
        ("math:pi", "math:pi must return a ravine.Task (see ravine.supervised), got float"),
    ],
)
def test_what_is_wrong_with_a_reference_is_said(reference: str, message: str) -> None:
    found = said(lambda: ravine.task(reference))
    assert found.startswith(message)
    assert "frozen" not in found


# ---------------------------------------------------------------- what a task is made of


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bare(name=""), "a task's name must be text, got ''"),
        (lambda: bare(name=3), "a task's name must be text, got 3"),
        (
            lambda: bare(model=nn.Linear(3, 1)),
            "task 'bare': model must be a function that builds a fresh model, got a L",
        ),
        (lambda: bare(model="mlp"), "task 'bare': model must be a function, got 'mlp'"),
        (lambda: bare(loss=None), "task 'bare': loss must be a function, got None"),
        (lambda: bare(metric=3), "task 'bare': metric must be a function, got 3"),
        (lambda: bare(size=8), "task 'bare': size must be a function, got 8"),
        (lambda: bare(forward="x"), "task 'bare': forward must be a function, got 'x'"),
        (lambda: bare(criterion=1.0), "task 'bare': criterion must be a function, got 1.0"),
        (lambda: bare(better="smaller"), "unknown direction of task 'bare' (better=) 'smaller': "),
        (
            lambda: bare(better="high"),
            "unknown direction of task 'bare' (better=) 'high': did you mean 'higher'? Allowed: higher, lower.",
        ),
        (lambda: bare(better=None), "unknown direction of task 'bare' (better=) 'None': "),
        (lambda: bare(goal="best"), "task 'bare': goal must be a number or none, got 'best'"),
        (lambda: bare(goal=math.nan), "task 'bare': goal must be a number, got nan"),
        (lambda: bare(batch_size=0), "task 'bare': batch_size must be a whole number from 1, got 0"),
        (lambda: bare(batch_size=8.0), "task 'bare': batch_size must be a whole number from 1, got 8.0"),
        (lambda: bare(batch_size=True), "task 'bare': batch_size must be a whole number from 1, got True"),
        (lambda: bare(batch_size=41), "task 'bare': batch_size=41 but train has 40 examples"),
        (
            lambda: bare(train=DataLoader(TensorDataset(X))),
            "train is a DataLoader, which shuffles by itself: give its dataset (train=loader.dataset) and ",
        ),
        (
            lambda: bare(train=Endless()),
            "train is an IterableDataset: wrap it as a function of a generator that yields batches",
        ),
        (lambda: bare(train=(X, Y[:7])), "the tensors of train have different lengths: 7, 40"),
        (
            lambda: bare(train=3),
            "train must be tensors, a dataset with len() and [i], or a function of a generator that yields ",
        ),
        (lambda: bare(train=(X[:0],)), "train is empty"),
        (lambda: bare(train=[]), "train is empty"),
        (
            lambda: ordinary(valid=DataLoader(TensorDataset(X, Y))),
            "valid is a DataLoader, which shuffles by itself: give its dataset (valid=loader.dataset)",
        ),
        (lambda: ordinary(valid=(X, Y[:9])), "the tensors of valid have different lengths: 9, 40"),
        (
            lambda: ordinary(valid=lambda draw: iter(())),
            "valid is judged from its first example to its last: give tensors or a dataset",
        ),
        (lambda: ordinary(test=(X[:0], Y[:0])), "test is empty"),
        (
            lambda: ordinary(metric="acuracy"),
            "unknown metric 'acuracy': did you mean 'accuracy'? Allowed: accuracy, error, loss, mae, mse. Or give a",
        ),
        (
            lambda: ordinary(metric=lambda outputs, targets: 1.0),
            "a metric of your own needs better='higher' or better='lower'",
        ),
        (lambda: ordinary(metric="loss", better="least"), "unknown direction of task 'signs' (better=) 'least'"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(make: Callable[[], Task], message: str) -> None:
    assert said(make).startswith(message)


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


def test_better_is_a_direction_and_nan_is_worse_than_anything() -> None:
    up, down = bare(better="higher"), bare(better="lower")
    assert (up.is_better(2, 1), up.is_better(1, 1), up.is_better(1, 2)) == (True, False, False)
    assert (down.is_better(2, 1), down.is_better(1, 1), down.is_better(1, 2)) == (False, False, True)
    for task in (up, down):
        assert task.is_better(5, math.nan)
        assert not task.is_better(math.nan, 5)
        assert not task.is_better(math.nan, math.nan)


def test_a_metric_has_a_name_for_tables() -> None:
    def recall(model: nn.Module, data: Any) -> float:
        return 1.0

    assert bare(metric=recall).metric_name == "recall"
    assert bare(metric_name="excess").metric_name == "excess"
    assert bare().metric_name == "metric"
    assert ordinary(metric="error").metric_name == "error"


def test_judging_leaves_the_modes_as_they_were_and_takes_no_gradients() -> None:
    seen = []

    def metric(model: nn.Module, data: Any) -> float:
        seen.append((model.training, model[1].training, torch.is_grad_enabled()))
        if data is None:
            raise KeyError("no data")
        return 1.0

    task = bare(metric=metric)
    model = nn.Sequential(nn.Linear(3, 1), nn.Dropout(), nn.BatchNorm1d(1)).train()
    model[1].eval()
    assert task.judge(model, X) == 1.0
    with pytest.raises(KeyError):
        task.judge(model, None)
    assert seen == [(False, False, False)] * 2
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_the_number_of_examples_of_a_batch() -> None:
    assert bare().examples((X[:5], Y[:7])) == 5
    assert bare().examples({"id": 3, "x": X[:6]}) == 6
    assert bare(size=lambda batch: batch["words"]).examples({"words": 77}) == 77
    assert said(lambda: bare().examples("text")) == "cannot tell the size of a batch of type str: give the task size="
    assert leading_size(torch.tensor(3.0)) is None


# ---------------------------------------------------------------- the ordinary task

CLASSES = "classes are judged on outputs (examples, classes) and targets (examples,), got "


def outputs_of(values: Tensor) -> nn.Module:
    """A model that gives the rows of `values` at the indices that are its inputs."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, index: Tensor) -> Tensor:
            return self.scale * values[index]

    return Table()


def judged(metric: Any, values: Tensor, targets: Tensor, **more: Any) -> float:
    index = torch.arange(len(values))
    task = ravine.supervised(
        name="judged", model=lambda: outputs_of(values), criterion=nn.functional.mse_loss, train=(index, targets),
        valid=(index, targets), metric=metric, batch_size=1, **more,
    )  # fmt: skip
    return task.judge(task.model(), task.valid)


def test_named_metrics_by_hand_and_over_ragged_batches() -> None:
    n = 1500  # judged in 1024 and 476
    right = torch.arange(n) < 1200
    targets = torch.arange(n) % 3
    scores = nn.functional.one_hot((targets + ~right) % 3, 3).float()
    assert judged("accuracy", scores, targets) == pytest.approx(0.8, abs=1e-15)
    assert judged("error", scores, targets) == pytest.approx(0.2, abs=1e-15)
    difference = torch.where(right, 0.5, -2.0)[:, None]
    assert judged("mse", difference, torch.zeros(n, 1)) == pytest.approx((1200 * 0.25 + 300 * 4) / n, rel=1e-14)
    assert judged("mae", difference, torch.zeros(n, 1)) == pytest.approx((1200 * 0.5 + 300 * 2) / n, rel=1e-14)
    assert judged("loss", difference, torch.zeros(n, 1)) == pytest.approx((1200 * 0.25 + 300 * 4) / n, rel=1e-6)


def test_which_way_a_named_metric_is_better() -> None:
    assert [ordinary(metric=name).better for name in ("accuracy", "error", "loss", "mse", "mae")] == [
        "higher", "lower", "lower", "lower", "lower"
    ]  # fmt: skip


def test_a_metric_of_ones_own_sees_everything_at_once() -> None:
    def worst(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().max()

    values = torch.linspace(0, 3, 1500)[:, None]
    assert judged(worst, values, torch.zeros(1500, 1), better="lower") == 3.0
    task = ordinary(metric=worst, better="lower")
    assert (task.metric_name, task.better) == ("worst", "lower")


@pytest.mark.parametrize(
    ("metric", "values", "targets", "message"),
    [
        ("accuracy", torch.zeros(4, 1), torch.zeros(4, 1), CLASSES + "outputs (4, 1) and targets (4, 1)"),
        ("accuracy", torch.zeros(4, 1), torch.zeros(4), CLASSES + "outputs (4, 1) and targets (4,)"),
        ("accuracy", torch.zeros(4), torch.zeros(4), CLASSES + "outputs (4,) and targets (4,)"),
        ("error", torch.zeros(4, 3), torch.zeros(4, 3), CLASSES + "outputs (4, 3) and targets (4, 3)"),
        ("mse", torch.zeros(4, 1), torch.zeros(4), "outputs (4, 1) and targets (4,) differ in shape"),
        ("mae", torch.zeros(4), torch.zeros(4, 1), "outputs (4,) and targets (4, 1) differ in shape"),
    ],
)
def test_shapes_that_would_broadcast_silently_are_refused(
    metric: str, values: Tensor, targets: Tensor, message: str
) -> None:
    assert said(lambda: judged(metric, values, targets)) == message


def test_classes_may_have_places() -> None:
    """Segmentation: outputs (examples, classes, height, width)."""
    targets = torch.randint(3, (5, 2, 2))
    scores = nn.functional.one_hot(targets, 3).permute(0, 3, 1, 2).float()
    assert judged("accuracy", scores, targets) == 1.0


# ---------------------------------------------------------------- batches

BINARY_SIZES = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(BINARY_SIZES, st.integers(0, 2**20), st.integers(0, 40))
def test_batches_are_full_and_an_epoch_takes_no_example_twice(sizes: tuple[int, int], seed: int, skip: int) -> None:
    n, size = sizes
    data = (torch.arange(n),)
    per_epoch = n // size
    drawn = [batch.tolist() for (batch,) in islice(batches(data, size, generator(seed)), 3 * per_epoch)]
    assert all(len(batch) == size for batch in drawn)
    for epoch in range(3):
        seen = [i for batch in drawn[epoch * per_epoch : (epoch + 1) * per_epoch] for i in batch]
        assert len(seen) == len(set(seen)) == per_epoch * size
    again = islice(batches(data, size, generator(seed), skip), 5)
    whole = islice(batches(data, size, generator(seed)), skip, skip + 5)
    assert [b.tolist() for (b,) in again] == [b.tolist() for (b,) in whole]


def test_each_epoch_has_an_order_of_its_own_and_reaches_every_example() -> None:
    epochs = list(islice(batches((torch.arange(50),), 50, generator(0, "shuffle")), 20))
    orders = {tuple(batch[0].tolist()) for batch in epochs}
    assert len(orders) == 20
    ragged = islice(batches((torch.arange(50),), 8, generator(0, "shuffle")), 60)
    assert {i for (batch,) in ragged for i in batch.tolist()} == set(range(50))


class Rows(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self) -> None:
        self.fetched: list[int] = []

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.fetched.append(i)
        return X[i], Y[i]


def test_every_form_of_the_same_data_gives_the_same_batches() -> None:
    subset, _ = random_split(TensorDataset(X, Y), [40, 0], torch.Generator())
    subset.indices = list(range(40))
    forms: dict[str, Any] = {
        "tuple": (X, Y), "list": [X, Y], "dict": {"x": X, "y": Y}, "TensorDataset": TensorDataset(X, Y),
        "Dataset": Rows(), "Subset": subset, "examples": [(X[i], Y[i]) for i in range(40)],
    }  # fmt: skip
    expected = list(islice(batches((X, Y), 7, generator(3)), 12))
    for name, form in forms.items():
        assert length(form) == 40, name
        found = list(islice(batches(form, 7, generator(3)), 12))
        for batch, (x, y) in zip(found, expected, strict=True):
            a, b = batch.values() if isinstance(batch, dict) else batch
            assert torch.equal(a, x), name
            assert torch.equal(b, y), name


def test_batches_that_are_skipped_are_not_fetched() -> None:
    rows = Rows()
    next(batches(rows, 8, generator(0), skip=9))
    assert len(rows.fetched) == 8


def test_data_without_an_end_are_drawn_from_the_generator() -> None:
    def draw(chance: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield torch.rand(3, generator=chance)

    assert length(draw) is None
    whole = torch.stack(list(islice(batches(draw, 3, generator(1)), 6)))
    torch.testing.assert_close(torch.stack(list(islice(batches(draw, 3, generator(1), 2), 4))), whole[2:])
    assert not torch.equal(next(batches(draw, 3, generator(2))), whole[0])


def test_a_draw_that_ends_is_told_to_go_on() -> None:
    source = batches(lambda chance: iter([X, X]), 8, generator(0))
    assert len(list(islice(source, 2))) == 2
    assert said(lambda: next(source)) == (
        "train gave 2 batches and ended: a function that draws batches goes on (while True: ...)"
    )
    assert "train gave 0 batches and ended" in said(lambda: dry_run(bare(train=lambda chance: iter([]))))


def test_in_order_goes_through_everything_once() -> None:
    assert [x.tolist() for (x,) in in_order((torch.arange(7),), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [x.tolist() for x, _ in in_order(Rows(), 30)] == [X[:30].tolist(), X[30:].tolist()]
    assert torch.equal(picker({"x": X})(torch.tensor([3, 1]))["x"], X[[3, 1]])


def test_data_move_to_a_device_inside_their_containers() -> None:
    meta = torch.device("meta")
    moved = to({"a": (X, [Y, "text"]), "b": 3}, meta)
    assert moved["a"][0].device == moved["a"][1][0].device == meta
    assert (moved["a"][1][1], moved["b"]) == ("text", 3)
    rows = Rows()
    assert to(rows, meta) is rows


# ---------------------------------------------------------------- one dry batch


def test_a_dry_run_tells_size_and_fingerprint() -> None:
    found = dry_run(ordinary())
    assert found.parameters == 8
    assert found == dry_run(ordinary())
    fingerprints = {
        dry_run(task).fingerprint
        for task in (
            ordinary(),
            ordinary(model=lambda: nn.Linear(3, 2, bias=False)),
            ordinary(train=(X + 1e-6, Y)),
            ordinary(valid=(-X, Y)),
            ordinary(criterion=nn.MultiMarginLoss()),
            ordinary(batch_size=9),
            ordinary(metric="error"),
        )
    }
    assert len(fingerprints) == 7


def test_a_dry_run_leaves_the_callers_chance_alone() -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    expected = (torch.rand(1), np.random.rand(), random.random())  # noqa: NPY002
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    dry_run(ordinary())
    said(lambda: dry_run(ordinary(criterion=lambda output, target: None)))
    assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002


def broken(*_: Any) -> Any:
    raise OSError("no such thing")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ordinary(model=broken), "task 'signs': building the model failed with OSError: no such thing"),
        (lambda: ordinary(model=lambda: 3), "task 'signs': model() must return an nn.Module, got int"),
        (
            lambda: ordinary(model=lambda: nn.Linear(3, 2).requires_grad_(False)),
            "task 'signs': the model has no trainable parameters",
        ),
        (lambda: ordinary(model=nn.ReLU), "task 'signs': the model has no trainable parameters"),
        (lambda: bare(train=lambda draw: broken()), "task 'bare': drawing a batch failed with OSError: no such thing"),
        (lambda: bare(train=[3, X[0]] * 20), "task 'bare': drawing a batch failed with "),
        (
            lambda: bare(size=lambda batch: broken()),
            "task 'bare': counting its examples failed with OSError: no such thing",
        ),
        (
            lambda: bare(train=["text"] * 9),
            "task 'bare': counting its examples failed: cannot tell the size of a batch of type list: give ",
        ),
        (
            lambda: ordinary(model=lambda: nn.Linear(4, 2)),
            "task 'signs': the loss of one batch failed with RuntimeError: mat1 and mat2 shapes cannot be ",
        ),
        (lambda: ordinary(criterion=nn.MSELoss()), "task 'signs': the loss of one batch failed with "),
        (
            lambda: ordinary(criterion=nn.CrossEntropyLoss(reduction="none")),
            "task 'signs': the loss of one batch must be a scalar tensor, got a tensor of shape (8,)",
        ),
        (
            lambda: bare(loss=lambda model, batch: model(batch[0]).mean(0)),
            "task 'bare': the loss of one batch must be a scalar tensor, got a tensor of shape (1,)",
        ),
        (
            lambda: ordinary(criterion=lambda output, target: 1.0),
            "task 'signs': the loss of one batch must be a scalar tensor, got float",
        ),
        (
            lambda: bare(loss=lambda model, batch: batch[0].mean()),
            "task 'bare': the loss reaches no parameter of the model",
        ),
        (
            lambda: bare(loss=lambda model, batch: model(batch[0]).mean().detach()),
            "task 'bare': the loss reaches no parameter of the model",
        ),
        (
            lambda: bare(loss=lambda model, batch: batch[0].requires_grad_().mean()),
            "task 'bare': the loss reaches no parameter of the model",
        ),
        (
            lambda: bare(loss=lambda model, batch: Hopeless.apply(model.weight)),
            "task 'bare': its gradient failed with OSError: no gradient",
        ),
        (lambda: bare(metric=broken), "task 'bare': the metric on valid failed with OSError: no such thing"),
        (lambda: bare(metric=lambda model, data: None), "task 'bare': the metric on valid failed with TypeError: "),
        (
            lambda: ordinary(metric="mse"),
            "task 'signs': the metric on valid failed: outputs (40, 2) and targets (40,) differ in shape",
        ),
        (
            lambda: ordinary(valid=(X[:, :2], Y)),
            "task 'signs': the metric on valid failed with RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
    ],
)
def test_a_dry_run_names_the_stage_that_failed(make: Callable[[], Task], message: str) -> None:
    assert said(lambda: dry_run(make())).startswith(message)


class Hopeless(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise OSError("no gradient")


def test_batches_of_sparse_and_low_precision_tensors_have_a_fingerprint() -> None:
    values = [torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.bfloat16), torch.tensor(True), [], "text", {"a": X}]
    assert hash_tensors(values) == hash_tensors([torch.eye(3), *values[1:]])
    assert hash_tensors([X]) != hash_tensors([X.flatten()]) != hash_tensors([X.double()])


# ---------------------------------------------------------------- the check for users' own


def test_a_task_that_is_not_reproducible_is_found() -> None:
    def draw(chance: torch.Generator) -> Iterator[tuple[Tensor]]:
        while True:
            yield (torch.from_numpy(np.random.default_rng().normal(size=(8, 3))).float(),)

    with pytest.raises(AssertionError, match=r"^task 'bare' computes other numbers from the same seed: draw"):
        check_task(bare(train=draw))


def test_a_loss_that_is_not_its_two_parts_is_found() -> None:
    parts = {"forward": lambda model, batch: model(batch[0]), "criterion": lambda outputs, batch: outputs.mean()}
    with pytest.raises(AssertionError, match=r"^task 'bare' loss is .*, but criterion\(forward\(\.\.\.\)\) is "):
        check_task(bare(**parts))
    parts["criterion"] = lambda outputs, batch: outputs.square().mean()
    assert check_task(bare(**parts)) == dry_run(bare(**parts))


def test_a_task_whose_test_set_does_not_fit_is_found() -> None:
    with pytest.raises(RavineError, match=r"the metric on test failed.*mat1 and mat2 shapes cannot be multiplied"):
        check_task(ordinary(test=(X[:, :2], Y)))
