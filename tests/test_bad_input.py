"""Whatever a user can get wrong: a clear error before anything runs, and nothing lost by what goes wrong later.

Commands run in this process through the real entry point. Their trials come from one fork server that all tests of
this file share, since each would otherwise wait four seconds for torch to be loaded again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Done, run

import ravine
from ravine.core.record import read
from ravine.racing import server


@pytest.fixture(scope="module")
def one_server():
    return server.start("quadratic")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, one_server):
    """Every test stands in a folder of its own; races take the shared fork server."""
    monkeypatch.setattr(server, "start", lambda source: one_server)
    monkeypatch.setattr(server, "start_early", lambda source: None)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys, monkeypatch):
    """`ravine` with these arguments: its exit status, standard output, and standard error in one line."""

    return lambda *arguments: run(capsys, monkeypatch, *arguments).said


def contents(folder: Path) -> dict[str, int]:
    """Every file and folder below, with when it was last written; without what Python itself leaves."""
    found = (p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns if p.is_file() else 0 for p in found}


@pytest.fixture
def refused(command, tmp_path):
    """Runs the command and checks that it is refused: status 2, the message, no output, no file changed or made."""

    def run(*arguments, says: str, json=True) -> None:
        before = contents(tmp_path)
        status, out, err = command(*arguments, *(["--json"] if json else []))
        assert status == 2, err
        assert says in err
        assert out == ""
        assert "Traceback" not in err
        assert contents(tmp_path) == before

    return run


# names, values and specs

SPECS = {
    "adamm": "unknown optimizer 'adamm': did you mean 'adam'? Allowed: a",
    "adam(bta1=0.9)": "unknown argument of optimizer 'adam' 'bta1': did you mean 'beta1'? Allowed: beta1, beta2, eps,",
    "sgd(lrr=0.1)": "unknown argument of optimizer 'sgd' 'lrr': did you mean 'lr'? Allowed: lr",
    "adamw(lrr=0.1)": "unknown argument of optimizer 'adamw' 'lrr': did you mean 'lr'?",
    "adamw(weight_decai=1)": "'weight_decai': did you mean 'weight_decay'?",
    "sgd @ cosin()": "unknown schedule 'cosin': did you mean 'cosine'? Allowed: constant, cosine, exponential,",
    "sgd @ cosine(finl=0)": "unknown argument of schedule 'cosine' 'finl': did you mean 'final'?",
    "hiden: adam; rest: sgd": "unknown role 'hiden': did you mean 'hidden'?",
    "adam; sgd": "'adam; sgd' has several groups: each needs a role",
    "bias: adam; bias: sgd": "gives the role 'bias' twice",
    "decay": "'decay' only changes another rule's step: chain it to one, as in 'sgd + decay'",
    "adam(beta1=1.5)": "adam: beta1 must be in [0, 1), got 1.5",
    "adam(eps='small')": "adam: eps must be a number, got 'small'",
    "adam(lr=-1)": "adam: lr must be in [0, inf), got -1",
    "sgd(lr=0.1) + decay(lr=0.2)": "gives lr twice",
    "sgd @ linear(final=-1)": "linear: final must be in [0, inf), got -1",
    "sgd @ warmup(steps=0.5)": "warmup: steps must be a whole number, got 0.5",
    "adam((lr=1)": "found '(' at position 5 of the spec adam((lr=1) ^",
    "adam(lr=abc)": "expected a number, true, false, none or 'text' (text needs quotes: 'abc'), found 'abc' at",
    "adam(lr=0.1, lr=0.2)": "'lr' is given twice at position 13 of the spec",
    "adam(lr=0.1": "at position 11 of the spec",
    "sgd & adam": "unexpected '&' at position 4 of the spec",
    "": "found the end at position 0 of the spec",
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_that_means_nothing(refused, spec):
    refused("train", "quadratic", "--optimizer", spec, "--out", "new", says=SPECS[spec])
    refused("race", "quadratic", "--optimizers", spec, "--out", "new", says=SPECS[spec])


def test_the_position_in_a_list_of_specs_is_that_in_the_list(refused):
    refused("race", "quadratic", "--optimizers", "sgd, adam(lr=abc)", says="found 'abc' at position 13 of the spec")


@pytest.mark.parametrize("optimizers", ["sgd, sgd", "sgd(lr=0.1), sgd(lr=0.2)", "a=sgd, a=adam"])
def test_competitors_of_one_name(refused, optimizers):
    name = optimizers.split("=" if optimizers.startswith("a") else ",")[0].split("(")[0]
    says = f"two competitors are called '{name}': give each a label, as in a="
    refused("race", "quadratic", "--optimizers", optimizers, "--out", "new", says=says)


@pytest.mark.parametrize("what", ["race", "train"])
def test_an_unknown_task(refused, what):
    says = "unknown task 'digit-mlp': did you mean 'digits-mlp'? Allowed: "
    refused(what, "digit-mlp", "--out", "new", says=says)
    refused(what, "digit-mlp", says="Or a problem of your own: path/to/file.py:function or package.module:function")


def test_an_unknown_probe(refused):
    says = "unknown probe 'gradnorm': did you mean 'grad_norm'? Allowed: grad_norm, update_ratio"
    refused("train", "quadratic", "--probe", "gradnorm", "--out", "new", says=says)


def test_an_unknown_data_set(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("RAVINE_DATA", str(tmp_path / "cache"))
    says = "unknown data set 'fashon_mnist': did you mean 'fashion_mnist'? Allowed: animal_mnist,"
    refused("data", "fetch", "fashon_mnist", says=says, json=False)


def test_unknown_words_of_the_command_line(refused):
    refused("list", "optimisers", says="is not one of 'tasks', 'optimizers', 'schedules', 'probes'")
    refused("trian", "quadratic", says="No such command 'trian'. Did you mean 'train'")
    refused("race", "quadratic", "--step", "5", says="--step")
    refused("race", says="Missing argument")


NUMBERS = [
    *(
        (f"--{name}", value, f"{name} must be in [1, inf), got {value}")
        for name in ("steps", "seeds")
        for value in (0, -3)
    ),
    *(
        (f"--{name}", value, f"{name} must be in [1, inf), got {value}")
        for name in ("points", "workers")
        for value in (0, -3)
    ),
    *((f"--{name}", "many", f"Invalid value for '--{name}'") for name in ("steps", "seeds", "points", "workers")),
    ("--steps", 1.5, "Invalid value for '--steps'"),
    ("--seed", -1, "seed must be in [0, inf), got -1"),
    ("--every", 0, "every must be in [1, 1000], got 0"),
    ("--every", 1001, "every must be in [1, 1000], got 1001"),
    ("--goal", "nan", "goal must be in (-inf, inf), got nan"),
    ("--goal", "inf", "goal must be in (-inf, inf), got inf"),
    ("--goal", "high", "Invalid value for '--goal'"),
    ("--time-limit", 0, "time_limit must be in (0, inf), got 0.0"),
    ("--memory-limit", -5, "memory_limit must be in (0, inf), got -5.0"),
]


@pytest.mark.parametrize(("option", "value", "says"), NUMBERS)
def test_a_race_of_impossible_numbers(refused, option, value, says):
    refused("race", "quadratic", "--out", "new", option, value, says=says)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--steps", 0, "steps must be in [1, inf), got 0"),
        ("--steps", -1, "steps must be in [1, inf), got -1"),
        ("--steps", "many", "Invalid value for '--steps'"),
        ("--every", 0, "every must be in [1, inf), got 0"),
        ("--seed", -1, "seed must be in [0, inf), got -1"),
        ("--patience", 0, "patience must be in [1, inf), got 0"),
    ],
)
def test_a_run_of_impossible_numbers(refused, option, value, says):
    refused("train", "quadratic", "--out", "new", option, value, says=says)


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_a_device_that_does_not_exist(refused, device):
    for what in ("train", "race"):
        refused(what, "quadratic", "--device", device, "--out", "new", says=f"device '{device}' cannot be used here (")
        refused(what, "quadratic", "--device", device, says="try 'cpu'")


# a task of the user's own

TASKS = """
    import sys, torch, ravine
    from torch import nn

    x, y = torch.randn(40, 3), torch.zeros(40, dtype=torch.long)

    def made(**changes):
        given = dict(name="mine", model=lambda: nn.Linear(3, 2), train=(x, y), valid=(x, y), batch_size=8)
        return ravine.supervised(**{"criterion": nn.CrossEntropyLoss()} | given | changes)

    def raises(): raise KeyError("spam")
    def number(): return 3
    def nothing(): pass
    def greedy(wanted): return wanted
    def shapes(): return made(model=lambda: nn.Linear(5, 2))
    def classes(): return made(train=(x, y + 7))
    def judged_shapes(): return made(valid=(torch.randn(4, 9), y[:4]))
    def one_model(): return made(model=nn.Linear(3, 2))
    def no_model(): return made(model=lambda: 5)
    def broken_model(): return made(model=lambda: nn.Linear("three", 2))
    def vector(): return made(criterion=lambda o, y: o.sum(1))
    def apart(): return made(criterion=lambda o, y: torch.zeros((), requires_grad=True))
    def frozen(): return made(model=lambda: nn.Linear(3, 2).requires_grad_(False))
    def metric(): return made(metric="accurracy")
    def own_metric(): return made(metric=lambda o, y: 0.0)
    def batch(): return made(train=(x[:5], y[:5]))
    def lengths(): return made(train=(x, y[:5]))
    def empty(): return made(train=(x[:0], y[:0]))
    def loader(): return made(train=torch.utils.data.DataLoader([1, 2, 3]))
    def unnamed(): return made(name="")
