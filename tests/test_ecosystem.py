"""Where people train: the examples run and learn, and frameworks save, wrap and step the optimizer without a change.

Frameworks come with `pip install "ravine[ecosystem]"` and `"ravine[timm]"`; what is not installed is skipped.
"""

import copy
import importlib
import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.execution import cannot_compile
from ravine.optim import AdamW
from ravine.rules import Adam, Decay, Momentum, Nesterov
from ravine.schedules import cosine, warmup

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {
    "lightning_module": "lightning", "hf_trainer": "transformers", "accelerate_loop": "accelerate",
    "timm_script": "timm", "compiled_model": "", "activation_checkpointing": "", "mixed_precision": "",
}  # fmt: skip


@cache
def framework(name: str) -> ModuleType | str:
    """The module, or why it cannot be imported: its own dependencies may not fit this torch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except Exception as error:
        return f"{name} cannot be imported: {type(error).__name__}: {error}"


def needed(name: str) -> Any:
    found = framework(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


# ---------------------------------------------------------------- the examples


@pytest.mark.parametrize("name", NEEDS)
def test_the_example_runs_and_learns(name: str) -> None:
    if NEEDS[name]:
        needed(NEEDS[name])
    if name == "compiled_model" and (reason := cannot_compile("cpu")):
        pytest.skip(reason)
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=one_thread)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(accuracy|loss) (\d+\.\d+) -> (\d+\.\d+)", done.stdout)
    assert found, done.stdout
    for what, before, after in found:
        learned = float(after) > 0.75 > 0.3 > float(before) if what == "accuracy" else float(after) < float(before) / 2
        assert learned, done.stdout
    for claim in {"activation_checkpointing": ["bit: True"], "compiled_model": ["at step 200"]}.get(name, []):
        assert claim in done.stdout


def test_every_example_is_run_by_a_test() -> None:
    elsewhere = {"cancer", "starts", "strategies"}  # in test_race.py, test_init_cli.py and test_pretrain.py
    assert {file.stem for file in EXAMPLES.glob("*.py")} == NEEDS.keys() | elsewhere


def test_the_page_shows_lines_of_the_examples_and_links_each() -> None:
    page = (EXAMPLES.parent / "docs" / "ecosystem.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(shown) >= 6
    sources = {name: (EXAMPLES / f"{name}.py").read_text() for name in NEEDS}
    for lines in shown:
        assert any(lines in source for source in sources.values()), f"in no example:\n{lines}"
    assert not [name for name in NEEDS if f"(../examples/{name}.py)" not in page]


# ---------------------------------------------------------------- what they share


def made(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def by_role(model: nn.Module, **more: Any) -> ravine.Optimizer:
    """Two rules in two groups, each with its own schedule."""
    hidden = {"rule": Momentum(0.9), "lr": 0.05, "schedule": cosine(20)}
    rest = {"rule": ravine.chain(Adam(), Decay(0.1)), "lr": 0.01, "schedule": warmup(5)}
    return ravine.Optimizer(ravine.groups(model, hidden=hidden, rest=rest), **more)


def batch(k: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x = torch.randn(16, 6, dtype=dtype, generator=torch.Generator().manual_seed(k))
    return x, torch.stack([x[:, 0] * x[:, 1], x[:, 2]], 1)


def loss_of(model: nn.Module, k: int) -> Tensor:
    x, y = batch(k, next(model.parameters()).dtype)
    return (model(x) - y).square().mean()


def run(model: nn.Module, optimizer: Any, steps: range, *schedulers: Any) -> None:
    for k in steps:
        optimizer.zero_grad()
        loss_of(model, k).backward()
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def data(steps: int) -> DataLoader:
    """The batches of `batch`, in order."""
    x, y = (torch.cat(parts) for parts in zip(*map(batch, range(steps)), strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=16)


# ---------------------------------------------------------------- torch's own


@pytest.mark.skipif(bool(cannot_compile("cpu")), reason="torch.compile needs a compiler")
def test_a_compiled_model_trains_to_the_numbers_of_the_plain_one() -> None:
    plain, inner = made().double(), made().double()
    model = torch.compile(inner)
    optimizers = by_role(plain), by_role(model)
    run(plain, optimizers[0], range(10))
    run(model, optimizers[1], range(10))
    for p, q in zip(plain.parameters(), inner.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    names = [[group["param_names"] for group in optimizer.param_groups] for optimizer in optimizers]
    assert names[0] == names[1]


def test_a_step_inside_a_compiled_function_is_taken_as_it_is() -> None:
    plain, compiled = made(), made()
    one, other = by_role(plain), by_role(compiled)
    step = torch.compile(other.step, backend="eager")
    run(plain, one, range(4))
    for k in range(4):
        other.zero_grad()
        loss_of(compiled, k).backward()
        step()
    assert same(plain, compiled)


@pytest.mark.parametrize("into", ["plain", "wrapped"])
def test_a_checkpoint_moves_between_a_wrapped_model_and_a_plain_one(into: str) -> None:
    one, other = made(), made()
    wrapped = torch.compile(one, backend="eager")
    first, second = by_role(wrapped), by_role(other)
    models = {"plain": (one, first, other, second), "wrapped": (other, second, one, first)}
    source, saver, target, loader = models[into]
    run(source, saver, range(5))
    target.load_state_dict(source.state_dict())
    loader.load_state_dict(copy.deepcopy(saver.state_dict()))
    for model, optimizer in ((source, saver), (target, loader)):
        run(model, optimizer, range(5, 9))
    assert same(source, target)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_no_gradient_and_no_step(reentrant: bool) -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = made()

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = checkpoint(layer, x.requires_grad_(), use_reentrant=reentrant)
            return x

    plain, saving = made(), Saving()
    for model in (plain, saving):
        run(model, by_role(model), range(6))
    assert same(plain, saving)
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_a_scaler_that_is_off_changes_nothing_under_autocast() -> None:
    plain, scaled = made(), made()
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    one, other = by_role(plain), by_role(scaled)
    for k in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            losses = loss_of(plain, k), loss_of(scaled, k)
        one.zero_grad()
        other.zero_grad()
        losses[0].backward()
        scaler.scale(losses[1]).backward()
        scaler.unscale_(other)
        one.step()
        scaler.step(other)
        scaler.update()
    assert same(plain, scaled)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_the_state_that_torch_distributed_saves_goes_on_to_the_bit() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    one, other = made(), made(1)
    first, second = by_role(one), by_role(other)
    run(one, first, range(4))
    saved = copy.deepcopy(get_optimizer_state_dict(one, first))
    assert saved["state"].keys() == dict(one.named_parameters()).keys()
    other.load_state_dict(one.state_dict())
    set_optimizer_state_dict(other, second, saved)
    run(one, first, range(4, 8))
    run(other, second, range(4, 8))
    assert same(one, other)


def test_one_cycle_leaves_momentum_alone_in_groups_that_call_it_by_different_names() -> None:
    model = made()
    optimizer = by_role(model)
    scheduler = OneCycleLR(optimizer, [0.05, 0.01], 10, cycle_momentum=False)
    run(model, optimizer, range(9), scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-7, 4e-8], rel=1e-6)
    assert (optimizer.param_groups[0]["momentum"], optimizer.param_groups[1]["betas"]) == (0.9, (0.9, 0.999))


def test_one_cycle_says_that_it_cannot_cycle_groups_that_call_momentum_by_different_names() -> None:
    with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
        OneCycleLR(by_role(made()), [0.05, 0.01], 10)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_a_checkpoint_by_name_is_read_whatever_wrapped_the_model(prefix: str) -> None:
    wrapped = [(prefix + name, p) for name, p in made().named_parameters()]
    plain = ravine.Optimizer(made().named_parameters(), Adam())
    plain.load_state_dict(ravine.Optimizer(wrapped, Adam()).state_dict())
    again = ravine.Optimizer(wrapped, Adam())
    again.load_state_dict(plain.state_dict())


def test_groups_may_bring_the_factor_that_timms_schedulers_read() -> None:
    optimizer = AdamW([{"params": made().parameters(), "lr_scale": 0.5}])
    assert optimizer.param_groups[0]["lr_scale"] == 0.5


# ---------------------------------------------------------------- Lightning


@dataclass(frozen=True)
class LossScaled(Rule, register=False):
    """The gradient times the loss, to see which loss a framework tells."""

    name = "loss_scaled"
    needs = frozenset({"loss"})
    default_lr = 0.01

    def update(self, g: Tensor, p: Tensor, t: Any, **state: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return g * state["loss"], {}


@pytest.fixture
def loss_scaled(monkeypatch: pytest.MonkeyPatch) -> LossScaled:
    """The rule, known by its name while a test runs."""
    monkeypatch.setitem(Rule.registry, LossScaled.name, LossScaled)
    return LossScaled()


def lightning_module(net: nn.Module, configured: Any, training_step: Any = None) -> Any:
    """A module that trains `net` on `batch`."""

    class Module(needed("lightning").LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, k: int) -> Any:
            x, y = batch
            loss = (self.net(x) - y).square().mean()
            return training_step(self, loss, k) if training_step else loss

        def configure_optimizers(self) -> Any:
            return configured(self.net)

    return Module()


def lightning_trainer(folder: Path, epochs: int, **more: Any) -> Any:
    return needed("lightning").Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder, **more,
    )  # fmt: skip


def one_cycle(net: nn.Module) -> dict[str, Any]:
    optimizer = ravine.Optimizer(net.parameters(), ravine.chain(Adam(), Decay(0.1)), lr=0.01)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": OneCycleLR(optimizer, 0.02, total_steps=20), "interval": "step"},
    }


of_lightning = pytest.mark.filterwarnings(  # of itself, not of us
    "ignore:.*isinstance.treespec, LeafSpec:",
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:`training_step` returned `None`",
)


@of_lightning
@pytest.mark.parametrize("configured", [by_role, one_cycle], ids=["ravine's schedule", "torch's scheduler"])
def test_lightning_goes_on_from_its_checkpoint_to_the_bit(tmp_path: Path, configured: Any) -> None:
    whole, half, rest = (lightning_module(made(seed), configured) for seed in (0, 0, 1))
    lightning_trainer(tmp_path, 4).fit(whole, data(5))
    first = lightning_trainer(tmp_path, 2)
    first.fit(half, data(5))
    first.save_checkpoint(tmp_path / "half.ckpt")
    second = lightning_trainer(tmp_path, 4)
    second.fit(rest, data(5), ckpt_path=tmp_path / "half.ckpt")
    assert second.optimizers[0].param_groups[0]["steps"] == 20
    assert same(whole, rest)
    plain = made()
    found = configured(plain)
    optimizer = found["optimizer"] if isinstance(found, dict) else found
    schedulers = [found["lr_scheduler"]["scheduler"]] if isinstance(found, dict) else []
    for _ in range(4):
        run(plain, optimizer, range(5), *schedulers)
    assert same(whole.net, plain), "and does what one's own loop does"


@of_lightning
def test_lightning_tells_the_loss_by_its_closure(tmp_path: Path, loss_scaled: LossScaled) -> None:
    module = lightning_module(made(), lambda net: ravine.Optimizer(net.parameters(), loss_scaled))
    lightning_trainer(tmp_path, 1).fit(module, data(5))
    plain = made()
    optimizer = ravine.Optimizer(plain.parameters(), loss_scaled)
    for k in range(5):

        def closure(k: int = k) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(plain, k)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(module.net, plain)


@of_lightning
def test_lightning_steps_without_gradients_where_a_training_step_returns_none(tmp_path: Path) -> None:
    module = lightning_module(made(), by_role, lambda module, loss, k: loss if k % 2 == 0 else None)
    trainer = lightning_trainer(tmp_path, 1)
    trainer.fit(module, data(5))
    plain = made()
    optimizer = by_role(plain)
    for k in range(5):
        optimizer.zero_grad()
        if k % 2 == 0:
            loss_of(plain, k).backward()
        optimizer.step()
    assert same(module.net, plain)
    assert trainer.optimizers[0].param_groups[0]["steps"] == 5, "its schedule goes on, as torch's schedulers do"
    assert {state["step"] for state in trainer.optimizers[0].state.values()} == {3}


@of_lightning
def test_lightning_under_manual_optimization(tmp_path: Path) -> None:
    """Its optimizer wraps ours: step, zero_grad, swapped and what we count are reached through it."""
    seen: list[Any] = []

    def manual(module: Any, loss: Tensor, k: int) -> None:
        optimizer = module.optimizers()
        optimizer.zero_grad()
        module.manual_backward(loss)
        optimizer.step()
        rests = [p.detach().clone() for p in module.net.parameters()]
        with optimizer.swapped():
            seen.append(any(not torch.equal(p, q) for p, q in zip(module.net.parameters(), rests, strict=True)))
        seen.append(all(torch.equal(p, q) for p, q in zip(module.net.parameters(), rests, strict=True)))
        seen.append(isinstance(optimizer, ravine.Optimizer) and optimizer.skipped == 0)

    def book(net: nn.Module) -> ravine.Optimizer:
        return ravine.Optimizer(net.parameters(), Nesterov(0.9, "book"), lr=0.01)

    module = lightning_module(made(), book, manual)
    module.automatic_optimization = False
    lightning_trainer(tmp_path, 1).fit(module, data(5))
    plain = made()
    run(plain, book(plain), range(5))
    assert same(module.net, plain)
    assert len(seen) == 15
    assert all(seen)


@of_lightning
def test_a_rule_that_needs_the_loss_says_so_where_lightning_has_none_to_tell(
    tmp_path: Path, loss_scaled: LossScaled
) -> None:
    def manual(module: Any, loss: Tensor, k: int) -> None:
        module.manual_backward(loss)
        module.optimizers().step()

    module = lightning_module(made(), lambda net: ravine.Optimizer(net.parameters(), loss_scaled), manual)
    module.automatic_optimization = False
    with pytest.raises(RavineError, match="'loss_scaled' needs the loss: give step a closure that returns it"):
        lightning_trainer(tmp_path, 1).fit(module, data(5))


@of_lightning
def test_lightning_clips_and_accumulates_as_ones_own_loop_does(tmp_path: Path) -> None:
    module = lightning_module(made(), by_role)
    lightning_trainer(tmp_path, 1, gradient_clip_val=0.5, accumulate_grad_batches=2).fit(module, data(6))
    plain = made()
    optimizer = by_role(plain)
    for k in range(0, 6, 2):
        optimizer.zero_grad()
        for part in (k, k + 1):
            (loss_of(plain, part) / 2).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    for p, q in zip(module.net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------- Hugging Face: Trainer and Accelerate


def hf_trainer(folder: Path, net: nn.Module, **more: Any) -> Any:
    """Trains `net` on `batch`, 4 times 5 steps, and saves after step 10."""
    transformers = needed("transformers")

    class Scored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.net(x) - labels).square().mean()}

    arguments = transformers.TrainingArguments(
        str(folder), num_train_epochs=4, per_device_train_batch_size=16, save_strategy="steps", save_steps=10,
        weight_decay=0.1, warmup_steps=3, seed=0, use_cpu=True, report_to=[], logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    x, y = data(5).dataset.tensors
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    return transformers.Trainer(Scored(), arguments, train_dataset=rows, **more)


HF_WAYS = {
    "optimizers=": lambda net: {"optimizers": (by_role(net), None)},
    "a factory": lambda _: {"optimizer_cls_and_kwargs": (lambda: by_role, {})},  # Trainer calls it with the model
    "optimizer_cls_and_kwargs=": lambda _: {"optimizer_cls_and_kwargs": (AdamW, {"lr": 0.01, "betas": (0.9, 0.99)})},
}


@pytest.mark.parametrize("way", HF_WAYS)
def test_hf_trainer_goes_on_from_its_checkpoint_to_the_bit(tmp_path: Path, way: str) -> None:
    one, other = made(), made(1)
    whole = hf_trainer(tmp_path, one, **HF_WAYS[way](one))
    whole.train()
    resumed = hf_trainer(tmp_path, other, **HF_WAYS[way](other))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    groups = resumed.optimizer.param_groups
    assert [group["steps"] for group in groups] == [20, 20]
    assert [group["lr"] for group in groups] == [0, 0], "Trainer's own scheduler ends there"
    assert same(one, other)
    if way == "optimizer_cls_and_kwargs=":
        assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(3, 0.1), (3, 0.0)]


@pytest.mark.parametrize("folds", [1, 2])
def test_accelerate_keeps_groups_rules_and_numbers(tmp_path: Path, folds: int) -> None:
    accelerator = needed("accelerate").Accelerator(cpu=True, gradient_accumulation_steps=folds)

    def prepared(seed: int) -> tuple[nn.Module, Any, Any]:
        model = made(seed)
        optimizer = by_role(model)
        scheduler = OneCycleLR(optimizer, [0.05, 0.01], 20, cycle_momentum=False)
        return accelerator.prepare(model, optimizer, scheduler)

    def go(model: nn.Module, optimizer: Any, scheduler: Any, steps: range) -> None:
        for k in steps:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, k))
                accelerator.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()

    plain = made()
    mine = by_role(plain)
    scheduler = OneCycleLR(mine, [0.05, 0.01], 20, cycle_momentum=False)
    for k in range(0, 8, folds):
        mine.zero_grad()
        for part in range(k, k + folds):
            (loss_of(plain, part) / folds).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        mine.step()
        scheduler.step()

    first = prepared(0)
    go(*first, range(4))
    accelerator.save_state(tmp_path)
    go(*first, range(4, 8))
    assert same(first[0], plain)
    kept = [{key: value for key, value in group.items() if key != "params"} for group in first[1].param_groups]
    assert kept == [{key: value for key, value in group.items() if key != "params"} for group in mine.param_groups]
    assert [group["rule"] for group in kept] == ["momentum", "adam + decay"]
    accelerator.load_state(tmp_path)
    go(*first, range(4, 8))
    assert same(first[0], plain), "saved and loaded, it goes on to the bit"
    accelerator.free_memory()


# ---------------------------------------------------------------- timm


def timm_optimizer(net: nn.Module, **more: Any) -> ravine.Optimizer:
    """What timm's training script makes of `--opt ravineadamw`."""
    needed("timm")
    factory = importlib.import_module("timm.optim._optim_factory")
    if "ravineadamw" not in factory.default_registry.list_optimizers():
        factory.default_registry.register(factory.OptimInfo("ravineadamw", AdamW, has_betas=True))
    return factory.create_optimizer_v2(net, "ravineadamw", lr=0.01, weight_decay=0.1, betas=(0.8, 0.9), **more)


def test_timm_makes_groups_with_and_without_decay_and_schedules_them() -> None:
    net = made()
    optimizer = timm_optimizer(net)
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {1: 0.0, 2: 0.1}
    assert {(group["beta1"], group["beta2"]) for group in optimizer.param_groups} == {(0.8, 0.9)}
    scheduler = importlib.import_module("timm.scheduler").CosineLRScheduler(optimizer, t_initial=10, lr_min=0.001)
    for k in range(4):
        run(net, optimizer, range(k, k + 1))
        scheduler.step(k + 1)
    again = made(1)
    again.load_state_dict(net.state_dict())
    other = timm_optimizer(again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(net, optimizer, range(4, 8))
    run(again, other, range(4, 8))
    assert same(net, again)
    assert 0.001 < optimizer.param_groups[0]["lr"] < 0.01
