"""Surfaces against closed forms, trajectories of every rule, and what is written of them."""

import importlib.util
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image, ImageColor
from torch import Tensor

import ravine
from ravine import rules, surfaces
from ravine.core.rule import Rule
from ravine.core.spec import parse
from ravine.report.palette import LIGHT
from ravine.surfaces.definition import Surface
from ravine.surfaces.grid import CONTOURS, grid, levels
from ravine.surfaces.page import MOST_POINTS, page
from ravine.surfaces.scale import crossing, loss_limits
from ravine.surfaces.trajectory import RATES, Trajectory, trajectories

ALL = [surfaces.find(name) for name in surfaces.SURFACES]
NAMED = pytest.mark.parametrize("ground", ALL, ids=lambda ground: ground.name)


def bowl(x, y):
    """A bowl."""
    return x**2 + 4 * y**2


def value(ground: Surface, x: float, y: float) -> tuple[float, list[float]]:
    point = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, y)]
    loss = ground(*point)
    return loss.item(), [slope.item() for slope in torch.autograd.grad(loss, point)]


# the functions


def recurrent(w: float, b: float) -> float:
    """What the unit says after 50 steps, as floats have it."""
    x = 0.5
    for _ in range(50):
        x = w / (1 + math.exp(-x)) + b
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("beale", (0, 0), 1.5**2 + 2.25**2 + 2.625**2),
        ("beale", (2, -1), (1.5 - 4) ** 2 + 2.25**2 + (2.625 - 4) ** 2),
        ("rosenbrock", (-1.2, 1), 2.2**2 + 100 * 0.44**2),
        ("himmelblau", (0, 0), 170.0),
        ("himmelblau", (-1, 2), (1 + 2 - 11) ** 2 + (-1 + 4 - 7) ** 2),
        ("saddle", (0, 0), 0.25),
        ("saddle", (2, 2), 2 + 9 / 4),
        ("valley", (1, 1), 50.0),
        ("valley", (1, -1), 1.0),
        ("cliff", (5, -2), (recurrent(5, -2) - 0.7) ** 2),
        ("cliff", (5, -2.9), (recurrent(5, -2.9) - 0.7) ** 2),
        ("plateau", (1, 2), 1 - math.exp(-2.5)),
        ("many-minima", (0.5, 1), 1.25 + 2),
    ],
)
def test_values_are_those_of_the_closed_form(name, at, expected):
    found, _ = value(surfaces.find(name), *map(float, at))
    assert found == pytest.approx(expected, rel=1e-12)


@NAMED
def test_known_minima_have_no_slope_and_nothing_lies_lower(ground):
    assert ground.minima
    lowest = np.nanmin(grid(ground)[2])
    for minimum in ground.minima:
        loss, slopes = value(ground, *minimum)
        assert ground.holds(*minimum)
        assert loss <= lowest + 1e-12
        assert max(map(abs, slopes)) < 1e-12


def test_the_saddle_is_one():
    _, slopes = value(surfaces.find("saddle"), 0.0, 0.0)
    hessian = torch.autograd.functional.hessian(lambda p: surfaces.find("saddle")(p[0], p[1]), torch.zeros(2).double())
    assert slopes == [0, 0]
    assert torch.equal(hessian, torch.tensor([[1.0, 0.0], [0.0, -1.0]]).double())


def test_the_valley_has_the_condition_number_it_names():
    ground = surfaces.find("valley")
    hessian = torch.autograd.functional.hessian(lambda p: ground(p[0], p[1]), torch.zeros(2).double())
    low, high = torch.linalg.eigvalsh(hessian).tolist()
    assert high / low == pytest.approx(50, rel=1e-12)


def test_the_cliff_is_steep_and_the_plateau_is_flat():
    _, before = value(surfaces.find("cliff"), 5.2, -2.70)
    across = [value(surfaces.find("cliff"), 5.2, b)[1] for b in np.linspace(-2.738, -2.736, 100)]
    assert max(math.hypot(*slopes) for slopes in across) > 1000 * math.hypot(*before)
    _, flat = value(surfaces.find("plateau"), *surfaces.find("plateau").start)
    assert 0 < math.hypot(*flat) < 0.005


@NAMED
def test_gradients_are_those_of_differences(ground):
    left, right, low, high = ground.window
    for share in (0.2, 0.45, 0.8):
        point = [left + share * (right - left), high - share * (high - low)]
        inputs = tuple(torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in point)
        assert torch.autograd.gradcheck(ground, inputs)


# trajectories