"""
WRONG_TASKS = {
    "raises": "mine.py:raises raised KeyError: 'spam' (line 11 of mine.py)",
    "number": "mine.py:number must return a ravine.Task (see ravine.supervised), got int",
    "nothing": "mine.py:nothing must return a ravine.Task (see ravine.supervised), got NoneType",
    "greedy": "greedy() missing 1 required positional argument: 'wanted'",
    "shape": "unknown function in mine.py 'shape': did you mean 'shapes'?",
    "shapes": "task 'mine': the loss of one batch failed with RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    "classes": "task 'mine': the loss of one batch failed with IndexError: Target 7 is out of bounds",
    "judged_shapes": "task 'mine': the metric on valid failed with RuntimeError: mat1 and mat2 shapes cannot be",
    "one_model": "task 'mine': model must be a function that builds a fresh model, got a Linear: write",
    "no_model": "task 'mine': model() must return an nn.Module, got int",
    "broken_model": "task 'mine': building the model failed with TypeError",
    "vector": "task 'mine': the loss of one batch must be a scalar tensor, got a tensor of shape (8,)",
    "apart": "task 'mine': the loss reaches no parameter of the model",
    "frozen": "task 'mine': the model has no trainable parameters",
    "metric": "unknown metric 'accurracy': did you mean 'accuracy'?",
    "own_metric": "a metric of your own needs better='higher' or better='lower'",
    "batch": "task 'mine': batch_size=8 but train has 5 examples",
    "lengths": "the tensors of train have different lengths: 5, 40",
    "empty": "train is empty",
    "loader": "train is a DataLoader, which shuffles by itself: give its dataset",
    "unnamed": "a task's name must be text",
}


@pytest.fixture
def mine(tmp_path):
    """A user's file of tasks. Text is written to it with the indentation taken out."""

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return name

    return write


