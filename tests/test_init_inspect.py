"""`ravine.init.inspect`: values against plain computations, verdicts, and that the model is left as it was."""

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import ravine
from ravine.core.dry_run import hash_tensors
from ravine.core.errors import RavineError
from ravine.init import LIMITS, Findings, inspect
from ravine.init.chance import chance
from ravine.init.limits import judge, worst
from ravine.outset import start

_spec = importlib.util.spec_from_file_location("starts", Path(__file__).parents[1] / "examples" / "starts.py")
assert _spec is not None
assert _spec.loader is not None
starts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(starts)


def line(found: Findings, name: str, layer: str = ""):
    (one,) = [one for one in found if one.name == name and one.layer == layer]
    return one


def mlp(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 16), *between, nn.Linear(16, 4))


def batch(n: int = 128) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6), torch.randint(4, (n,))


CRITERION = nn.CrossEntropyLoss()

# ---------------------------------------------------------------- the built-in examples


@pytest.mark.parametrize("name", starts.HEALTHY)
def test_healthy_starts_pass(name):
    found = start(getattr(starts, name)()).findings
    assert found.verdict == "pass", str(found)


SICK = {  # what must fail, and where
    "deep_tanh": ("activation std", "20"),
    "wide_sigmoid": ("saturated", "0"),
    "equal_weights": ("identical units", "2"),
    "dead_relu": ("dead", "2"),
    "exploding": ("activation std", "40"),
    "huge_logits": ("loss", ""),
    "forgetful_rnn": ("through time", "layer.l0"),
}


@pytest.mark.parametrize("name", starts.SICK)
def test_sick_starts_fail_for_their_own_reason(name):
    found = start(getattr(starts, name)()).findings
    one = line(found, *SICK[name])
    assert (found.verdict, one.verdict) == ("fail", "fail")
    assert one.reason
    assert one.fix


def test_a_search_mends_what_scales_can_mend():
    for name in ("deep_tanh", "wide_sigmoid", "huge_logits"):
        assert start(getattr(starts, name)(), search=True).findings.verdict == "pass", name


# ---------------------------------------------------------------- values


def test_standard_deviations_and_gradients_are_those_of_a_plain_pass():
    model, (x, y) = mlp(nn.Tanh()), batch()
    found = inspect(model, (x, y), CRITERION)
    a = model[0](x)
    a.retain_grad()
    z = model[2](a.tanh())
    z.retain_grad()
    loss = F.cross_entropy(z, y)
    loss.backward()
    for signal, out, layer in zip(found.signals, (a, z), (model[0], model[2]), strict=True):
        assert signal.std == pytest.approx(out.detach().std(correction=0).item(), rel=1e-5)
        assert signal.gradient == pytest.approx(out.grad.square().mean().sqrt().item(), rel=1e-5)
        assert signal.slope == pytest.approx(layer.weight.grad.norm().item(), rel=1e-5)
    ratio = model[0].weight.grad.norm() / model[2].weight.grad.norm()
    assert line(found, "gradient ratio").value == pytest.approx(ratio.item(), rel=1e-5)
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    cov = torch.linalg.eigvalsh(torch.cov(a.detach().double().T))
    assert line(found, "effective rank", "0").value == pytest.approx(float(cov.sum() ** 2 / (cov**2).sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "inplace"),
    [(nn.ReLU, False), (nn.ReLU, True), ("relu", False), ("clamp", False), ("method", False), ("method_", True)],
)
def test_dead_units_are_counted_however_relu_is_called(make, inplace):
    calls = {"relu": F.relu, "clamp": lambda z: z.clamp(min=0), "method": Tensor.relu, "method_": Tensor.relu_}

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 4)
            self.act = make(inplace) if isinstance(make, type) else calls[make]

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.act(self.a(x)))

    model = Plain()
    model.a.bias.data[:4] = -50.0
    found = inspect(model, batch(), CRITERION)
    assert line(found, "dead", "a").value == 4 / 16
    assert line(found, "dead", "a").verdict == "warn"
    assert line(found, "activation std", "a").value > 10  # before the ReLU, in place or not