def spec_of(name: str) -> str:
    """The rule as a spec of its own: a link that only changes another's step stands around sgd."""
    lr = {row[0]: row[1] for row in rules.catalogue()}[name]
    member = Rule.registry.get(name)
    if member is not None and member.wraps:
        return f"{name}(sgd(lr=0.02))"
    return f"{name}(lr=0.02)" if lr is not None else f"sgd(lr=0.02) + {name}"


CATALOGUE = [row[0] for row in rules.catalogue()]
COMPOSED = [
    "sophia(lr=0.01, estimator='gauss_newton')", "adam(lr=0.05) + decay(weight_decay=0.1) @ warmup(steps=5) * cosine()",
    "lookahead(sam(adam(lr=0.02)), k=2)", "mine=clip_norm(limit=1) + momentum(lr=0.02) + cautious",
    "soap(lr=0.05, vectors=true)", "nesterov(lr=0.01, form='book')", "muon(lr=0.02, method='exact')",
    "bias: sgd(lr=0.02)",
]  # fmt: skip


@pytest.mark.parametrize("spec", [*map(spec_of, CATALOGUE), *COMPOSED])
def test_every_rule_walks_by_its_spec_and_pays_for_every_gradient(spec):
    (walked,) = trajectories(surfaces.find("valley"), spec, steps=40)
    assert walked.ending == ""
    assert not walked.tuned
    assert (walked.x[0], walked.y[0], walked.work[0], walked.step[0]) == (-3.3, 1.9, 0, 0)
    assert 40 <= walked.work[-1] <= 41
    assert all(map(math.isfinite, walked.loss))
    assert walked.step == list(range(len(walked.step)))
    assert len({*zip(walked.x, walked.y, strict=True)}) > 5
    assert len(walked.x) == len(walked.y) == len(walked.loss) == len(walked.work)
    assert walked.loss[-1] < walked.loss[0]


def test_sgd_is_the_recursion_that_one_writes_by_hand():
    (walked,) = trajectories(surfaces.find("valley"), "sgd(lr=0.03)", steps=30)
    x, y = -3.3, 1.9
    for i in range(1, 31):
        slope_u, slope_v = 50 * (x + y) / 2, (x - y) / 2
        x, y = x - 0.03 * (slope_u + slope_v), y - 0.03 * (slope_u - slope_v)
        assert (walked.x[i], walked.y[i]) == pytest.approx((x, y), rel=1e-12)


def test_sam_takes_its_second_gradient_higher_up_and_half_the_steps():
    (walked,) = trajectories(Surface(bowl), "sam(sgd(lr=0.05), rho=0.5)", steps=10)
    assert (walked.step[-1], walked.work) == (5, [0, 2, 4, 6, 8, 10])
    gx, gy = -4.0, 16.0
    size = math.hypot(gx, gy)
    top_x, top_y = -2 + 0.5 * gx / size, 2 + 0.5 * gy / size
    assert walked.x[1] == pytest.approx(-2 - 0.05 * 2 * top_x)
    assert walked.y[1] == pytest.approx(2 - 0.05 * 8 * top_y)


def test_accumulation_pays_and_stands_still_in_between():
    (walked,) = trajectories(Surface(bowl), "accumulate(sgd(lr=0.05), k=4)", steps=8)
    assert walked.work[-1] == 8
    assert walked.x[:4] == [-2.0] * 4
    assert walked.x[4] == walked.x[7] == pytest.approx(-2 * 0.9)


def test_a_matrix_rule_gets_the_point_as_a_column():
    (walked,) = trajectories(Surface(bowl), "orthogonalize(lr=0.1, method='exact')", steps=1)
    gx, gy = -4.0, 16.0  # of a column, U V^T is the column over its length; s = sqrt(2 rows / 1 column)
    assert walked.x[1] == pytest.approx(-2 - 0.1 * math.sqrt(2) * gx / math.hypot(gx, gy))
    assert walked.y[1] == pytest.approx(2 - 0.1 * math.sqrt(2) * gy / math.hypot(gx, gy))


def test_what_is_shown_is_the_point_that_counts():
    (walked,) = trajectories(Surface(bowl), "schedule_free(sgd(lr=0.05))", steps=20)
    z = [-2.0]
    x, y = -2.0, -2.0
    for t in range(1, 21):  # Defazio et al. 2024: z moves, x is its average, the gradient is taken between them
        z.append(z[-1] - 0.05 * 2 * y)
        x = sum(z[1:]) / t
        y = 0.1 * z[-1] + 0.9 * x
    assert walked.x[-1] == pytest.approx(x, rel=1e-9)


def test_schedules_end_with_the_budget():
    (walked,) = trajectories(Surface(bowl), "sgd(lr=0.1) @ linear()", steps=10)
    x = -2.0
    for step in range(10):
        x -= 0.1 * ((1 - step / 10) + 0.01 * step / 10) * 2 * x  # down to a hundredth, as the book advises
    assert walked.x[-1] == pytest.approx(x)