@pytest.mark.parametrize("function", WRONG_TASKS)
@pytest.mark.parametrize("what", ["train", "race"])
def test_a_task_that_cannot_be_trained_on(refused, mine, what, function):
    refused(what, f"{mine(TASKS)}:{function}", "--out", "new", says=WRONG_TASKS[function])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "import ravine\nraise RuntimeError('half written')",
            "it raised RuntimeError: half written (line 2 of mine.py)",
        ),
        ("def task(:", "mine.py cannot be imported: it raised SyntaxError: "),
        ("import no_such_thing", "it raised ModuleNotFoundError: No module named 'no_such_thing' (line 1 of mine.py)"),
    ],
)
def test_a_task_file_that_cannot_be_imported(refused, mine, text, says):
    for what in ("train", "race"):
        refused(what, f"{mine(text)}:task", "--out", "new", says=says)


@pytest.mark.parametrize("what", ["train", "race"])
def test_a_task_file_that_is_not_there(refused, what):
    says = "there is no file nowhere.py; a task of your own is written path/to/file.py:function"
    refused(what, "nowhere.py:task", "--out", "new", says=says)
    refused(
        what, "no.such.module:task", says="module 'no.such.module' cannot be imported: it raised ModuleNotFoundError"
    )
    refused(what, ":task", says="':task' names no task: write path/to/file.py:function or package.module:function")


