"""Checkpoints of torch.optim, read into ours and written from ours."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.core.torch_format import TorchFormat
from ravine.engine.rounding import real

State = dict[str, Any]

_DECAY = ("weight_decay", "decoupled_weight_decay")
_WAYS = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}  # how torch executes a step


def is_torchs(saved: Mapping[str, Any]) -> bool:
    """Whether a state dict is another library's, written as torch.optim does."""
    return all("rule" not in group for group in saved["param_groups"])


def read(mine: list[dict[str, Any]], rules: list[Rule], saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of torch.optim as one of ours; raises where it is not of the optimizer that does the same."""
    groups, state = [], {}
    not_carried = {*_WAYS, *_DECAY, *_known_arguments()}  # what schedulers wrote is
    for group, rule, theirs in zip(mine, rules, saved["param_groups"], strict=True):
        numbers = _numbers(rule, theirs)
        kept = {key: value for key, value in theirs.items() if key not in not_carried}
        steps = [0]
        for i in theirs["params"]:
            if kept_state := _state(rule, saved["state"].get(i, {})):
                state[i] = kept_state
                steps.append(kept_state["step"])
        own = {"lr": theirs["lr"], "maximize": theirs.get("maximize", False), "steps": max(steps)}
        groups.append(kept | {key: group[key] for key in ("rule", "schedule")} | own | numbers)
    return {"state": state, "param_groups": groups}


def write(mine: list[dict[str, Any]], rules: list[Rule], saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of ours as torch.optim's optimizer of the same name writes it; `mine` are the groups it is of."""
    groups, state = [], {}
    for own, rule, group in zip(mine, rules, saved["param_groups"], strict=True):
        for p, i in zip(own["params"], group["params"], strict=True):
            if i in saved["state"] and (found := _torchs_state(p, rule, saved["state"][i])):
                state[i] = found
        ours = {"rule", "schedule", "steps", *rule.numbers()}
        kept = {key: value for key, value in group.items() if key not in ours}
        groups.append(_WAYS | _arguments(rule) | kept)
    return {"state": state, "param_groups": groups}


def _formats(rule: Rule) -> list[tuple[int, TorchFormat]]:
    """The format of each link; raises where torch has no such rule."""
    found = []
    for i, link in enumerate(rule.links):
        form = link.in_torch()
        if form is None:
            raise RavineError(f"torch.optim has no optimizer that does what '{rule}' does: '{link}' is not in it")
        found.append((i, form))
    return found


def _is_decoupled(rule: Rule) -> bool:
    return len(rule.links) > 1 and _is_decay(rule.links[-1])


def _is_decay(link: Rule) -> bool:
    form = link.in_torch()
    return form is not None and "weight_decay" in form.numbers


def _arguments(rule: Rule) -> dict[str, Any]:
    """torch's arguments for `rule`: those of its first link but decay, which the others may set but not add to."""
    found: dict[str, Any] = {"weight_decay": 0, "decoupled_weight_decay": _is_decoupled(rule)}
    begun = False
    for i, form in _formats(rule):
        own = dict(form.fixed)
        for name, key in form.numbers.items():
            values = tuple(getattr(rule.links[i], each) for each in ((key,) if isinstance(key, str) else key))
            own[name] = values[0] if isinstance(key, str) else values
        found |= {name: value for name, value in own.items() if not begun or name in found}
        begun = begun or not _is_decay(rule.links[i])
    return found


def _numbers(rule: Rule, theirs: Mapping[str, Any]) -> dict[str, float]:
    """The rule's numbers by what a group of torch's says; raises where it says that it is another optimizer."""
    wanted, numbers = _arguments(rule), {}
    missing = [name for name in wanted if name not in theirs and name not in _DECAY]
    strange = [name for name in theirs.keys() & _known_arguments() if name not in wanted]
    if missing or strange:
        what = f"has no '{missing[0]}'" if missing else f"has '{strange[0]}'"
        raise RavineError(f"the checkpoint is of another optimizer than '{rule.structure()}': it {what}")
    tuned = {name for _, form in _formats(rule) for name in form.numbers}
    for name, value in wanted.items():
        said = theirs.get(name, value)
        if name not in tuned and name not in _DECAY and said != value:
            raise RavineError(f"the checkpoint was made with {name}={said!r}, but this optimizer has {name}={value!r}")
    decay = theirs.get("weight_decay", 0)
    if decay and not any(_is_decay(link) for link in rule.links):
        raise RavineError(f"the checkpoint was made with weight_decay={decay}, but this optimizer has none")
    # Older torch does not write the form; then it is the one of the optimizer that reads it, as there.
    if decay and bool(theirs.get("decoupled_weight_decay", _is_decoupled(rule))) != _is_decoupled(rule):
        form = "an L2 penalty" if _is_decoupled(rule) else "decoupled"
        raise RavineError(f"the checkpoint's weight decay is {form}, but this optimizer's is not")
    forms = dict(_formats(rule))
    for key, (i, own_name) in rule.places.items():
        for name, own in forms[i].numbers.items():
            if own_name in ((own,) if isinstance(own, str) else own) and name in theirs:
                numbers[key] = theirs[name] if isinstance(own, str) else theirs[name][own.index(own_name)]
    return rule.numbers() | numbers


def _known_arguments() -> set[str]:
    """All arguments by which torch's optimizers differ from each other."""
    forms = [form for member in Rule.registry.values() if (form := member().in_torch()) is not None]
    return {name for form in forms for name in (*form.numbers, *form.fixed)} - set(_DECAY)


def _state(rule: Rule, theirs: Mapping[str, Any]) -> State:
    theirs = {key: value for key, value in theirs.items() if value is not None}  # SGD's buffer without momentum
    names = {their: rule.key(i, own) for i, form in _formats(rule) for own, their in form.state.items()}
    counts = any(form.counts for _, form in _formats(rule))
    if not theirs:
        return {}
    if theirs.keys() != {*names, *(("step",) if counts else ())}:
        kept, wanted = ", ".join(theirs), ", ".join(names)
        raise RavineError(f"the checkpoint keeps {kept} for a parameter, but '{rule.structure()}' keeps {wanted}")
    step = int(theirs["step"]) if counts else 1  # SGD does not count: its first step is done, which is all that matters
    return {"step": step} | {own: real(theirs[their]) for their, own in names.items()}


def _torchs_state(p: Tensor, rule: Rule, kept: State) -> State:
    found = {}
    for i, form in _formats(rule):
        for own, their in form.state.items():
            value = kept[rule.key(i, own)].clone()
            paired = p.is_complex() and value.ndim > p.ndim
            found[their] = torch.view_as_complex(value.contiguous()) if paired else value
    if any(form.counts for _, form in _formats(rule)):
        found["step"] = torch.tensor(float(kept["step"]))
    return found