def test_an_lr_that_is_not_written_is_the_best_of_the_grid_and_said_to_be_tuned():
    ground = surfaces.find("valley")
    told = []
    written, tuned = trajectories(ground, "sgd(lr=0.001), sgd", steps=40, observe=lambda *news: told.append(news))
    assert (written.lr, written.tuned, written.notes) == (0.001, False, ["lr=0.001"])
    each = {lr: trajectories(ground, f"sgd(lr={lr})", steps=40)[0] for lr in RATES}
    staying = {lr: sum(one.loss) / 41 for lr, one in each.items() if not one.ending}
    assert tuned.lr == min(staying, key=staying.get)
    assert tuned.loss == each[tuned.lr].loss
    assert (tuned.name, tuned.notes) == ("sgd", [f"lr={tuned.lr:g}, tuned"])
    assert told == [("sgd", i, 1 + tuned.runs) for i in range(1 + tuned.runs)]


def test_a_rules_own_default_is_among_what_is_tried():
    (walked,) = trajectories(Surface(bowl), "muon", steps=20)
    assert walked.runs == len({*RATES, 0.02})


def test_names_are_labels_or_specs_without_the_learning_rate():
    specs = "mine=sgd(lr=0.1), lookahead(adam(lr=0.1, beta2=0.9), k=3), momentum(lr=0.02) + decay @ cosine()"
    names = [one.name for one in trajectories(Surface(bowl), specs, steps=2)]
    assert names == ["mine", "lookahead(adam(beta2=0.9), k=3)", "momentum + decay @ cosine"]


def test_a_way_that_leaves_ends_at_its_first_point_outside():
    (walked,) = trajectories(Surface(bowl), "sgd(lr=0.3)", steps=100)
    assert walked.y == pytest.approx([2 * (1 - 0.3 * 8) ** i for i in range(3)])
    assert abs(walked.y[1]) < 3 < abs(walked.y[2])
    assert walked.ending == "left the picture at step 2"
    assert walked.notes == ["lr=0.3", "left the picture at step 2"]


def test_a_way_that_turns_nan_ends_at_its_last_finite_point():
    (walked,) = trajectories(Surface(lambda x, y: (-x).log() + y**2), "sgd(lr=0.3)", steps=100)  # nothing from x = 0 on
    xs = [-2.0]
    while xs[-1] < 0:
        xs.append(xs[-1] - 0.3 / xs[-1])
    assert walked.x == pytest.approx(xs[:-1])
    assert walked.ending == f"diverged at step {len(xs) - 1}"


def domain(x, y):
    if x > -1:
        raise ValueError("x is too large")
    return x**2 + y**2


@pytest.mark.parametrize(
    ("function", "spec", "points", "ending"),
    [
        (domain, "sgd(lr=0.1)", 4, "raised ValueError at step 4"),  # x = -2 * 0.8^k, which is -0.82 at k = 4
        (domain, "sam(sgd(lr=0.1), rho=0.0001)", 4, "raised ValueError at step 4"),
        (lambda x, y: x**2 + y**2 if x < -1 else 0.0, "sgd(lr=0.1)", 4, "returned no 0-d tensor at step 4"),
        (lambda x, y: x**2 + y**2 if x < -1 else x.new_tensor(1.0), "sgd(lr=0.1)", 5, "not differentiable at step 5"),
    ],
)
def test_a_way_ends_where_its_function_fails(function, spec, points, ending):
    (walked,) = trajectories(Surface(function), spec, steps=50)
    assert walked.step == list(range(points))
    assert walked.x[:4] == pytest.approx([-2 * 0.8**k for k in range(4)], rel=1e-3)
    assert walked.notes == ["lr=0.1", ending]


def test_a_second_gradient_that_raises_in_the_midst_of_a_step_ends_the_way_at_that_step():
    def gap(x, y):
        if -1.7 < x < -1.65:
            raise ValueError
        return x**2

    (walked,) = trajectories(Surface(gap), "sam(sgd(lr=0.1), rho=0.1)", steps=50)
    assert walked.x == pytest.approx([-2, -2 + 0.1 * 2 * 2.1])  # from where SAM climbs to -1.68
    assert walked.ending == "raised ValueError at step 2"


def test_learning_rates_whose_way_ends_in_an_error_are_not_kept_where_others_go_on():
    (walked,) = trajectories(Surface(domain), "sgd", steps=10)
    assert (walked.tuned, walked.ending) == (True, "")
    assert all(x <= -1 for x in walked.x)