def test_a_role_that_the_model_does_not_have(refused):
    says = "no parameter of this model has the role 'hidden'; its roles are bias"
    refused("train", "quadratic", "--optimizer", "hidden: adam; rest: sgd", "--out", "new", says=says)
    refused("race", "quadratic", "--optimizers", "a=hidden: adam; rest: sgd", "--out", "new", says=says)


def test_from_python_the_same_errors_are_exceptions(tmp_path):
    task = ravine.task("quadratic")
    for arguments, says in [
        ((3, ["sgd"]), "race needs a ravine.Task, a task's name or file.py:function, got int"),
        ((task, []), "a race needs at least one optimizer"),
        ((task, [ravine.rules.Adam()]), "a competitor is a spec such as 'adam(lr=0.001)', got Adam("),
        ((task, ["sgd", "adamm"]), "did you mean 'adam'?"),
    ]:
        with pytest.raises(ravine.RavineError) as error:
            ravine.race(*arguments, out=tmp_path / "new")
        assert says in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Two races of task files that break as they are loaded, each in a process and with a fork server of its own."""
    texts = {"raises": "import ravine\nraise RuntimeError('half written')", "exits": "import os\nos._exit(7)"}
    running = {}
    for name, text in texts.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "mine.py").write_text(text)
        command = [sys.executable, "-m", "ravine", "race", "mine.py:task", "--out", "new", "--json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running[name] = folder, subprocess.Popen(command, cwd=folder, **pipes)
    found = {}
    for name, (folder, process) in running.items():
        out, err = process.communicate(timeout=120)
        found[name] = Done(process.returncode, out, err), contents(folder)
    return found


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raises", "error: mine.py cannot be imported: it raised RuntimeError: half written (line 2 of mine.py)"),
        ("exits", "error: trying the task once ended the process: the process ended by itself with exit code 7"),
    ],
)
def test_a_task_file_that_breaks_the_fork_server_that_loads_it(bare, how, says):
    (status, out, err), files = bare[how]
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == says
    assert "Traceback" not in err
    assert list(files) == ["mine.py"]


@pytest.mark.parametrize("what", ["train", "race"])
def test_a_task_file_that_is_a_script_and_exits(refused, mine, what):
    refused(
        what,
        f"{mine('import sys; sys.exit(4)')}:task",
        "--out",
        "new",
        says="it raised SystemExit: 4 (line 1 of mine.py)",
    )


# folders

SMALL = ["quadratic", "--optimizers", "sgd,adam", "--goal", "1", "--points", "2", "--seeds", "2", "--steps", "40"]


@pytest.fixture(scope="module")
def small(tmp_path_factory, one_server):
    """The folder of the race that `SMALL` runs."""
    folder = tmp_path_factory.mktemp("small") / "race"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "start", lambda source: one_server)
        ravine.race("quadratic", "sgd,adam", goal=1, points=2, seeds=2, steps=40, out=folder)
    return folder


@pytest.fixture
def raced(small, tmp_path):
    """A finished race in the folder `race`."""
    shutil.copytree(small, tmp_path / "race")
    return Path("race")


def test_a_folder_that_holds_another_race(refused, raced):
    other = [*SMALL[:-1], "60", "--out", raced]
    refused(
        "race",
        *other,
        says="race holds another race (settings.steps is 40, not 60): choose another --out, or remove it",
    )
    other = ["quadratic", "--optimizers", "sgd", *SMALL[3:], "--out", raced]
    refused("race", *other, says="race holds another race (optimizers.adam is {'spec': 'adam'")
    refused("race", *SMALL, "--seed", "1", "--out", raced, says="seeds.runs is [")
    refused("train", "quadratic", "--steps", "40", "--out", raced, says="race holds a race: choose another --out")


def test_a_folder_whose_plan_is_damaged(refused, raced):
    plan = raced / "plan.json"
    plan.write_text(plan.read_text()[:-20])
    refused("race", *SMALL, "--out", raced, says="plan.json is not JSON: ")


def test_a_folder_that_holds_another_run(refused, command):
    assert command("train", "quadratic", "--steps", "20", "--out", "run").status == 0
    says = "run holds another run (steps is 20, not 30): choose another --out, or remove the folder"
    refused("train", "quadratic", "--steps", "30", "--out", "run", says=says)


def test_a_race_in_the_folder_of_a_run(refused, command):
    assert command("train", "quadratic", "--steps", "20", "--out", "run").status == 0
    refused("race", *SMALL, "--out", "run", says="run holds something else than this race")


def test_a_folder_below_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused("race", *SMALL, "--out", "file/race", says="cannot write to file/race: Not a directory")
    refused("train", "quadratic", "--out", "file/run", says="cannot write to file/run: Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    refused("race", *SMALL, "--out", "locked/race", says="cannot write to locked/race: Permission denied")
    refused("train", "quadratic", "--out", "locked/run", says="cannot write to locked/run: Permission denied")


@contextmanager
def disk(folder: Path, kilobytes: int):
    """A disk of that size in `folder`."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


