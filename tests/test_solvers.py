"""Solvers as optimizers of networks: what step takes and refuses, what a checkpoint keeps."""

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ravine import solvers
from ravine.core.errors import RavineError
from ravine.solvers import Direction, Solver

ROOM = [name for name, one in Direction.family().items() if one.__module__.startswith("ravine.solvers")]
NETWORK = [name for name in ROOM if not Direction.registry[name].needs & {"outputs", "residuals"}]
SPECS = [
    *NETWORK, "lbfgs(damped=true, search='armijo')", "lbfgs(search='fixed')", "newton_cg(search='trust_region')",
    "saddle_free(subspace=3)", "cg(beta='hager_zhang', search='hager_zhang')", "coordinate(blocks='tensor')",
]  # fmt: skip


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def batch(i: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(i)
    return torch.randn(20, 3, generator=g).double(), torch.randn(20, 2, generator=g).double()


def loss(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    return ((model(data[0]) - data[1]) ** 2).mean() + 0.01 * sum(p.square().sum() for p in model.parameters())


def made(model: nn.Module, spec: str) -> Solver:
    return Solver(model.named_parameters(), spec, lr=0.05 if "fixed" in spec else 1.0)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("spec", SPECS)
def test_a_run_that_is_saved_and_loaded_continues_to_the_bit(spec: str) -> None:
    model = net()
    opt = made(model, spec)
    for i in range(4):
        opt.step(lambda i=i: loss(model, batch(i)))
    file = io.BytesIO()
    torch.save([opt.state_dict(), model.state_dict()], file)
    file.seek(0)
    saved, weights = torch.load(file, weights_only=True)
    again = net(1)
    again.load_state_dict(weights)
    resumed = made(again, spec)
    resumed.load_state_dict(saved)
    for i in range(4, 8):
        assert torch.equal(opt.step(lambda i=i: loss(model, batch(i))), resumed.step(lambda i=i: loss(again, batch(i))))
    assert same(model, again)
    assert (opt.evaluations, opt.products) == (resumed.evaluations, resumed.products)


@pytest.mark.parametrize("spec", SPECS)
def test_every_solver_lowers_the_loss_and_leaves_gradients_alone(spec: str) -> None:
    model, data = net(), batch()
    marks = [torch.full_like(p, 7.0) for p in model.parameters()]
    for p, mark in zip(model.parameters(), marks, strict=True):
        p.grad = mark.clone()
    opt = made(model, spec)
    first = opt.step(lambda: loss(model, data))
    last = first
    for _ in range(14):
        last = opt.step(lambda: loss(model, data))
    assert float(last) < 0.9 * float(first)
    assert all(torch.equal(p.grad, mark) for p, mark in zip(model.parameters(), marks, strict=True))
    assert opt.evaluations >= 15
    assert (opt.products > 0) == ("product" in opt.method.needs)


def test_the_returned_loss_is_the_one_before_the_step() -> None:
    model, data = net(), batch()
    before = loss(model, data).detach()
    assert torch.equal(solvers.LBFGS(model.parameters()).step(lambda: loss(model, data)), before)


def test_lbfgs_is_the_two_loop_recursion() -> None:
    """Against the recursion as it stands in the book, on pairs kept in a list, in float64."""
    H = torch.diag(torch.linspace(1, 30, 9)).double() + 0.3
    p = torch.nn.Parameter(torch.linspace(-1, 2, 9).double())
    opt = Solver([p], "lbfgs(history=3, search='fixed')", lr=0.02)
    x, history = p.detach().clone(), []
    for _ in range(8):
        opt.step(lambda: 0.5 * p @ H @ p + p.cos().sum())
        g = H @ x - x.sin()
        q, alphas = g.clone(), []
        for s, y in reversed(history[-3:]):
            alphas.append((s @ q) / (s @ y))
            q = q - alphas[-1] * y
        if history:
            s, y = history[-1]
            q = q * (s @ y) / (y @ y)
        for (s, y), a in zip(history[-3:], reversed(alphas), strict=True):
            q = q + s * (a - (y @ q) / (s @ y))
        new = x - 0.02 * q
        history.append((new - x, (H @ new - new.sin()) - g))
        x = new
        assert torch.allclose(p.detach(), x, rtol=0, atol=1e-12)


def test_a_closure_that_called_backward_is_the_same_where_gradients_suffice() -> None:
    a, b, data = net(), net(), batch()
    one, two = Solver(a.parameters(), "lbfgs"), Solver(b.parameters(), "lbfgs")

    def backward() -> Tensor:
        two.zero_grad()
        value = loss(b, data)
        value.backward()
        return value

    for _ in range(5):
        one.step(lambda: loss(a, data))
        two.step(backward)
    assert same(a, b)


@pytest.mark.parametrize("spec", [name for name in NETWORK if "product" in Direction.registry[name].needs])
def test_a_closure_that_called_backward_is_refused_where_products_are_needed(spec: str) -> None:
    model, data = net(), batch()
    before = copy.deepcopy(model)

    def backward() -> Tensor:
        value = loss(model, data)
        value.backward()
        return value

    with pytest.raises(RavineError, match=r"has called backward\(\), after which .* cannot multiply by the Hessian"):
        Solver(model.parameters(), spec).step(backward)
    assert same(model, before)


def test_products_are_those_of_the_hessian() -> None:
    model, data = net(), batch()
    opt = Solver(model.parameters(), "newton")
    opt.problem.closure = lambda: loss(model, data)
    point = opt.problem.evaluate(opt.problem.read())
    names = [name for name, _ in model.named_parameters()]

    def flat(x: Tensor) -> Tensor:
        parts = torch.split(x, [p.numel() for p in model.parameters()])
        values = {n: v.view_as(p) for n, v, p in zip(names, parts, model.parameters(), strict=True)}
        out = torch.func.functional_call(model, values, (data[0],))
        return ((out - data[1]) ** 2).mean() + 0.01 * x @ x

    assert torch.allclose(opt.problem.hessian(point).dense(), torch.func.hessian(flat)(point.x), atol=1e-12)
    assert opt.products == opt.problem.size


def test_damped_pairs_keep_the_curvature_positive_on_minibatches() -> None:
    """s'y >= s'B0 s / 4 of every kept pair, however concave the loss is."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 6).double())
    opt = Solver([p], "lbfgs(damped=true, search='fixed')", lr=0.05)
    for i in range(12):
        opt.step(lambda i=i: (torch.cos(3 * p + i) - 0.1 * p**2).sum())
    gram = opt.memory["small_gram"]
    for slot in opt.memory["order"]:
        assert float(gram[2 * slot, 2 * slot + 1]) > 0
    assert len(opt.memory["order"]) == 12


def test_what_lies_under_32_bits_or_in_several_groups_is_refused() -> None:
    with pytest.raises(RavineError, match=r"works in float32 or float64, but parameter '0' is torch\.bfloat16"):
        solvers.LBFGS([torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))])
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(RavineError, match="give one param group, got 2"):
        solvers.LBFGS([{"params": [a]}, {"params": [b]}])
    with pytest.raises(RavineError, match="got 'lr': give it to the solver itself"):
        solvers.LBFGS([{"params": [a], "lr": 0.1}])
    opt = solvers.LBFGS([a])
    with pytest.raises(RavineError, match="give them all when it is made"):
        opt.add_param_group({"params": [b]})
    with pytest.raises(RavineError, match="got no parameters"):
        solvers.LBFGS(iter(()))
    with pytest.raises(RavineError, match="none of the parameters requires a gradient"):
        solvers.LBFGS([a.detach()])


def test_lr_is_honoured_or_refused() -> None:
    p = torch.nn.Parameter(torch.tensor([2.0]).double())
    opt = Solver([p], "steepest_descent(search='fixed')", lr=0.25)
    opt.step(lambda: 0.5 * (p**2).sum())
    assert float(p.detach()) == 1.5
    opt.param_groups[0]["lr"] = 0.5
    opt.step(lambda: 0.5 * (p**2).sum())
    assert float(p.detach()) == 0.75
    with pytest.raises(RavineError, match=r"has no use for lr=0\.1"):
        solvers.LBFGS([p], lr=0.1)
    opt = solvers.LBFGS([p])
    opt.param_groups[0]["lr"] = 0.1
    with pytest.raises(RavineError, match=r"has no use for lr=0\.1"):
        opt.step(lambda: (p**2).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, x: lambda: m(x), r"must return the loss, .* got a tensor of shape \(20, 2\)"),
        (lambda m, x: lambda: None, "must return the loss, a tensor of one number, got NoneType"),
        (lambda m, x: lambda: m(x).sum().detach(), "does not depend on the parameters"),
        (lambda m, x: lambda: nn.functional.dropout(m(x), 0.5).square().mean(), "bernoulli_ draws random numbers"),
        (lambda m, x: lambda: m(x).mean() / 0, "the loss or its gradient is not finite at the start"),
        (lambda m, x: None, "needs a closure that returns the loss"),
        (lambda m, x: lambda: m(x).sum() * 1j, r"a real number, got one of torch\.complex128"),
    ],
)
def test_a_closure_that_is_no_good_changes_nothing(make: Any, message: str) -> None:
    model = net()
    before = copy.deepcopy(model)
    opt = solvers.LBFGS(model.parameters())
    with pytest.raises(RavineError, match=message):
        opt.step(make(model, batch()[0]))
    assert same(model, before)
    assert float(opt.step(lambda: loss(model, batch()))) > 0


def test_a_batch_at_every_call_is_told() -> None:
    model, batches = net(), iter([batch(i) for i in range(9)])
    with pytest.raises(RavineError, match="each call sees other data"):
        solvers.LBFGS(model.parameters()).step(lambda: loss(model, next(batches)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("solver"), "it lacks 'solver'"),
        (lambda s: s.update(solver="cg"), "the checkpoint is of 'cg', but this solver is 'lbfgs'"),
        (lambda s: s["param_groups"][0].update(shapes=[[9]]), "parameters of shapes"),
        (lambda s: s["state"][0].update(pairs=torch.zeros(2, 5).double()), r"the checkpoint's 'pairs' is \(2, 5\)"),
        (lambda s: s["param_groups"][0].update(lr=0.3), "has no use for lr=0.3"),
    ],
)
def test_a_load_that_fails_leaves_the_solver_as_it_was(change: Any, message: str) -> None:
    model, data = net(), batch()
    opt = solvers.LBFGS(model.parameters())
    for _ in range(3):
        opt.step(lambda: loss(model, data))
    before = opt.state_dict()
    broken = copy.deepcopy(before)
    change(broken)
    with pytest.raises(RavineError, match=message):
        opt.load_state_dict(broken)
    after = opt.state_dict()
    assert str(after) == str(before)
    assert torch.equal(after["state"][0]["pairs"], before["state"][0]["pairs"])


def test_dense_solvers_are_refused_above_5000_parameters() -> None:
    p = torch.nn.Parameter(torch.ones(5001))
    heirs = {"newton": "newton_cg", "bfgs": "lbfgs", "saddle_free": "subspace", "coordinate": "tensor"}
    for spec, instead in heirs.items():
        with pytest.raises(RavineError, match=f"at most 5,000 parameters, got 5,001: .*{instead}"):
            Solver([p], spec)
    Solver([p], "saddle_free(subspace=5)")
    Solver([p], "coordinate(blocks='tensor')")


def test_drop_ins_have_the_arguments_of_their_specs() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    for name in NETWORK:
        named = {one for one in vars(solvers).values() if inspect.isclass(one) and issubclass(one, Solver)}
        (drop_in,) = (one for one in named if one.kind == name)
        assert set(Direction.registry[name].arguments_of_specs()) <= set(inspect.signature(drop_in).parameters)
        assert str(drop_in([p]).spec) == name
    opt = solvers.LBFGS([p], history=3, search="armijo", lr=0.5)
    assert str(opt.spec) == "lbfgs(search='armijo', history=3, lr=0.5)"
    with pytest.raises(RavineError, match="unknown argument of solver 'lbfgs' 'histroy': did you mean 'history'"):
        solvers.LBFGS([p], histroy=3)


def test_several_iterations_of_one_step_are_several_steps() -> None:
    a, b, data = net(), net(), batch()
    one, many = Solver(a.parameters(), "lbfgs"), Solver(b.parameters(), "lbfgs", iterations=5)
    for _ in range(5):
        one.step(lambda: loss(a, data))
    many.step(lambda: loss(b, data))
    assert same(a, b)
    assert many.evaluations == one.evaluations - 4


def test_a_closure_that_sums_up_gradients_is_told() -> None:
    model, data = net(), batch()
    before = copy.deepcopy(model)

    def backward() -> Tensor:
        value = loss(model, data)
        value.backward()
        return value

    with pytest.raises(RavineError, match=r"Call zero_grad in the closure before backward\(\)"):
        solvers.LBFGS(model.parameters()).step(backward)
    assert same(model, before)


def test_a_parameter_that_was_frozen_since_is_named() -> None:
    model, data = net(), batch()
    opt = solvers.LBFGS(model.named_parameters())
    opt.step(lambda: loss(model, data))
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model)
    with pytest.raises(RavineError, match=r"parameter '0\.weight' was frozen after lbfgs was made"):
        opt.step(lambda: loss(model, data))
    assert same(model, before)
    model[0].weight.requires_grad_(True)
    opt.step(lambda: loss(model, data))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("spec", SPECS)
def test_a_copy_of_model_and_solver_goes_on_as_they_do(spec: str, copied: Any) -> None:
    model = net()
    opt = made(model, spec)
    for i in range(3):
        opt.step(lambda i=i: loss(model, batch(i)))
    other, its = copied((model, opt))
    for i in range(3, 6):
        assert torch.equal(opt.step(lambda i=i: loss(model, batch(i))), its.step(lambda i=i: loss(other, batch(i))))
    assert same(model, other)
    its.step(lambda: loss(other, batch(9)))
    assert not same(model, other)
    assert its.evaluations > opt.evaluations


def test_blocks_may_be_layers() -> None:
    model, data = net(), batch()
    by_layer = solvers.Coordinate(model.named_parameters(), blocks="layer")
    named = solvers.Coordinate(model.named_parameters(), blocks="2; 0.bias, 0.weight")
    assert [one.tolist() for one in by_layer.method.places(by_layer.problem)] == [[*range(16)], [*range(16, 26)]]
    assert [sorted(one.tolist()) for one in named.method.places(named.problem)] == [[*range(16, 26)], [*range(16)]]
    assert float(by_layer.step(lambda: loss(model, data))) > float(by_layer.step(lambda: loss(model, data)))
    with pytest.raises(RavineError, match=r"give model\.named_parameters\(\)"):
        solvers.Coordinate(model.parameters(), blocks="layer")
    with pytest.raises(RavineError, match="10 of 26 parameters are in no block"):
        solvers.Coordinate(model.named_parameters(), blocks="0")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: solvers.LBFGS(m), r"not a module: write model\.parameters\(\)"),
        (lambda m: solvers.LBFGS(m[0].weight), r"in a list, not a tensor: write \[tensor\]"),
        (lambda m: solvers.LBFGS(3), r"is given parameters, as model\.parameters\(\), got 3"),
        (lambda m: solvers.LBFGS(m.parameters(), 0.1), r"give arguments by name, as in lr=0\.1; .* there is 0\.1"),
        (lambda m: solvers.KFAC(m, 0.1), "give arguments by name"),
        (lambda m: solvers.LBFGS(m.parameters(), max_iter=3), "max_iter= is torch's name; here it is iterations="),
        (lambda m: solvers.LBFGS(m.parameters(), line_search_fn="strong_wolfe"), "here it is search="),
        (lambda m: solvers.LBFGS(m.parameters()).step(), r"needs a closure that returns the loss: step\(closure\)"),
    ],
)
def test_what_torch_has_otherwise_is_told(make: Any, message: str) -> None:
    with pytest.raises(RavineError, match=message):
        make(net())


def test_a_search_may_be_an_object_and_a_solver_shows_what_it_is() -> None:
    opt = solvers.LBFGS(net().parameters(), history=7, search=solvers.StrongWolfe(c2=0.5))
    assert str(opt.method) == "lbfgs(search='strong_wolfe(c2=0.5)', history=7)"
    shown = "LBFGS(lbfgs(search='strong_wolfe(c2=0.5)', history=7, damped=false), lr=1, iterations=1: "
    assert repr(opt).startswith(shown)
    assert "26 parameters of torch.float64" in repr(opt)


@pytest.mark.parametrize("spec", ["newton(search='trust_region')", "newton_cg(search='trust_region')"])
def test_a_trust_region_goes_on_after_it_has_converged(spec: str) -> None:
    """Of a linear fit: 60 steps, far more than it takes, and then other targets."""
    torch.manual_seed(0)
    model, (x, y) = nn.Linear(3, 2).double(), batch()
    opt = Solver(model.parameters(), spec)
    for _ in range(60):
        opt.step(lambda: ((model(x) - y) ** 2).mean())
    assert opt.reason
    assert opt.memory["radius"] > 0.1
    for _ in range(8):
        last = opt.step(lambda: ((model(x) + y) ** 2).mean())
    wide = torch.cat([x, torch.ones(20, 1).double()], 1)
    least = (wide @ torch.linalg.lstsq(wide, -y).solution + y).square().mean()
    assert float(last) == pytest.approx(float(least), rel=1e-9)


def test_newton_cg_keeps_to_the_products_that_it_may_take() -> None:
    model, data = net(), batch()
    for spec in ("newton_cg(most=2)", "newton_cg(most=2, search='trust_region')"):
        opt = Solver(model.parameters(), spec)
        opt.step(lambda: loss(model, data))
        assert opt.products <= 2 + ("trust" in spec) * (opt.evaluations - 1)