def test_a_function_that_fails_when_it_is_asked_again_is_refused():
    asked = []

    def moody(x, y):
        asked.append(x)
        if len(asked) > 2:
            raise KeyError("mood")
        return x**2 + y**2

    refused("raised KeyError at the start, -2, 2, when it was called again without gradients", Surface(moody), "sgd")


def test_a_start_without_a_gradient_is_told():
    step = Surface(lambda x, y: x.sign() + y.round())
    nothing = Surface(lambda x, y: x * 0 + y * 0)
    top = surfaces.find("saddle")
    for ground, start in ((step, None), (nothing, None), (top, (0.0, 0.0))):
        (walked,) = trajectories(ground, "sgd(lr=0.1)", start, steps=3)
        assert walked.notes == ["lr=0.1", "gradient is 0 at the start"]
        assert set(walked.x) == {(start or (-2.0, 2.0))[0]}
        text = page(ground, [walked])
        assert "gradient is 0 at the start" in text.split('id="data"')[0]
    assert not trajectories(Surface(lambda x, y: x**2), "sgd(lr=0.1)", steps=3)[0].flat_start


def test_another_window_shows_and_ends_at_another_place(tmp_path):
    ground = Surface(bowl, minima=((0.0, 0.0),))
    near = ground.within([-2.5, -1, 1, 3])
    assert (near.window, near.start, near.function) == ((-2.5, -1.0, 1.0, 3.0), (-2.0, 2.0), bowl)
    whole, part = (trajectories(one, "sgd(lr=0.1)", steps=20)[0] for one in (ground, near))
    assert (whole.ending, part.ending) == ("", "left the picture at step 1")
    assert [grid(near)[axis][[0, -1]].tolist() for axis in (0, 1)] == [[-2.5, -1], [1, 3]]
    data = data_of(page(near, [part]))
    assert (data["window"], data["minima"]) == ([-2.5, -1, 1, 3], [])
    assert ground.within((0, 1, 0, 1), start=(0.5, 0.5)).start == (0.5, 0.5)
    with pytest.raises(ravine.RavineError, match="the start -2, 2 lies outside the picture, which shows x from 0 to 1"):
        ground.within((0, 1, 0, 1))


def test_the_same_seed_gives_the_same_way_and_another_another():
    noisy = "sgd(lr=0.05) + stochastic_sign"
    one, two, other = (trajectories(Surface(bowl), noisy, steps=40, seed=seed)[0] for seed in (3, 3, 4))
    assert one == two
    assert one.x != other.x


# what is given


def refused(message, *arguments, **options):
    with pytest.raises(ravine.RavineError, match=message):
        trajectories(*arguments, **options)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: torch.stack([x, y]), r"must return a scalar, .* it gave a tensor of shape \(2,\)"),
        (lambda x, y: 3.0, "must return a scalar, a 0-d tensor, for two 0-d tensors; at -2, 2 it gave float"),
        (lambda x, y: torch.tensor(x.item() ** 2), "is not differentiable: its value does not come from its arguments"),
        (lambda x, y: x.detach() * y.detach(), "is not differentiable"),
        (lambda x, y: torch.ones((), requires_grad=True) * 2, "is not differentiable: its value does not come from"),
        (lambda x, y: 1 / 0, "raised ZeroDivisionError at -2, 2: division by zero"),
        (lambda x, y: torch.log(x), r"has the loss nan and the gradient \(nan, 0\) at -2, 2: begin elsewhere|nan"),
        (lambda x, y: (x + 2).sqrt() + y, r"the gradient \(inf, 1\) at -2, 2"),
    ],
)
def test_a_function_that_is_no_surface_is_refused(function, message):
    refused(message, Surface(function))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": lambda x: x}, r"must take two 0-d tensors, as in .* it takes \(x\)"),
        ({"function": 3}, "a surface is a function of two tensors, got 3"),
        ({"window": (1, 1, 0, 1)}, "a window is x from, x to, y from, y to: four finite numbers in rising order"),
        ({"window": (0, math.inf, 0, 1)}, "a window is"),
        ({"window": (0, math.nan, 0, 1)}, "a window is"),
        ({"window": (0, 1, 2)}, r"four finite numbers in rising order, got \(0, 1, 2\)"),
        ({"window": 3}, "four finite numbers in rising order, got 3"),
        ({"start": (0.0, 4.0)}, r"give another window by --window or @surface\(window=...\)"),
        ({"start": (4.0, 0.0)}, "the start 4, 0 lies outside the picture, which shows x from -3 to 3 and y from -3"),
        ({"steps": 0}, r"steps must be in \[1, inf\), got 0"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ravine.RavineError, match=message):
        Surface(**{"function": bowl} | options)