FULL = "the disk is full. Make room, or choose another --out"


def test_a_disk_that_is_full_before_the_race(command, tmp_path):
    with disk(tmp_path / "disk", 40):
        status, out, err = command("race", *SMALL, "--json", "--out", "disk/race")
        assert (status, out) == (2, "")
        assert f"cannot write to disk/race: {FULL}" in err


def test_finding_a_disk_full_does_not_fill_it(command, tmp_path):
    with disk(tmp_path / "disk", 40):
        assert command("race", *SMALL, "--out", "disk/race").status == 2
        assert not [path for path in (tmp_path / "disk").rglob("*") if path.is_file() and path.stat().st_size]


def test_a_disk_that_fills_up_loses_no_finished_trial(command, tmp_path):
    long = ["quadratic", "--optimizers", "sgd(lr=0.1)", "--goal", "1", "--seeds", "4", "--steps", "500", "--every", "1"]
    with disk(tmp_path / "disk", 400):  # a record of 501 rows takes about 100 kB
        status, out, err = command("race", *long, "--json", "--out", "disk/race")
        assert (status, out) == (1, "")
        assert f"cannot write to disk/race: {FULL}, then run the same command again" in err
        kept = {
            path.name: path.read_bytes() for path in Path("disk/race/records").glob("*.jsonl") if read(path).finished
        }
        assert kept
        subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path / "disk")], check=True)
        assert command("race", *long, "--json", "--out", "disk/race").status == 0
        assert {name: Path("disk/race/records", name).read_bytes() for name in kept} == kept


def test_a_disk_that_fills_up_while_the_index_is_written(command, tmp_path):
    with disk(tmp_path / "disk", 72):
        status, out, err = command("race", *SMALL, "--json", "--out", "disk/race")
        assert (status, out) == (1, "")
        assert f"cannot write to disk/race: {FULL}, then run the same command again" in err


def test_a_disk_that_is_too_small_for_a_run(command, tmp_path):
    with disk(tmp_path / "disk", 40):
        status, out, err = command("train", "quadratic", "--every", "1", "--out", "disk/run", "--json")
        assert status in (1, 2)
        assert out == ""
        assert "cannot write to disk/run: No space left on device. Nothing written before is lost" in err


# reports of what is no race