def test_saturation_is_by_the_slope():
    model, (x, y) = mlp(nn.Tanh()), batch()
    model[0].weight.data.mul_(30)
    share = (model[0](x).tanh().square() > 1 - 0.02).double().mean().item()
    one = line(inspect(model, (x, y), CRITERION), "saturated", "0")
    assert one.value == pytest.approx(share, abs=1e-3)
    assert one.verdict == "fail"


@pytest.mark.parametrize("act", [nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.PReLU, nn.Mish])
def test_every_usual_activation_is_seen(act):
    found = inspect(mlp(act()), batch(), CRITERION)
    assert len(found.acts) == 1
    assert found.verdict == "pass", str(found)


@pytest.mark.parametrize("act", [nn.ReLU6, lambda: nn.Hardtanh(0.0, 6.0)])
def test_relu6_is_dead_by_unit_and_saturated_at_its_upper_end(act):
    """Half of He's numbers are below 0, which is ReLU and no saturation."""
    model, (x, y) = mlp(act()), batch()
    nn.init.kaiming_normal_(model[0].weight)
    model[0].bias.data[:4] = -50.0
    model[0].bias.data[4:8] = 6.0
    found = inspect(model, (x, y), CRITERION)
    above = (model[0](x) > 6).double().mean().item()
    assert 0.05 < above < 0.2
    assert line(found, "saturated", "0").value == pytest.approx(above, abs=1e-3)
    assert (line(found, "dead", "0").value, line(found, "saturated", "0").verdict) == (4 / 16, "pass")


def test_loss_at_start_is_compared_with_the_marginals():
    x, y = torch.randn(1000, 6), torch.zeros(1000, dtype=torch.long)
    y[900:950], y[950:] = 1, 2
    model = nn.Sequential(nn.Linear(6, 3))
    for p in model.parameters():
        nn.init.zeros_(p)
    one = line(inspect(model, (x, y), CRITERION), "loss")
    assert one.value == pytest.approx(math.log(3))
    assert "2.79 times the chance level 0.3944" in one.reason  # 1.0986 and 0.3944: softmax(b) = (.9, .05, .05)
    assert one.verdict == "warn"
    model[0].bias.data.copy_(torch.tensor([0.9, 0.05, 0.05]).log())
    assert line(inspect(model, (x, y), CRITERION), "loss").verdict == "pass"


def _logits(scale: float, classes: int = 5) -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(nn.Linear(6, classes))
    model[0].weight.data.mul_(scale)
    return model, torch.randn(400, 6), torch.multinomial(torch.arange(1.0, classes + 1), 400, replacement=True)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smooth", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2, 3, 0.5, 0.1])])
def test_the_level_of_a_cross_entropy_is_that_of_its_best_constant_prediction(weight, smooth, reduction):
    model, x, y = _logits(1.0)
    y[::3] = -7
    criterion = nn.CrossEntropyLoss(weight, ignore_index=-7, label_smoothing=smooth, reduction=reduction)
    free = torch.zeros(5, requires_grad=True)
    search = torch.optim.LBFGS([free], max_iter=200, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = criterion(free.expand(400, 5), y)
        value.backward()
        return value

    search.step(closure)
    level = chance(criterion(model(x), y).item(), model(x), (x, y), criterion)
    assert level.marginals == pytest.approx(closure().item(), rel=1e-5)
    assert level.uniform == pytest.approx(criterion(torch.zeros(400, 5), y).item(), rel=1e-5)
    for scale, verdict in ((0.1, "pass"), (300.0, "fail")):
        model, *_ = _logits(scale)
        assert line(inspect(model, (x, y), criterion), "loss").verdict == verdict


def test_labels_that_a_function_ignores_are_seen():
    model, x, y = _logits(300.0)
    y[::4] = -1
    for ignored, loss in ((-1, lambda m, b: F.cross_entropy(m(b[0]), b[1], ignore_index=-1)),
                          (0, lambda m, b: F.cross_entropy(m(b[0]), b[1].clamp(min=0), ignore_index=0))):  # fmt: skip
        one = line(inspect(model, (x, y if ignored else y.clamp(min=0)), loss), "loss")
        assert (one.verdict, "entropy of the batch's 5 classes" in one.reason) == ("fail", True)


def test_an_unknown_loss_of_class_numbers_is_warned_of_far_above_ln_k():
    def smoothed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.3)

    for scale, verdict in ((1.0, "pass"), (300.0, "warn")):
        model, x, y = _logits(scale)
        one = line(inspect(model, (x, y), smoothed), "loss")
        assert (one.verdict, "times ln 5; the chance level of this loss is not known" in one.reason) == (verdict, True)


