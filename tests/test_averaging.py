"""Averages of weights, against means and sums unrolled from all iterates; swapped in and out, saved and resumed."""

import copy
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import ravine
from ravine import averaging
from ravine.averaging import EMA, SWA, Averaging, Polyak, average, lines, recalibrate
from ravine.core.errors import RavineError
from ravine.engine.execution import cannot_compile
from ravine.rules import EMA as EMARule
from ravine.rules import SWA as SWARule
from ravine.rules import Adam, chain
from ravine.rules import Polyak as PolyakRule
from ravine.strategies.batch_norm import frozen

WAYS = ["loop"] if cannot_compile("cpu") else ["loop", "compiled"]
F64 = torch.float64


def net(dtype: torch.dtype = F64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, t: int) -> None:
    dtype = next(model.parameters()).dtype
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(t)).to(dtype)
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def shown(avg: Averaging) -> list[Tensor]:
    with avg.swapped():
        return values(avg.model)


def weighted(iterates: list[list[Tensor]], weights: list[float]) -> list[Tensor]:
    """The weighted mean of all iterates, in one sum."""
    total = math.fsum(weights)
    return [sum(w / total * x for w, x in zip(weights, column, strict=True)) for column in zip(*iterates, strict=True)]


def close(a: list[Tensor], b: list[Tensor], rtol: float = 1e-12) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=rtol, atol=1e-14)


# ---------------------------------------------------------------- what they are: the weight of every iterate


def forgetting(d: float) -> Callable[[int], list[float]]:
    return lambda n: [d ** (n - i) for i in range(1, n + 1)]


def growing(d: float) -> Callable[[int], list[float]]:
    def weights(n: int) -> list[float]:
        kept = [0.0, *(min(d, i / (i + 9)) for i in range(2, n + 1))]
        return [(1 - kept[i]) * math.prod(kept[i + 1 :]) for i in range(n)]

    return weights


def as_torch(d: float) -> Callable[[int], list[float]]:
    return lambda n: [d ** (n - 1), *((1 - d) * d ** (n - i) for i in range(2, n + 1))]


def polynomial(eta: int) -> Callable[[int], list[float]]:
    """The weight of iterate i is proportional to i (i + 1) ... (i + eta - 1): the recursion, solved."""
    return lambda n: [math.prod(range(i, i + eta)) for i in range(1, n + 1)]


def only(counts: Callable[[int], bool]) -> Callable[[int], list[float]]:
    def weights(n: int) -> list[float]:
        found = [float(counts(i)) for i in range(1, n + 1)]
        return found if any(found) else [0.0] * (n - 1) + [1.0]

    return weights