def test_a_report_of_nothing(refused, raced):
    refused(
        "report",
        "rase",
        says="there is no folder 'rase': did you mean 'race'? Give the folder that `ravine race` wrote",
    )
    refused("report", raced / "plan.json", says="is a file: give the folder that `ravine race` wrote")
    refused("report", ".", says="'.' is not a race's folder, it holds no plan.json: the races in it are race")
    refused("report", raced / "records", "--best", says="is not a race's folder, it holds no plan.json")


def test_a_report_of_an_unfinished_race(refused, raced):
    (raced / "verdict.json").unlink()
    (raced / "report.html").unlink()
    count = len(list((raced / "records").glob("*.jsonl")))
    says = f"the race in race has not finished: {count} trials are recorded; run the same command again to finish it"
    refused("report", raced, says=says)
    refused("report", raced, "--best", says=says)


def test_a_report_of_a_damaged_verdict(refused, raced):
    (raced / "verdict.json").write_text("{}")
    refused("report", raced, says="verdict.json has no 'task'")
    (raced / "verdict.json").write_text("[1")
    refused("report", raced, says="verdict.json is not JSON")


# after the first trial

MISBEHAVING = """
    import os, threading, time, torch, ravine
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.zeros(()))
            self.steps = 0

    def loss(model, batch):
        # The slope is 1, so x / steps tells which optimizer this is; all behave until the dry run is over.
        lr = round(-model.x.item() / model.steps) if model.steps else 0
        model.steps += 1
        if model.steps > 9:
            if lr == 2: os._exit(7)
            if lr == 3: raise ValueError("spam\\nand eggs")
            if lr == 4: time.sleep(60)
            if lr == 5: kept = torch.ones(120_000_000); time.sleep(60)
            if lr == 6: torch.empty(10**15)
            if lr == 7: return model.x * float("nan")
            if lr == 8: return model.x * float("inf")
        if lr == 1 and model.steps == 12: threading.Thread(target=time.sleep, args=(60,)).start()
        return model.x + 0.001 * batch.mean()

    def task():
        def draw(generator):
            while True: yield torch.randn(4, generator=generator)
        return ravine.Task(name="mine", model=Model, loss=loss, train=draw, valid=(), metric=lambda m, d: m.x.item(),
                           metric_name="x", better="lower", batch_size=4, goal=-18.0)
"""
WAYS = {
    "good": (9, "done", ""),
    "lingers": (1, "done", ""),
    "exits": (2, "failed", r"the process ended by itself with exit code 7"),
    "raises": (3, "failed", r"ValueError: spam"),
    "hangs": (4, "failed", r"time limit: not done after 2 s"),
    "grows": (5, "failed", r"memory limit: \d+ MB of 500 MB"),
    "greedy": (6, "failed", r"out of memory \(RuntimeError: .*allocate.*\)"),
    "nan": (7, "diverged", ""),
    "inf": (8, "diverged", ""),
}


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory, one_server):
    """A race in which nearly every optimizer goes wrong in its own way: its verdict, and its folder."""
    folder = tmp_path_factory.mktemp("misbehaved")
    (folder / "mine.py").write_text(textwrap.dedent(MISBEHAVING))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "start", lambda source: one_server)
        verdict = ravine.race(
            f"{folder / 'mine.py'}:task",
            [f"{name}=sgd(lr={lr})" for name, (lr, _, _) in WAYS.items()],
            steps=20, every=2, seeds=2, time_limit=2, memory_limit=500, workers=4, out=folder / "race",
        )  # fmt: skip
    return verdict, folder / "race"


def test_a_race_goes_on_whatever_its_trials_do(misbehaved):
    verdict, folder = misbehaved
    assert verdict["sentence"].startswith("On mine, good reached x -18 with the least work: 2 gradient evaluations")
    assert verdict["ranking"][:2] == ["good", "lingers"]
    for name, (_, status, _) in WAYS.items():
        entry = verdict["optimizers"][name]
        assert entry["success_rate"] == (status == "done")
        assert (entry["diverged"], entry["failed"]) == (2 * (status == "diverged"), 2 * (status == "failed"))
    assert (folder / "report.html").exists()
    gates = {gate["name"]: gate for gate in verdict["gates"]}
    assert gates["share of runs that diverged"]["detail"] == "6 of 28 (21%), 15 failed"