def test_what_trajectories_are_given_is_checked_before_the_first(monkeypatch):
    monkeypatch.setattr("ravine.surfaces.trajectory._walk", lambda *_: pytest.fail("something has run"))
    ground = Surface(bowl)
    refused("a start is two finite numbers, got nan, 0", ground, start=(math.nan, 0.0))
    refused("the start 9, 0 lies outside", ground, start=(9.0, 0.0))
    refused(r"steps must be in \[1, inf\), got 0", ground, steps=0)
    refused("unknown optimizer 'adamm': did you mean 'adam", ground, "sgd, adamm")
    refused("'decay' only changes another rule's step", ground, "sgd, decay")
    refused("no optimizers are given", ground, [])
    refused("no parameter of this model has the role 'hidden'", ground, "sgd, hidden: muon; rest: adam")
    refused("a surface is made by", bowl)


def test_names_have_hyphens_and_underscores_are_taken():
    assert surfaces.find("many-minima") is surfaces.find("many_minima")
    assert not any("_" in name for name in surfaces.names())
    with pytest.raises(ravine.RavineError, match="unknown surface 'many-minim': did you mean 'many-minima'"):
        surfaces.find("many_minim")


def test_an_unknown_surface_is_told_its_neighbour():
    with pytest.raises(ravine.RavineError, match="unknown surface 'rosenbrok': did you mean 'rosenbrock'"):
        surfaces.find("rosenbrok")


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """`ravine surface` with these arguments, in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "300")

    return lambda *arguments: run(capsys, monkeypatch, "surface", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beal"], "unknown surface 'beal': did you mean 'beale'?"),
        (["no.py:f"], "there is no file no.py; a surface of your own is written path/to/file.py:function"),
        (["beale", "--out", "x.pdf"], "unknown ending of --out '.pdf'"),
        (["beale", "--out", "picture"], "unknown ending of --out 'picture'"),
        (["beale", "--out", "taken/x.png"], "taken is a file, not a folder"),
        (["beale", "--out", "folder.png"], "cannot write folder.png: it is a folder"),
        (["beale", "--start", "1"], "--start is two numbers with a comma between them"),
        (["beale", "--start=nan,1"], "a start is two finite numbers, got nan, 1"),
        (["beale", "--start=-9,1"], "the start -9, 1 lies outside the picture"),
        (["beale", "--window", "0,1,2"], "--window is four numbers with commas between them"),
        (["beale", "--window=0,inf,0,1"], "a window is x from, x to, y from, y to"),
        (["beale", "--window=1,0,0,1"], "four finite numbers in rising order"),
        (["beale", "--window=1,2,0,1"], "the start 0.8, 2 lies outside the picture, which shows x from 1 to 2"),
        (["beale", "--window=1,2,0,1", "--start=3,0"], "by --window or @surface(window=...)"),
        (["beale", "--steps", "0"], "steps must be in [1, inf), got 0"),
        (["beale", "--seed=-1"], "seed must be in [0, inf), got -1"),
        (["beale", "--optimizers", "sgd, adm"], "unknown optimizer 'adm'"),
        (["own.py:vector"], "must return a scalar"),
        (["own.py:cut"], "is not differentiable"),
        (["own.py:number"], "must be a function of two 0-d tensors, got int"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(command, tmp_path, arguments, message):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder.png").mkdir()
    own = "vector = lambda x, y: x * x.new_ones(2)\ncut = lambda x, y: x.detach()\nnumber = 3\n"
    (tmp_path / "own.py").write_text(own)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


# what is written


WALK = ["--optimizers", "sgd(lr=0.02), momentum(lr=0.01), sgd(lr=3)", "--steps", "10"]


def test_the_command_writes_what_out_names(command, tmp_path):
    for ending, first in ((".png", b"\x89PNG"), (".gif", b"GIF89a"), (".html", b"<!doctype html>")):
        status, out, _ = command("valley", *WALK, "--out", f"new/valley{ending}")
        written = (tmp_path / f"new/valley{ending}").read_bytes()
        assert status == 0
        assert written.startswith(first)
        assert len(written) < 2e6
        assert "left the picture at step 1" in out
    assert not list(tmp_path.rglob("*.part"))
    assert command("valley", *WALK)[0] == 0
    assert (tmp_path / "runs/valley.html").exists()


def test_json_has_where_the_ways_end(command):
    status, out, _ = command("valley", *WALK, "--json", "--start=-1,1.5", "--seed", "2")
    told = json.loads(out)
    assert status == 0
    assert (told["surface"], told["start"], told["out"]) == ("valley", [-1.0, 1.5], "runs/valley.html")
    expected = trajectories(surfaces.find("valley"), WALK[1], (-1.0, 1.5), 10, 2)
    for found, one in zip(told["trajectories"], expected, strict=True):
        assert (found["x"], found["loss"], found["ending"]) == (one.x[-1], one.loss[-1], one.ending or None)


def test_a_function_of_ones_own_is_drawn(command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from ravine.surfaces import surface\n\n\ndef dent(u, v):\n    return u**2 if u > 0 else 2 * u**2 + v**2\n\n\n"
        "@surface(window=(-1, 1, 0, 1), start=(0.5, 0.5), steps=7)\ndef steep(p, q):\n    return p**2 + 9 * q**2\n"
    )
    for name, work in (("dent", 200), ("steep", 7)):
        status, out, err = command(f"mine.py:{name}", "--optimizers", "adam(lr=0.05)", "--json")
        assert status == 0, err
        assert json.loads(out)["trajectories"][0]["work"] == work
        assert (tmp_path / f"runs/{name}.html").exists()


def test_a_function_of_ones_own_that_raises_is_drawn_where_it_has_values(command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def domain(x, y):\n    if x > -1:\n        raise ValueError('too large')\n    return x**2 + y**2\n"
    )
    for ending in (".html", ".png", ".gif"):
        arguments = ("mine.py:domain", "--optimizers", "sgd(lr=0.1), sgd(lr=0.001)", "--out", f"d{ending}")
        status, out, err = command(*arguments, "--window=-3,-0.5,-3,3")
        assert status == 0, err
        assert "raised ValueError at step 4" in out
        assert (tmp_path / f"d{ending}").stat().st_size > 1000
    status, out, err = command("mine.py:domain", "--optimizers", "sgd(lr=0.1)", "--out", "not.html")
    assert (status, out) == (2, "")
    assert "surface 'domain' raised at 4240 of 6400 points of the picture" in err
    assert "(first ValueError: too large)" in err
    assert not list(tmp_path.glob("not.*"))


def test_the_command_shows_another_window_and_takes_names_with_hyphens(command, tmp_path):
    arguments = ("many_minima", "--optimizers", "sgd(lr=0.01)", "--steps", "3", "--window=-3,-2,2,3", "--json")
    told = json.loads(command(*arguments)[1])
    assert (told["surface"], told["window"], told["out"]) == ("many-minima", [-3, -2, 2, 3], "runs/many-minima.html")
    assert data_of((tmp_path / told["out"]).read_text())["window"] == [-3, -2, 2, 3]
    told = json.loads(command("saddle", "--optimizers", "sgd(lr=0.1)", "--start=0,0", "--steps", "3", "--json")[1])
    assert told["trajectories"][0]["flat_start"]


def test_pictures_and_films_are_of_the_size_they_say(tmp_path):
    ground = surfaces.find("saddle")
    walked = trajectories(ground, "sgd(lr=0.3), adam(lr=0.1)", steps=12)
    with Image.open(surfaces.draw(ground, walked, tmp_path / "s.png")) as png:
        assert png.width == 2200
    with Image.open(surfaces.draw(ground, walked, tmp_path / "s.gif")) as gif:
        assert gif.n_frames == 13
        assert gif.width == pytest.approx(11 * 82, abs=1)
        last, first = [], []
        for frame, kept in ((12, last), (0, first)):
            gif.seek(frame)
            kept.append(np.asarray(gif.convert("RGB")).astype(int))
    assert (abs(last[0] - first[0]).sum(-1) > 60).sum() > 300  # the ways have been drawn
    for color in LIGHT[:2]:  # and can be told apart
        assert (abs(last[0] - ImageColor.getrgb(color)).max(-1) < 4).sum() > 100


@pytest.mark.parametrize("ending", [".png", ".gif", ".html"])
def test_the_same_ways_give_the_same_file(tmp_path, ending):
    ground = surfaces.find("plateau")
    walked = trajectories(ground, "psgd(lr=0.05), adam(lr=0.1)", steps=8)
    again = trajectories(ground, "psgd(lr=0.05), adam(lr=0.1)", steps=8)
    one, two = (surfaces.draw(ground, ways, tmp_path / f"{i}{ending}") for i, ways in enumerate((walked, again)))
    assert one.read_bytes() == two.read_bytes()


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(ravine.RavineError, match="there is no trajectory to draw"):
        surfaces.draw(surfaces.find("saddle"), [], tmp_path / "x.png")


def test_a_file_that_was_there_stays_when_drawing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    kept = tmp_path / "x.html"
    kept.write_text("of before")
    monkeypatch.setitem(surfaces.drawing.FORMS, ".html", full)
    ground = surfaces.find("valley")
    with pytest.raises(ravine.RavineError, match="No space left on device"):
        surfaces.draw(ground, trajectories(ground, "sgd(lr=0.01)", steps=2), kept)
    assert kept.read_text() == "of before"


# what a picture shows


@NAMED
def test_the_grid_is_the_function_at_its_places(ground):
    x, y, values = grid(ground)
    for i, j in ((0, 0), (17, 250), (319, 319)):
        assert values[i, j] == pytest.approx(value(ground, float(x[j]), float(y[i]))[0], rel=1e-9, abs=1e-12)
    found = levels(ground, values)
    assert np.all(np.diff(found) > 0)
    assert CONTOURS - 2 <= len(found) <= CONTOURS


def test_a_function_that_branches_is_asked_point_by_point():
    def kink(x, y):
        return x if x > y else y**2

    x, y, values = grid(Surface(kink))
    assert values.shape == (80, 80)
    assert values[5, 70] == x[70]
    assert values[70, 5] == pytest.approx(y[70] ** 2)


def test_a_function_that_mixes_points_is_asked_point_by_point():
    x, _, values = grid(Surface(lambda x, y: x**2 / (1 + (y - y.mean()) ** 2)))
    assert values.shape == (80, 80)
    assert values[3, 7] == pytest.approx(x[7] ** 2)


def test_where_a_function_has_no_value_none_is_drawn():
    _, _, values = grid(Surface(lambda x, y: torch.log(y) + x**2, start=(-2.0, 2.0)))
    assert np.isnan(values[:100]).all()
    assert np.isfinite(values[-100:]).all()
    assert levels(Surface(lambda x, y: 0 * x), np.ones((4, 4))).size == 0


def test_where_a_function_raises_the_map_is_blank_and_where_it_mostly_does_there_is_none():
    x, _, values = grid(Surface(domain, window=(-3, -0.5, -3, 3)))
    assert np.isnan(values[:, x > -1]).all()
    assert np.isfinite(values[:, x <= -1]).all()
    with pytest.raises(ravine.RavineError, match=r"raised at \d+ of 6400 points .* x from -3 to 3 .*@surface\(window="):
        grid(Surface(domain))


def test_the_axis_of_the_loss_holds_what_is_shown():
    low, high, logarithmic = loss_limits([[10.0, 1.0, 1e-4], [10.0, 1e9]])
    assert logarithmic
    assert low < 1e-4
    assert 10 < high < 100  # the jump of the last point is not followed
    assert loss_limits([[4.0, 1.0, 0.0]])[2]
    low, high, logarithmic = loss_limits([[1.0, -5.0]])
    assert not logarithmic
    assert low < -5 < 1 < high


def test_a_way_leaves_the_picture_on_its_edge():
    assert crossing((-1, 1, -1, 1), (0, 0), (4, 2)) == (1, 0.5)
    assert crossing((-1, 1, -1, 1), (0, 0), (0.5, -8)) == pytest.approx((0.0625, -1))
    assert crossing((-1, 1, -1, 1), (0, 0), (0.5, 0.5)) == (0.5, 0.5)


# the page


def data_of(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_the_page_needs_nothing_else_and_has_the_numbers():
    ground = surfaces.find("beale")
    walked = trajectories(ground, "sgd(lr=0.01), adam(lr=0.1), sgd(lr=3)", steps=50)
    text = page(ground, walked)
    assert len(text.encode()) < 400_000
    assert not re.search(r'(?:src|href)="(?!data:,")|url\(|@import|https?:', text)
    data = data_of(text)
    assert [way["name"] for way in data["ways"]] == ["sgd", "adam", "sgd"]
    assert data["ways"][1]["x"] == pytest.approx(walked[1].x, rel=1e-4)
    assert data["ways"][2]["ending"] == walked[2].ending == "left the picture at step 1"
    assert "left the picture at step 1" in text.split('id="data"')[0]
    assert data["end"] == 50
    assert text.count("data-way=") == 3
    assert all(word in text for word in ('aria-label="Play"', "prefers-reduced-motion", "prefers-color-scheme: dark"))


def test_names_of_users_are_escaped():
    evil = "</script><script>alert(1)</script>"

    def named(x, y):
        return x**2 + y**2

    named.__name__, named.__doc__ = evil, f"Doc {evil} & more"
    spec = parse("sgd(lr=0.1)")
    walked = trajectories(Surface(named), [replace(spec, label=evil)], steps=3)
    text = page(Surface(named), walked)
    assert evil not in text
    assert text.count("<script") == 2
    assert data_of(text)["ways"][0]["name"] == evil


def test_long_ways_are_thinned_out_and_it_is_said():
    n = 3 * MOST_POINTS
    steps = list(range(n))
    way = Trajectory(parse("sgd"), 0.1, False, 1, steps, steps, [0.1] * n, [1e-5 * i for i in steps], [1.0] * n)
    text = page(Surface(bowl), [way])
    (found,) = data_of(text)["ways"]
    assert len(found["x"]) <= MOST_POINTS + 1
    assert (found["work"][0], found["work"][-1]) == (0, n - 1)
    assert "One point in 3 is drawn." in text
    assert len(text.encode()) < 2e6


def in_browser(text: str, script: str):
    path = Path(__file__).parents[1] / "benchmarks/surface_page.py"
    found = importlib.util.spec_from_file_location("surface_page_benchmark", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    if module.browser() is None:
        pytest.skip(f"no browser is found: none of {', '.join(module.BROWSERS)}")
    return module.in_browser(text, script)


SCRIPT = """
  const at = (id) => document.getElementById(id), clock = () => parseInt(at("clock").textContent);
  const key = (name, shiftKey = false) =>
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, shiftKey, bubbles: true, cancelable: true }));
  const found = {};
  at("speed").value = "240";
  await sleep(900);
  found.playing = [at("play").getAttribute("aria-label"), clock()];
  key(" ");
  found.paused = at("play").getAttribute("aria-label");
  at("scrub").value = 10;
  at("scrub").dispatchEvent(new Event("input"));
  found.scrubbed = clock();
  key("ArrowRight"); key("ArrowRight", true);
  found.forward = clock();
  key("ArrowLeft");
  found.back = clock();
  found.losses = [...document.querySelectorAll("[data-way]")].map((row) => row.lastElementChild.textContent);
  const canvas = document.querySelector("#map canvas"), box = canvas.getBoundingClientRect();
  const dots = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const ink = () => dots().reduce((a, b) => a + b, 0);
  const before = ink(), button = document.querySelector("[data-way] button");
  button.click();
  found.hidden = [button.getAttribute("aria-pressed"), ink() !== before];
  button.click();
  found.shown = [button.getAttribute("aria-pressed"), ink() === before];
  const x = box.left + 44 + (0.8 + 1.6) / 5.5 * (box.width - 60), y = box.top + 10 + (2.6 - 2) / 5 * (box.height - 50);
  canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));
  found.tip = at("tip").hidden ? "" : at("tip").textContent;
  at("scrub").value = 299;
  at("scrub").dispatchEvent(new Event("input"));
  at("play").click();
  await sleep(500);
  found.ended = [at("play").getAttribute("aria-label"), clock()];
  at("again").click();
  await sleep(60);
  found.again = [at("play").getAttribute("aria-label"), clock() < 200];
  found.wide = document.documentElement.scrollWidth <= innerWidth;
  return found;