def test_a_net_that_predicts_rare_classes_uniformly_warns_and_does_not_fail():
    x, model = torch.randn(500, 6), nn.Sequential(nn.Linear(6, 2))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    rare = (torch.arange(500) % 50 == 0).long()  # H = 0.098, ln 2 is 7.1 times that
    coins = (rare[:, None].expand(500, 2).float(), F.binary_cross_entropy_with_logits)
    for y, loss in ((rare, CRITERION), (torch.zeros_like(rare), CRITERION), coins):
        one = line(inspect(model, (x, y), loss), "loss")
        assert (one.verdict, "output_bias" in one.fix, "inf" in one.reason) == ("warn", True, False)
        nn.init.normal_(model[0].weight, std=50.0)
        assert line(inspect(model, (x, y), loss), "loss").verdict == "fail"
        nn.init.zeros_(model[0].weight)
    ravine.init.output_bias(model[0], rare)
    assert line(inspect(model, (x, rare), CRITERION), "loss").verdict == "pass"


def test_loss_of_regression_and_of_coins():
    x = torch.randn(256, 6)
    model = nn.Sequential(nn.Linear(6, 2))
    far = line(inspect(model, (x, torch.randn(256, 2) + 10), F.mse_loss), "loss")
    assert (far.verdict, "variance of the batch's targets" in far.reason) == ("fail", True)
    assert line(inspect(model, (x, torch.randn(256, 2)), F.mse_loss), "loss").verdict == "pass"
    coins = inspect(model, (x, torch.randint(2, (256, 2)).float()), F.binary_cross_entropy_with_logits)
    assert "entropy of the batch's labels" in line(coins, "loss").reason
    mine = inspect(model, x, lambda model, x: model(x).abs().mean() + 7)
    assert "not known" in line(mine, "loss").reason


def test_units_are_identical_only_if_their_gradients_are():
    model, (x, y) = mlp(nn.Tanh()), batch()
    model[0].weight.data[5] = model[0].weight.data[3]
    model[0].bias.data[5] = model[0].bias.data[3]
    assert line(inspect(model, (x, y), CRITERION), "identical units", "0").value == 0
    model[2].weight.data[:, 5] = model[2].weight.data[:, 3]
    one = line(inspect(model, (x, y), CRITERION), "identical units", "0")
    assert (one.value, one.verdict) == (1, "fail")


def test_an_output_that_begins_at_zero_warns_and_a_branch_that_ends_at_zero_passes():
    model = mlp(nn.Tanh())
    nn.init.zeros_(model[2].weight)
    found = inspect(model, batch(), CRITERION)
    assert found.verdict == "warn"
    assert "nothing arrives yet" in line(found, "gradient std", "0").reason

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b, self.head = (nn.Linear(*s) for s in ((6, 16), (16, 16), (16, 16), (16, 4)))
            nn.init.zeros_(self.b.weight)
            nn.init.zeros_(self.b.bias)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(x + self.b(self.a(x).relu()))

    assert inspect(Branch(), batch(), CRITERION).verdict == "pass"