@pytest.mark.parametrize("name", WAYS)
def test_what_went_wrong_is_recorded_after_one_retry(misbehaved, name):
    verdict, folder = misbehaved
    _, status, reason = WAYS[name]
    records = [read(path) for path in (folder / "records").glob("*.jsonl")]
    mine = [record for record in records if record.header["optimizer"] == name]
    assert len(mine) == 3 + (name == "good")  # one point tried, two reruns, and the winner's twin
    for record in mine:
        assert record.status == status
        assert re.fullmatch(reason, record.end.get("reason", ""))
        assert record.end["observed"]["attempts"] == (2 if status == "failed" else 1)
        reached = record.column("work")
        if status == "done":
            assert reached[-1] == 20
        elif status == "diverged":
            assert reached[-1] == 10  # the first evaluation after the step that went wrong
            assert record.rows[-1]["metric"] is None
        else:
            assert reached == sorted(set(reached)), "the rows of the first attempt are not kept beside the second's"
            assert reached[-1] == 8
    if status == "failed":
        notes = " ".join(verdict["notes"])
        assert re.search(f"runs of {name} failed and count as not reaching the goal: {reason}", notes)


def test_a_race_in_which_nothing_works_ends_and_says_so(command, mine):
    mine(MISBEHAVING)
    status, out, err = command(
        "race", "mine.py:task", "--optimizers", "raises=sgd(lr=3), nan=sgd(lr=7)", "--steps", "20", "--every", "2",
        "--seeds", "2", "--out", "race", "--json",
    )  # fmt: skip
    assert status == 0, err
    verdict = json.loads(out)
    assert verdict["sentence"].startswith("No optimizer reached x -18 on mine in half of its runs")
    assert verdict["pairs"][0]["verdict"] == "not enough runs"


def test_a_task_that_no_reference_can_train_has_no_goal(command, mine):
    mine(TASKS + "    def lost(): return made(metric=lambda o, y: float('nan'), better='lower')\n")
    status, out, err = command(
        "race",
        "mine.py:lost",
        "--optimizers",
        "sgd",
        "--points",
        "1",
        "--seeds",
        "2",
        "--steps",
        "5",
        "--out",
        "race",
        "--json",
    )
    assert (status, out) == (1, "")
    assert "no reference optimizer trained at all, so there is no goal: give one with --goal" in err


# damaged records


def test_damaged_records_are_named_set_aside_and_redone(command, raced):
    before = json.loads((raced / "verdict.json").read_text())
    kept = {path.name: path.read_bytes() for path in sorted((raced / "records").glob("*.jsonl"))}
    altered, garbled, exchanged, cut, emptied, *whole = list(kept)
    good = {name: (raced / "records" / name).stat().st_mtime_ns for name in whole}

    def write(name, content):
        (raced / "records" / name).write_bytes(content)

    write(altered, kept[altered].replace(b'"step": 0', b'"step": 1', 1))
    write(garbled, b"\xff\x00 nothing\n" + kept[garbled])
    write(exchanged, kept[whole[0]])
    write(cut, kept[cut][:-30])  # cut off by a kill: nothing is wrong with it, it is only not finished
    write(emptied, b"")
    status, out, err = command("race", *SMALL, "--out", raced, "--json")
    assert status == 0
    after = json.loads(out)
    reasons = {
        altered: "the checksum of its closing row does not match",
        garbled: "line 1 is no row of a record",
        exchanged: "its header does not belong to its name",
    }
    for name, reason in reasons.items():
        (note,) = (said for said in after["notes"] if f"records/{name}: {reason}" in said)
        assert note.endswith("; it was set aside in damaged/ and the trial is run again")
        assert note in err
    assert {path.name for path in (raced / "records" / "damaged").iterdir()} == set(reasons)
    for key in ("goals", "pairs", "ranking", "sentence"):
        assert after[key] == before[key]
    for name in kept:
        assert read(raced / "records" / name).rows
        assert read(raced / "records" / name).finished
    assert {name: (raced / "records" / name).stat().st_mtime_ns for name in whole} == good
