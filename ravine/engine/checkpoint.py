"""Checkpoints: which saved state belongs to which parameter, and whether it fits."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ravine.core.errors import RavineError

Groups = list[dict[str, Any]]


def matched(mine: Groups, saved: Groups) -> Groups:
    """The saved groups with their parameters in the order of `mine`; raises where they are not of the same rules."""
    if len(mine) != len(saved):
        raise RavineError(f"the checkpoint has {len(saved)} param groups, but this optimizer has {len(mine)}")
    return [_matched_group(*pair) for pair in zip(mine, saved, strict=True)]


def _matched_group(mine: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    theirs = saved.get("rule", "another library's optimizer")
    if theirs != mine["rule"]:
        raise RavineError(f"the checkpoint is of '{theirs}', but this optimizer is '{mine['rule']}'")
    here, there = mine.get("param_names"), saved.get("param_names")
    if here and there and here != there:
        if missing := sorted(set(here) ^ set(there)):
            raise RavineError(f"the checkpoint has other parameters than this optimizer: '{missing[0]}' is in one only")
        ids = dict(zip(there, saved["params"], strict=True))
        return saved | {"params": [ids[name] for name in here], "param_names": here}
    if len(mine["params"]) != len(saved["params"]):
        count, wanted = len(saved["params"]), len(mine["params"])
        raise RavineError(f"a group of the checkpoint has {count} parameters, but this optimizer's has {wanted}")
    return saved


def pairs(groups: Groups, state_dict: dict[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any], dict[str, Any]]]:
    """Each parameter that has a saved state, with that state and its group."""
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        for p, i in zip(group["params"], saved["params"], strict=True):
            if i in state_dict["state"]:
                yield p, state_dict["state"][i], group


def check_state(kept: dict[str, Any], fresh: dict[str, Tensor]) -> None:
    """Raise unless a saved state has the names and shapes of a fresh one."""
    if kept.keys() != {"step", *fresh}:
        names = ", ".join(("step", *fresh))
        raise RavineError(f"the checkpoint keeps {', '.join(kept)} for a parameter, but this optimizer keeps {names}")
    for key, value in fresh.items():
        if kept[key].shape != value.shape:
            found, wanted = tuple(kept[key].shape), tuple(value.shape)
            raise RavineError(f"the checkpoint's '{key}' has shape {found}, but this optimizer's has {wanted}")
