"""Checkpoints: which saved state belongs to which parameter, and whether it fits."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.roles import plain
from ravine.core.rule import Rule
from ravine.engine.group import lr_of, rule_of
from ravine.engine.rounding import COMPENSATION
from ravine.engine.translation import is_torchs, read

Groups = list[dict[str, Any]]
Fresh = Callable[[Tensor, Rule], dict[str, Tensor]]


def fitting(mine: Groups, given: dict[str, Any], fresh: Fresh) -> dict[str, Any]:
    """The saved state dict, ours or torch's, with its parameters in the order of `mine`; raises where it does not fit.

    `fresh` makes the state of a parameter that has not moved.
    """
    if len(mine) != len(given["param_groups"]):
        count = len(given["param_groups"])
        raise RavineError(f"the checkpoint has {count} param groups, but this optimizer has {len(mine)}")
    if is_torchs(given):
        given = read(mine, [rule_of(group) for group in mine], given)
    matched = [_matched(*pair) for pair in zip(mine, given["param_groups"], strict=True)]
    fitted = given | {"param_groups": matched, "state": dict(given["state"])}
    for group, saved in zip(mine, fitted["param_groups"], strict=True):
        wanted = {"lr", "schedule", "steps", "maximize", *rule_of(group).numbers()}
        if missing := sorted(wanted - saved.keys()):
            raise RavineError(f"a group of the checkpoint lacks '{missing[0]}'")
        rule_of(saved)  # raise where a number is out of its range
        lr_of(saved)
        for p, i in zip(group["params"], saved["params"], strict=True):
            if i in fitted["state"]:
                fitted["state"][i] = _state(fitted["state"][i], fresh(p, rule_of(group)))
    return fitted


def _state(kept: dict[str, Any], fresh: dict[str, Tensor]) -> dict[str, Any]:
    """A saved state, checked, with the types that its rule keeps, and as this way of rounding keeps it."""
    kept = {key: value for key, value in kept.items() if key != COMPENSATION or key in fresh}
    if COMPENSATION in fresh:
        kept.setdefault(COMPENSATION, torch.zeros_like(fresh[COMPENSATION]))
    _check_state(kept, fresh)
    return kept | {key: kept[key].to(value.dtype) for key, value in fresh.items()}


def _matched(mine: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """A saved group with its parameters in the order of `mine`; raises where it is not of the same rule."""
    theirs = saved.get("rule", "another library's optimizer")
    if theirs != mine["rule"]:
        raise RavineError(f"the checkpoint is of '{theirs}', but this optimizer is '{mine['rule']}'")
    here, there = mine.get("param_names"), saved.get("param_names")
    if here and there and here != there:
        here, there = _unwrapped(here), _unwrapped(there)
        if missing := sorted(set(here) ^ set(there)):
            raise RavineError(f"the checkpoint has other parameters than this optimizer: '{missing[0]}' is in one only")
        ids = dict(zip(there, saved["params"], strict=True))
        return saved | {"params": [ids[name] for name in here], "param_names": mine["param_names"]}
    if len(mine["params"]) != len(saved["params"]):
        count, wanted = len(saved["params"]), len(mine["params"])
        raise RavineError(f"a group of the checkpoint has {count} parameters, but this optimizer's has {wanted}")
    return saved


def _unwrapped(names: list[str]) -> list[str]:
    """Names without the prefixes of what the model was wrapped in."""
    names = [plain(name) for name in names]
    ddp = all(name.startswith("module.") for name in names)
    return [name.removeprefix("module.") for name in names] if ddp else names


def pairs(groups: Groups, state_dict: dict[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Each parameter that has a saved state, with that state."""
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        for p, i in zip(group["params"], saved["params"], strict=True):
            if i in state_dict["state"]:
                yield p, state_dict["state"][i]


def _check_state(kept: dict[str, Any], fresh: dict[str, Tensor]) -> None:
    """Raise unless a saved state has the names and shapes of a fresh one."""
    if kept.keys() != {"step", *fresh}:
        names = ", ".join(("step", *fresh))
        raise RavineError(f"the checkpoint keeps {', '.join(kept)} for a parameter, but this optimizer keeps {names}")
    if not isinstance(kept["step"], int) or kept["step"] < 0:
        raise RavineError(f"the checkpoint's 'step' of a parameter must be a whole number from 0, got {kept['step']!r}")
    for key, value in fresh.items():
        if not isinstance(kept[key], Tensor):
            raise RavineError(f"the checkpoint's '{key}' must be a tensor, got {type(kept[key]).__name__}")
        if kept[key].shape != value.shape:
            found, wanted = tuple(kept[key].shape), tuple(value.shape)
            raise RavineError(f"the checkpoint's '{key}' has shape {found}, but this optimizer's has {wanted}")