KINDS: dict[str, tuple[Callable[..., Averaging], Any, Callable[[int], list[float]]]] = {
    "ema": (lambda m, **o: EMA(m, 0.8, **o), EMARule(0.8), forgetting(0.8)),
    "half-life": (lambda m, **o: EMA(m, half_life=4, **o), EMARule(half_life=4), forgetting(2**-0.25)),
    "horizon": (lambda m, **o: EMA(m, horizon=5, **o), EMARule(horizon=5), forgetting(0.8)),
    "growing": (lambda m, **o: EMA(m, 0.5, warmup="growing", **o), EMARule(0.5, warmup="growing"), growing(0.5)),
    "as torch": (lambda m, **o: EMA(m, 0.9, warmup="none", **o), EMARule(0.9, warmup="none"), as_torch(0.9)),
    "polyak": (lambda m, **o: Polyak(m, **o), PolyakRule(), only(lambda i: True)),
    "from 4": (lambda m, **o: Polyak(m, begin=4, **o), PolyakRule(4), only(lambda i: i >= 4)),
    "tail": (lambda m, **o: Polyak(m, tail=0.25, steps=12, **o), PolyakRule(10), only(lambda i: i >= 10)),
    "eta": (lambda m, **o: Polyak(m, eta=3, **o), PolyakRule(1, 3.0), polynomial(3)),
    "swa": (lambda m, **o: SWA(m, begin=3, every=4, **o), SWARule(3, 4), only(lambda i: i in (3, 7, 11))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_weighted_means_of_all_iterates(kind: str, way: str) -> None:
    """The class beside an optimizer of torch, and the link in a rule of ours, at every step."""
    make, rule, weights = KINDS[kind]
    model = net()
    twin = copy.deepcopy(model)
    avg = make(model, execution=way)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    ours = ravine.Optimizer(twin.parameters(), chain(Adam(), rule), 0.05, execution=way)
    iterates = []
    for t in range(1, 13):
        stepped(model, optimizer, t)
        stepped(twin, ours, t)
        avg.update()
        iterates.append(values(model))
        expected = weighted(iterates, weights(t))
        close(shown(avg), expected)
        with ours.swapped():
            close(values(twin), expected, 1e-9)
    close(values(twin), values(model), 1e-9)  # the link lets the steps be


def test_eta_weights_are_those_of_the_recursion() -> None:
    """Shamir & Zhang 2013: m_n = (1 - (eta + 1) / (n + eta)) m_{n-1} + (eta + 1) / (n + eta) theta_n."""
    x, m = [0.3, -2.0, 5.0, 1.0], 0.0
    for n, value in enumerate(x, 1):
        m = (1 - 4 / (n + 3)) * m + 4 / (n + 3) * value
    weights = polynomial(3)(4)
    assert m == pytest.approx(math.fsum(w * v for w, v in zip(weights, x, strict=True)) / sum(weights), rel=1e-13)


def test_the_same_as_torchs_averaged_model() -> None:
    model = net(torch.float32)
    avg, theirs = EMA(model, 0.99, warmup="none"), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for t in range(20):
        stepped(model, optimizer, t)
        avg.update()
        theirs.update_parameters(model)
    for mine, other in zip(shown(avg), theirs.module.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_large_weights_by_kernel_and_low_precision_in_float32(dtype: torch.dtype, way: str) -> None:
    """Sizes across the limits of what goes to a kernel; steps below a weight's last bit still move the average."""
    model = nn.ParameterList(
        [nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in ((70_001,), (3, 5), (300, 300))]
    )
    avg = EMA(model, 0.9, execution=way)
    before = lines._kernel.cache_info().hits + lines._kernel.cache_info().misses
    iterates: list[list[Tensor]] = []
    for t in range(6):
        with torch.no_grad():
            for p in model:
                p.add_(torch.linspace(-1, 1, p.numel()).view(p.shape).to(dtype) * 2.0 ** -(t % 3))
        avg.update()
        iterates.append([p.double() for p in values(model)])
    found = [avg.averages[str(i)] for i in range(3)]
    assert {x.dtype for x in found} == {torch.float32}
    for x, wanted in zip(found, weighted(iterates, forgetting(0.9)(6)), strict=True):
        bound = 6 * torch.finfo(torch.float32).eps * max(float(p.abs().max()) for step in iterates for p in step)
        torch.testing.assert_close(x.double(), wanted, rtol=0, atol=bound)  # a rounding an update
    used = lines._kernel.cache_info().hits + lines._kernel.cache_info().misses - before
    # At all updates but the first two, whose shares are 1 and 10/19.
    assert used == (4 if way == "compiled" and dtype is not torch.float32 else 0)
    with avg.swapped():
        assert torch.equal(model[0], found[0].to(dtype))


def test_a_spec_has_it_as_a_link_and_training_judges_it() -> None:
    make = ravine.parse("adam(lr=0.01) + ema(half_life=500)")
    assert str(make) == "adam(lr=0.01) + ema(half_life=500)"
    optimizer = ravine.assemble(make, net(), 10)
    assert optimizer.param_groups[0]["rule"] == "adam + ema"
    assert optimizer.param_groups[0]["decay"] == 2 ** (-1 / 500)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    task = ravine.supervised(
        name="line", model=lambda: nn.Linear(3, 1), criterion=nn.MSELoss(), train=(x, x.sum(1, keepdim=True)),
        valid=(x, x.sum(1, keepdim=True)), metric="loss", batch_size=8,
    )  # fmt: skip
    seen = []
    for moment in ravine.train(task, "ema(sgd(lr=0.1), half_life=3)", steps=9, every=3):
        with moment.optimizer.swapped():
            expected = moment.task.judge(moment.model, moment.task.valid)
        apart = moment.task.judge(moment.model, moment.task.valid)
        seen.append((moment.metric, expected, apart))
    assert all(metric == expected for metric, expected, _ in seen)
    assert all(metric != apart for metric, _, apart in seen[1:])


# ---------------------------------------------------------------- which weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.frozen = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.frozen.requires_grad_(False)
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("seen", torch.tensor(0))


def test_tied_weights_once_frozen_ones_not_and_late_ones_from_their_first_update() -> None:
    model = Tied()
    avg = Polyak(model)
    moved: dict[str, list[Tensor]] = {"a.weight": [], "a.bias": [], "b.bias": [], "frozen.weight": []}
    for t in range(5):
        if t == 3:
            model.frozen.weight.requires_grad_(True)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.add_(0.5 * (t + 1))
                if name in moved and p.requires_grad:
                    moved[name].append(p.clone())
        avg.update()
    assert avg.averages.keys() == moved.keys()
    for name, seen in moved.items():
        torch.testing.assert_close(avg.averages[name], torch.stack(seen).mean(0))
    assert len(moved["frozen.weight"]) == 2
    with avg.swapped():
        assert torch.equal(model.b.weight, avg.averages["a.weight"])


def test_buffers_are_the_last_steps_or_averaged() -> None:
    for buffers, wanted in (("last", 8.0), ("average", 5.0)):
        model = Tied()
        avg = Polyak(model, buffers=buffers)
        for value in (2.0, 5.0, 8.0):
            model.scale.fill_(value)
            model.seen.add_(1)
            avg.update()
        with avg.swapped():
            assert (model.scale.item(), model.seen.item()) == (wanted, 3)
        assert model.scale.item() == 8.0


def test_names_are_those_of_the_model_inside() -> None:
    model = net()
    avg = EMA(nn.DataParallel(model))
    avg.update()
    assert list(avg.averages) == [name for name, _ in model.named_parameters()]


def test_copy_to_writes_the_average_for_good() -> None:
    model = net()
    avg = Polyak(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for t in range(3):
        stepped(model, optimizer, t)
        avg.update()
    other = net()
    avg.copy_to(other)
    close(values(other), shown(avg), 0)
    avg.copy_to()
    close(values(model), shown(avg), 0)


# ---------------------------------------------------------------- swapped


class Failed(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_swapped_restores_to_the_bit_also_when_evaluation_raises(fails: bool) -> None:
    model = normed()
    avg = EMA(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for t in range(4):
        stepped(model, optimizer, t)
        avg.update()
    before = copy.deepcopy(model.state_dict())
    try:
        with avg.swapped(data=torch.randn(20, 3)):
            assert not torch.equal(model[0].weight, before["0.weight"])
            assert not torch.equal(model[1].running_mean, before["1.running_mean"])
            with torch.no_grad():
                model[0].weight.zero_()  # whatever happens inside
            if fails:
                raise Failed
    except Failed:
        assert fails
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    avg.update()  # and goes on


def test_nothing_is_averaged_yet() -> None:
    model = net()
    for avg in (EMA(model), Polyak(model, begin=3), SWA(model, begin=3)):
        before = values(model)
        close(shown(avg), before, 0)
        avg.update()
        close(shown(avg), before, 0)
    assert not avg.averages


@pytest.mark.parametrize("make", [torch.optim.SGD, lambda ps, lr: ravine.Optimizer(ps, Adam(), lr)])
def test_what_would_be_undone_is_refused_inside(make: Any) -> None:
    model, other = net(), net()
    avg = EMA(model)
    optimizer, free = make(model.parameters(), 0.1), make(other.parameters(), 0.1)
    stepped(model, optimizer, 0)
    avg.update()
    with avg.swapped():
        before = values(model)
        with pytest.raises(RavineError, match="a step inside swapped\\(\\) would be undone at its end: step outside"):
            stepped(model, optimizer, 1)
        close(values(model), before, 0)
        stepped(other, free, 1)  # which is of other weights
        for call in (avg.update, avg.copy_to, lambda: avg.load_state_dict({}), lambda: avg.swapped().__enter__()):
            with pytest.raises(RavineError, match="inside swapped\\(\\), where the weights are the averages already"):
                call()
    stepped(model, optimizer, 2)


# ---------------------------------------------------------------- statistics of batch normalization


def normed(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(2)
    layers = (nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 4), nn.BatchNorm1d(4))
    return nn.Sequential(*layers, nn.Linear(4, 2)).to(dtype)


def test_recalibrated_statistics_are_mean_and_variance_over_all_of_the_data() -> None:
    """Of batches of unequal size and mean; in one pass, the second layer behind a first that normalizes by batch."""
    model = normed(F64).train()
    x = torch.randn(50, 3, dtype=F64) + torch.linspace(0, 9, 50, dtype=F64)[:, None]
    parts = [x[:7], x[7:30], x[30:]]
    assert recalibrate(model, parts) == ["1", "5"]
    first = [model[0](part) for part in parts]
    normal = [(h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt() for h in first]
    second = [model[4](model[2](h)) for h in normal]
    for layer, seen in ((model[1], torch.cat(first)), (model[5], torch.cat(second))):
        torch.testing.assert_close(layer.running_mean, seen.mean(0).detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.running_var, seen.var(0).detach(), rtol=1e-12, atol=1e-12)
        assert layer.num_batches_tracked.item() == 3
        assert layer.training


def test_a_list_is_batches_whatever_their_sizes() -> None:
    x = torch.randn(100, 3, dtype=F64) + torch.arange(100, dtype=F64)[:, None]
    for size in (50, 30):
        for data in (list(x.split(size)), iter(x.split(size)), [(part, part) for part in x.split(size)]):
            model = normed(F64)
            recalibrate(model, data)
            torch.testing.assert_close(model[1].running_mean, model[0](x).mean(0).detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(model[1].running_var, model[0](x).var(0).detach(), rtol=1e-12, atol=1e-12)
    avg = EMA(model)
    avg.update()
    with avg.swapped(data=list(x.split(50))):
        wanted = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(wanted["1.running_mean"], model[0](x).mean(0).detach(), rtol=1e-12, atol=1e-12)


def test_frozen_layers_are_not_recalibrated() -> None:
    """They would normalize by what they hold, so that what the next layer is measured on is not what it gets."""
    model = normed()
    before = copy.deepcopy(model.state_dict())
    for exact in (False, True):
        with frozen(model), pytest.raises(RavineError, match=r"'1' is frozen, which keeps its statistics: release\(\)"):
            recalibrate(model, torch.randn(8, 3), exact=exact)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert recalibrate(model, torch.randn(8, 3)) == ["1", "5"]


def test_exact_recalibration_standardizes_every_layer_in_evaluation_mode() -> None:
    model = normed(F64).eval()
    x = 3 + torch.randn(41, 3, dtype=F64) * torch.arange(1, 4)
    recalibrate(model, (x, x), batch_size=8, exact=True)  # 41 = 5 * 8 + 1: no batch of one is cut
    for end in (2, 6):
        made = model[:end](x)
        torch.testing.assert_close(made.mean(0), torch.zeros(4, dtype=F64), rtol=0, atol=1e-12)
        torch.testing.assert_close(made.var(0), torch.ones(4, dtype=F64), rtol=1e-3, atol=0)
        var = model[:end][-1].running_var
        torch.testing.assert_close(made.var(0), var / (var + 1e-5), rtol=1e-12, atol=0)


def test_statistics_of_the_average_are_kept_until_the_next_update() -> None:
    model = normed()
    avg = Polyak(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.randn(30, 3)
    for t in range(3):
        stepped(model, optimizer, t)
        avg.update()
    own = model[1].running_mean.clone()
    assert avg.recalibrate(data) == ["1", "5"]
    assert torch.equal(model[1].running_mean, own)
    with avg.swapped():
        torch.testing.assert_close(model[1].running_mean, model[0](data).mean(0))
    avg.update()
    with avg.swapped():
        assert torch.equal(model[1].running_mean, own)


def test_recalibration_of_other_data_and_calls() -> None:
    model = normed()
    x = torch.randn(9, 3)
    wanted: Tensor | None = None
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x), batch_size=9)
    by_name = lambda m, batch: m(batch["x"])  # noqa: E731
    ways: list[tuple[Any, Any]] = [
        (x, None), ((x, x), None), ([x], None), ((x, torch.arange(9)), None), (loader, None), (loader.dataset, None),
        (iter([x]), None), ([(x, x)], None), (((x, x),), None), ({"x": x}, by_name), ([{"x": x}], by_name),
    ]  # fmt: skip
    for data, forward in ways:
        recalibrate(model, data, forward)
        wanted = model[5].running_var.clone() if wanted is None else wanted
        assert torch.equal(model[5].running_var, wanted)
    assert recalibrate(net(), x) == []


# ---------------------------------------------------------------- saved and resumed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_resumed_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    model = net(dtype)
    avg = KINDS[kind][0](model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for t in range(5):
        stepped(model, optimizer, t)
        avg.update()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "average": avg.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = net(dtype)
    again.load_state_dict(saved["model"])
    resumed = KINDS[kind][0](again)
    resumed.load_state_dict(saved["average"])
    other = torch.optim.SGD(again.parameters(), 0.1)
    for t in range(5, 12):
        for m, o, a in ((model, optimizer, avg), (again, other, resumed)):
            stepped(m, o, t)
            a.update()
    assert all(torch.equal(x, resumed.averages[name]) for name, x in avg.averages.items())
    assert avg.averages.keys() == resumed.averages.keys()
    assert avg.counts == resumed.counts


def test_a_state_that_does_not_fit_is_refused_and_leaves_all_as_it_was() -> None:
    model = net()
    avg = EMA(model, 0.9)
    avg.update()
    good = avg.state_dict()
    before = copy.deepcopy(good)
    moved = good["averages"] | {"0.wieght": good["averages"]["0.weight"]}
    shorter = EMA(nn.Sequential(nn.Linear(3, 4)).double(), 0.9)
    shorter.update()
    cases: list[tuple[Any, str]] = [
        ({"averages": {}}, "the saved average lacks 'buffers': is it one of ravine.averaging's"),
        (good | {"rule": "polyak"}, "the saved average has rule 'polyak', but this one has 'ema\\(decay=0.9\\)'"),
        (good | {"buffers": "average"}, "has buffers 'average', but this one has 'last'"),
        (good | {"averages": moved}, "unknown weight of this model '0.wieght': did you mean '0.weight'"),
        (
            good | {"averages": {"0.weight": torch.ones(2)}},
            "of '0.weight' has shape \\(2,\\), but this model has \\(4, 3",
        ),
        (good | {"averages": good["averages"] | {"0.weight": None}}, "'0.weight' has shape None"),
        (good | {"counts": {"0.weight": -1}}, "count of '0.weight' must be a whole number from 0, got -1"),
        (good | {"counts": {}}, "has no count for '0.bias'"),
        (good | {"averages": 3}, "holds no averages by name, but int"),
        (3, "load_state_dict takes what state_dict\\(\\) gave, got int"),
        (shorter.state_dict(), "is of a model without the weight '2.weight', which this model has"),
    ]
    for state, message in cases:
        with pytest.raises(RavineError, match=message):
            avg.load_state_dict(state)
        now = avg.state_dict()
        assert now["counts"] == before["counts"]
        assert all(torch.equal(now["averages"][name], x) for name, x in before["averages"].items())


# ---------------------------------------------------------------- checkpoints


def test_the_average_of_checkpoints(tmp_path: Path) -> None:
    states = []
    for i in range(3):
        torch.manual_seed(i)
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).bfloat16()
        model[1].num_batches_tracked.fill_(i)
        states.append(model.state_dict())
        torch.save({"model": states[-1], "step": i}, tmp_path / f"{i}.pt")
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for made, weights in (
        (average(states), [1, 1, 1]),
        (average(paths, key="model"), [1, 1, 1]),
        (average(map(str, paths), [1, 0, 3], key="model"), [1, 0, 3]),
    ):
        for name in states[0]:
            column = [state[name] for state in states]
            wanted = sum(w * x.double() for w, x in zip(weights, column, strict=True)) / sum(weights)
            floats = column[0].is_floating_point()
            assert torch.equal(made[name], wanted.to(column[0].dtype) if floats else column[-1])
            assert made[name].dtype == column[0].dtype
    model.load_state_dict(made)
    assert torch.equal(states[0]["0.weight"], torch.load(paths[0], weights_only=True)["model"]["0.weight"])


# ---------------------------------------------------------------- bad input


def bad_loader() -> Any:
    return [torch.randn(4, 3), torch.randn(1, 3)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EMA([nn.Parameter(torch.ones(1))]), "an average is kept of a model, an nn.Module; got list"),
        (lambda: EMA(net(), decay=1.0), "ema: decay must be in \\(0, 1\\), got 1.0"),
        (lambda: EMA(net(), decay=0.9, half_life=3), "EMA: decay and half_life say the same thing: give one of"),
        (lambda: EMARule(0.9, half_life=3), "ema: half_life and decay say the same thing"),
        (lambda: EMARule(half_life=3, horizon=9), "ema: half_life and horizon say the same thing"),
        (lambda: EMA(net(), horizon=1), "ema: horizon must be in \\(1, inf\\), got 1"),
        (lambda: EMA(net(), half_life=1e20), "ema: decay must be in \\(0, 1\\), got 1.0"),
        (lambda: EMA(net(), warmup="grow"), "unknown choice of warmup= 'grow': did you mean 'growing'"),
        (lambda: EMA(net(), buffers="lst"), "unknown choice of buffers= 'lst': did you mean 'last'"),
        (lambda: EMA(net(), execution="fast"), "unknown choice of execution= 'fast'"),
        (lambda: Polyak(net(), tail=0.5), "tail is a share of steps, so give both"),
        (lambda: Polyak(net(), tail=1.5, steps=9), "Polyak: tail must be in \\(0, 1\\], got 1.5"),
        (lambda: Polyak(net(), begin=3, tail=0.5, steps=9), "begin and tail both say where the average begins"),
        (lambda: SWA(net(), begin=0), "swa: begin must be in \\[1, inf\\), got 0"),
        (lambda: Averaging(net(), Adam()), "rule must be an average such as ravine.rules.EMA"),
        (lambda: chain(Adam(), EMARule(), PolyakRule()), "cannot nest: both say where the parameters rest"),
        (lambda: average([]), "average needs at least one checkpoint, got none"),
        (lambda: average({"w": torch.ones(1)}), "average takes several checkpoints: a list of paths or of state dicts"),
        (lambda: average([{"w": 1}]), "a state dict holds no tensors by name, but w: say where they are with key="),
        (lambda: average([{"model": {}}], key="modle"), "unknown key of a state dict 'modle': did you mean 'model'"),
        (
            lambda: average([{"w": torch.ones(1)}, {"v": torch.ones(1)}]),
            "checkpoint 2 has other weights than the first",
        ),
        (lambda: average([{"w": torch.ones(1)}, {"w": torch.ones(2)}]), "'w' has shape \\(2,\\) in checkpoint 2, but"),
        (lambda: average([{"w": torch.ones(1)}], [1, 2]), "2 weights for 1 checkpoints: give one each"),
        (lambda: average([{"w": torch.ones(1)}], ["a"]), "average: a weight must be a number, got 'a'"),
        (lambda: average([{"w": torch.ones(1)}], 3), "weights are a list of numbers, one for each checkpoint, got 3"),
        (lambda: average(["missing.pt"]), "average: there is no file 'missing.pt'"),
        (lambda: average([__file__]), "test_averaging.py' cannot be read as a checkpoint"),
        (lambda: average([3]), "a checkpoint is a path or a state dict, got int"),
        (lambda: average(3), "average takes several checkpoints: a list of paths or of state dicts, got int"),
        (
            lambda: average([{"w": torch.ones(1)}, {"w": torch.ones(1, dtype=torch.long)}]),
            "'w' is of whole numbers in checkpoint 2, but of floating point in the one before",
        ),
        (
            lambda: average([{"w": torch.ones(1, dtype=torch.long)}, {"w": torch.ones(1)}]),
            "'w' is of floating point in checkpoint 2, but of whole numbers in the one before",
        ),
        (lambda: average([{"w": torch.ones(1)}], [0.0]), "weights must be finite, not negative and not all zero"),
        (lambda: recalibrate(normed(), bad_loader()), "recalibrate: a batch of one example has no variance"),
        (lambda: recalibrate(normed(), torch.randn(1, 3)), "recalibrate: a batch of one example has no variance"),
        (lambda: recalibrate(normed(), [torch.randn(1, 3)], exact=True), "'1' saw one example in all the data"),
        (lambda: recalibrate(normed(), iter([torch.randn(4, 3)]), exact=True), "reads the data once for every layer"),
        (lambda: recalibrate(normed(), []), "recalibrate: the data gave no batch"),
        (lambda: recalibrate(normed(), 3), "data must be tensors, a dataset or batches, got int"),
        (lambda: recalibrate(normed(), {"x": torch.randn(4, 3)}), "batches are dicts: give forward="),
        (lambda: recalibrate(normed(), torch.randn(8, 3).split(4)), "2 tensors of this one are alike, as x.split"),
        (lambda: recalibrate(normed(), torch.randn(9, 3).split(4)), "give torch.cat\\(data\\) or iter\\(data\\)"),
        (lambda: recalibrate(normed(), (torch.randn(9, 3), torch.ones(8))), "data have different lengths: 8, 9"),
        (lambda: recalibrate(normed(), [torch.randn(9, 3), torch.arange(9)]), "inputs and targets are a tuple"),
        (lambda: recalibrate(normed(), torch.randn(8, 3), batch_size=0), "batch_size must be in \\[1, inf\\), got 0"),
        (lambda: recalibrate(normed(), torch.randn(8, 3).numpy()), "got ndarray: torch.from_numpy makes tensors"),
        (lambda: recalibrate(normed(), [torch.randn(8, 3).numpy()]), "a batch is a ndarray: torch.from_numpy"),
        (lambda: recalibrate(normed(), "data"), "must be tensors, a dataset or batches, got str"),
        (lambda: recalibrate([], torch.randn(8, 3)), "recalibrate takes a model, an nn.Module; got list"),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(RavineError, match=message):
        call()


def test_recalibration_that_fails_leaves_the_statistics() -> None:
    model = normed().train()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RavineError, match="a batch of one"):
        recalibrate(model, bad_loader())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [m.training for m in model] == [True, True, True, False, True, True, True]


def test_a_weight_of_another_shape_is_refused_and_changes_nothing() -> None:
    model = net()
    avg = EMA(model)
    avg.update()
    model[2] = nn.Linear(4, 3).double()
    before = avg.state_dict()
    with pytest.raises(RavineError, match=r"'2\.weight' has shape \(3, 4\), but what was averaged so far has \(2, 4\)"):
        avg.update()
    assert avg.counts == before["counts"]
    assert all(torch.equal(avg.averages[name], x) for name, x in before["averages"].items())
    with pytest.raises(RavineError, match=r"the average of '2\.weight' has shape"), avg.swapped():
        pass


def test_the_front_door_has_the_room() -> None:
    assert ravine.averaging is averaging
