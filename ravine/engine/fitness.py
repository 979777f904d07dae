"""Which parameters and gradients a rule can move; what it cannot is refused before anything moves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from ravine.core.composition import called
from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.group import rule_of
from ravine.engine.rounding import refuse_sharded


def refuse_members(group: Mapping[str, Any], rule: Rule) -> None:
    """Raise where a group has parameters whose shape its rule does not take."""
    found = []
    for i, p in enumerate(group["params"]):
        if reason := _reason(p, rule):
            name = group["param_names"][i] if "param_names" in group else f"number {i} of its group"
            found.append((f"{name} {tuple(p.shape)}", reason))
    if found:
        (name, reason), more, called_so = found[0], len(found) - 1, called(rule)
        others = f" ({', '.join(name for name, _ in found[1:4])}{' ...' if more > 3 else ''} too)" if more else ""
        raise RavineError(
            f"'{called_so}' cannot move the parameter {name}{others}: {reason}. Give such parameters a rule of their "
            f'own: ravine.groups(model, hidden="{called_so}", rest="adamw"), or as a spec "hidden: {called_so}; rest: '
            'adamw"'
        )


def refuse_unfit(groups: Iterable[Mapping[str, Any]], rules: Sequence[Rule], rounding: str) -> None:
    """Raise where gradients or parameters are of a kind that a rule does not take."""
    for group, rule in zip(groups, rules, strict=True):
        if not rule.sparse and any(g.is_sparse for p in group["params"] if (g := p.grad) is not None):
            raise RavineError(f"'{rule}' needs dense gradients: use nn.Embedding(sparse=False), or sgd")
        if rule.looks_twice and any(p.grad is not None and not p.requires_grad for p in group["params"]):
            raise RavineError(f"'{rule}': a frozen parameter has an old gradient; call zero_grad() after freezing")
        if rounding == "stochastic":
            refuse_sharded(group["params"])
        if rule.scope != "element" and any(p.is_complex() for p in group["params"] if p.grad is not None):
            hint = "use one that looks at each weight alone, such as adam"
            raise RavineError(f"'{rule}' looks at whole tensors and takes no complex parameters: {hint}")


def refuse_scaler(groups: Iterable[Mapping[str, Any]]) -> None:
    """Raise where torch's GradScaler is about to scale a loss of which more than the gradient is taken."""
    for group in groups:
        if rule_of(group).looks_twice:
            raise RavineError(
                f"'{group['rule']}' takes more than the gradient, which GradScaler cannot unscale: use bf16 autocast "
                "without a scaler, and step(closure)"
            )


def _reason(p: Tensor, rule: Rule) -> str:
    """Why a parameter cannot be moved; empty where it can, or has no shape yet."""
    if isinstance(p, UninitializedParameter):
        return ""
    if rule.looks_twice and p.is_complex():
        return "it is complex, and the rule takes more than the gradient"
    return rule.refuses(p)