class Residual(nn.Module):
    """Two branches without normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 32)
        self.a, self.b = (nn.ModuleList(nn.Linear(32, 32) for _ in range(2)) for _ in range(2))
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for a, b in zip(self.a, self.b, strict=True):
            x = x + b(a(x).relu())
        return self.head(x)


def test_fixup_waits_and_does_not_fail():
    """A zero output and branches that end at zero: nothing arrives before the first step, and then everything does."""
    model, (x, y) = Residual(), batch()
    ravine.init.apply(model, "fixup", generator=torch.Generator().manual_seed(0), example=x)
    assert not model.head.weight.any()
    assert not model.b[0].weight.any()
    found = inspect(model, (x, y), CRITERION)
    assert found.verdict == "warn", str(found)
    assert "nothing arrives yet" in line(found, "activation std", "b.0").reason
    assert "nothing arrives yet" in line(found, "identical units", "b.1").reason
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        CRITERION(model(x), y).backward()
        optimizer.step()
    found = inspect(model, (x, y), CRITERION)
    assert not [one for one in found.wrong if one.name == "identical units"], str(found)
    flat = mlp(nn.Tanh())
    nn.init.zeros_(flat[0].weight)  # a hidden layer at zero before an output that is not: that is sick
    assert line(inspect(flat, (x, y), CRITERION), "activation std", "0").verdict != "warn"


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.reentrant = reentrant

    def body(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.b(x))[:, None]
        return torch.relu(self.attention(h, h, h)[0][:, 0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        if self.reentrant is None:
            return self.c(self.body(x))
        return self.c(checkpoint(self.body, x, use_reentrant=self.reentrant))


def test_activation_checkpointing_changes_nothing():
    plain, saving, given = Checkpointed(None), Checkpointed(False), batch()
    saving.load_state_dict(plain.state_dict())
    before = everything(saving)
    assert inspect(saving, given, CRITERION).content() == inspect(plain, given, CRITERION).content()
    assert everything(saving) == before
    first, second = (ravine.init.search(model, given, CRITERION) for model in (plain, saving))
    assert str(first) == str(second)
    assert hash_tensors(plain.state_dict()) == hash_tensors(saving.state_dict())
    with pytest.raises(RavineError, match="take use_reentrant=False"):
        inspect(Checkpointed(True), given, CRITERION)


def test_inspect_and_search_do_the_same_under_inference_mode():
    model, given = mlp(nn.Tanh()), batch()
    expected = inspect(model, given, CRITERION).content()
    other = copy.deepcopy(model)
    ravine.init.search(model, given, CRITERION)
    with torch.inference_mode():
        made_inside = tuple(t.clone() for t in given)
        assert inspect(other, made_inside, CRITERION).content() == expected
        ravine.init.search(other, made_inside, CRITERION)
        with pytest.raises(RavineError, match=r"weight was made under torch\.inference_mode"):
            inspect(mlp(nn.Tanh()), given, CRITERION)
    assert hash_tensors(model.state_dict()) == hash_tensors(other.state_dict())


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.LSTM, 4), (nn.GRU, 3)])
def test_gradients_through_time_are_those_of_the_jacobian(kind, gates):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = kind(3, 5, num_layers=2, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][:, -1])

    model, x = Model().double(), torch.randn(64, 7, 3, dtype=torch.float64)
    found = inspect(model, (x, torch.randint(2, (64,))), CRITERION)
    assert [one.name for one in found.time] == ["layer.l0", "layer.l1"]

    def rest(state: Tensor, steps: Tensor) -> Tensor:
        """From the state of the first layer after step 1 to that after the last, for one example."""
        one = kind(3, 5, batch_first=True).double()
        parts = tuple(s[None] for s in state.split(5))
        hx = parts if kind is nn.LSTM else parts[0]
        weights = {n: p.detach() for n, p in model.layer.named_parameters() if n.endswith("l0")}
        _, last = torch.func.functional_call(one, weights, (steps, hx))
        return torch.cat([s[0] for s in last]) if kind is nn.LSTM else last[0]

    squares = []
    for steps in x:
        first = rest(torch.zeros(10 if kind is nn.LSTM else 5, dtype=torch.float64), steps[:1])
        squares.append(torch.autograd.functional.jacobian(lambda s, t=steps: rest(s, t[1:]), first).square().sum())
    exact = math.sqrt(sum(squares).item() / len(squares) / len(first))
    # 4 x 64 random directions: a standard error of a few percent; 25 % is more than four of them
    assert found.time[0].ratio == pytest.approx(exact, rel=0.25)
    states = model.layer(x)[0].detach()
    assert found.time[1].std == pytest.approx(states.std((0, 2), correction=0).tolist(), rel=1e-9)


def test_cells_are_looked_at_through_time():
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.RNNCell(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 8)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return self.head(h)

    model = Steps()
    nn.init.orthogonal_(model.cell.weight_hh)
    model.cell.weight_hh.data.mul_(3)
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        nn.init.zeros_(getattr(model.cell, name))
    found = inspect(model, (torch.randn(32, 10, 3), torch.randint(2, (32,))), CRITERION)
    assert found.time[0].ratio == pytest.approx(3**9, rel=1e-4)  # at 0 tanh is linear, and W/3 orthogonal
    assert line(found, "through time", "cell").verdict == "fail"


# ---------------------------------------------------------------- left as it was


def everything(model: nn.Module) -> tuple:
    grads = [None if p.grad is None else hash_tensors([p.grad]) for p in model.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    needs = [p.requires_grad for p in model.parameters()]
    return hash_tensors(model.state_dict()), grads, hooks, modes, needs, hash_tensors([torch.get_rng_state()])


@pytest.mark.parametrize("name", [*starts.HEALTHY, *starts.SICK])
def test_models_are_left_as_they_were(name):
    task = getattr(starts, name)()
    model = task.model()
    for module in list(model.modules())[1::3]:
        module.eval()
    x, y = (t[:48] for t in task.train)
    task.loss(model, (x, y)).backward()
    next(model.parameters()).grad = None
    before = everything(model)
    inspect(model, (x, y), task.loss)
    assert everything(model) == before
    with pytest.raises(RavineError, match="whole numbers in it run from"):
        inspect(model, (x, y + 100), task.loss)
    assert everything(model) == before


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "quadratic"])
def test_built_in_tasks_are_left_as_they_were(name):
    task = ravine.task(name)
    model = task.model()
    before = everything(model)
    if name == "quadratic":
        given = torch.zeros(1, 50)
        assert inspect(model, given, task.loss).verdict == "warn"
    else:
        assert inspect(model, tuple(t[:128] for t in task.train), task.loss).verdict == "pass"
    assert everything(model) == before


def test_what_a_model_raises_midway_leaves_it_as_it_was():
    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn = nn.Linear(6, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            self.bn(self.a(x))
            self.eval()
            raise KeyboardInterrupt

    model, given = Stops(), batch()
    before = everything(model)
    with pytest.raises(KeyboardInterrupt):
        inspect(model, given, CRITERION)
    assert everything(model) == before


@pytest.mark.parametrize(
    ("model", "given", "loss", "message"),
    [
        (nn.LazyLinear(4), batch(), CRITERION, "is lazy"),
        (nn.Linear(6, 4, device="meta"), batch(), CRITERION, "meta device"),
        (nn.Linear(5, 4), batch(), CRITERION, r"model and loss do not take this batch \(\(128, 6\) float32"),
        (nn.Linear(6, 4), batch(), nn.CrossEntropyLoss(reduction="none"), r"must be a scalar tensor.*\(128,\)"),
        (nn.Linear(6, 4), batch()[0], CRITERION, r"a criterion needs a batch \(inputs, targets\), got a Tensor"),
        (nn.Linear(6, 4), batch(), None, r"inspect needs a loss .* got None"),
        (nn.Linear(6, 4), batch(), lambda z, y: F.cross_entropy(z, y), r"called as loss\(model, batch\): for one"),
    ],
)  # fmt: skip
def test_what_cannot_be_inspected_is_refused(model, given, loss, message):
    with pytest.raises(RavineError, match=message):
        inspect(model, given, loss)


def test_a_model_that_gives_nan_fails():
    model = mlp(nn.Tanh())
    model[0].weight.data.fill_(1e38)
    found = inspect(model, batch(), CRITERION)
    assert line(found, "activation std", "0").verdict == "fail"
    assert "has grown too large" in line(found, "activation std", "0").reason
    model[0].weight.data.normal_()
    model[2].bias.data.fill_(math.nan)
    found = inspect(model, batch(), CRITERION)
    for one in (line(found, "loss"), line(found, "activation std", "2"), line(found, "gradient std", "0")):
        assert (one.verdict, "there are NaN or infinite numbers in 2.bias" in one.reason) == ("fail", True)
        assert one.fix == "initialize anew: 2.bias"


def test_limits_are_nested_and_judged():
    for name, limit in LIMITS.items():
        assert limit.fails[0] <= limit.passes[0] <= limit.passes[1] <= limit.fails[1], name
        assert limit.why
        assert judge(name, math.nan) == "fail"
    assert [judge("dead", value) for value in (0.0, 0.2, 0.21, 0.8, 0.81)] == ["pass", "pass", "warn", "warn", "fail"]
    assert (worst([]), worst(["warn", "pass"]), worst(["warn", "fail"])) == ("pass", "warn", "fail")