"""


def test_the_page_plays_scrubs_points_and_hides_in_a_browser():
    ground = surfaces.find("beale")
    walked = trajectories(ground, "sgd(lr=0.01), adam(lr=0.1)", steps=300)
    found = in_browser(page(ground, walked), SCRIPT)
    assert found["playing"][0] == "Pause"
    assert 0 < found["playing"][1] < 300
    assert found["paused"] == "Play"
    assert (found["scrubbed"], found["forward"], found["back"]) == (10, 21, 20)
    assert [float(text) for text in found["losses"]] == pytest.approx([one.loss[20] for one in walked], rel=0.01)
    assert found["hidden"] == ["false", True]
    assert found["shown"] == ["true", True]
    assert found["tip"].splitlines()[1:] == [
        "step 0, evaluation 0",
        "x = 0.8, y = 2",
        f"loss = {walked[0].loss[0]:.4g}",
    ]
    assert found["ended"] == ["Play", 300]
    assert found["again"] == ["Pause", True]
    assert found["wide"]


def test_frames_come_sixty_times_a_second_in_a_browser():
    """The script's own share of a frame, which does not depend on what else the machine does, is far below 16.7 ms."""
    ground = surfaces.find("beale")
    walked = trajectories(ground, "sgd(lr=0.01), momentum(lr=0.001), adam(lr=0.05)", steps=400)
    script = """
      await sleep(300);
      const spent = [], ask = window.requestAnimationFrame.bind(window);
      window.requestAnimationFrame = (draw) => ask((time) => {
        const before = performance.now(); draw(time); spent.push(performance.now() - before);
      });
      document.getElementById("speed").value = "60";
      document.getElementById("again").click();
      await sleep(1500);
      return spent.sort((a, b) => a - b);
    """
    spent = in_browser(page(ground, walked), script)
    assert len(spent) > 20
    assert spent[len(spent) // 2] < 8


def test_gradients_that_are_tensors_of_other_kinds_are_refused():
    def whole(x: Tensor, y: Tensor) -> Tensor:
        return (x + y).round().long()

    refused("is not differentiable", Surface(whole))
