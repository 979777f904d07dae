"""What a step asks of the closure: the loss, and for some rules products of the Hessian or a gradient elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule
from ravine.engine.chance import Label, normal_for, signs_for
from ravine.engine.collecting import gathers
from ravine.engine.rounding import real, widened
from ravine.engine.single import label_of
from ravine.engine.summing import add
from ravine.engine.twice import twice_differentiable

Closure = Callable[[], Any]
Sampled = Callable[[], tuple[Tensor, int]]


class Asked(NamedTuple):
    """A parameter in the eyes of a step: its rule, the number of its next step, and what its chance is drawn from."""

    p: Any  # a Tensor, whose type says that it may have no gradient
    rule: Rule
    t: int
    label: Label
    sign: float  # -1 where the loss is maximized
    again: bool = False  # at a second place, or gathered only, where the gradient alone is wanted

    def wants(self, need: str) -> bool:
        return not self.again and self.rule.needed_at(self.t, need)


def those_asked(
    groups: Sequence[Mapping[str, Any]], rules: Sequence[Rule], states: Mapping[Tensor, Any], seed: int
) -> list[Asked]:
    """All parameters, where a rule asks for more than their gradients; else none."""
    if not any(rule.asks for rule in rules):
        return []
    return [
        Asked(p, rule, states.get(p, {}).get("step", 0) + 1, label_of(seed, group, number, i), sign, alone)
        for number, (group, rule) in enumerate(zip(groups, rules, strict=True))
        for sign, alone in ((-1.0 if group["maximize"] else 1.0, gathers(group, rule)),)
        for i, p in enumerate(group["params"])
        if p.requires_grad
    ]


@dataclass(frozen=True)
class Evaluation:
    """What the closures of a step told."""

    loss: Any = None
    products: Mapping[Tensor, tuple[Tensor, Tensor]] = field(default_factory=dict)
    sampled: Mapping[Tensor, tuple[Tensor, int]] = field(default_factory=dict)

    def nonfinite(self) -> str:
        """What is NaN or infinite of products and gradients at drawn targets, in words; empty where nothing is."""
        products = [product for _, product in self.products.values()]
        gradients = [gradient for gradient, _ in self.sampled.values()]
        for what, found in (("product of the Hessian", products), ("gradient at drawn targets", gradients)):
            if not all(bool(x.sum().isfinite()) or bool(x.isfinite().all()) for x in found):
                return f"a {what} is not finite"
        return ""

    def more(self, p: Tensor, label: Label, t: int) -> dict[str, Any]:
        """What a rule may need besides for the step `t` of one parameter."""
        own = real(p)
        told = self.loss.detach() if isinstance(self.loss, Tensor) else self.loss
        found = {"product": self.products.get(p), "sampled": self.sampled.get(p)}
        return {"loss": told, "noise": lambda link: normal_for(own, (*label, link), t), **found}


def refuse_missing(rules: Sequence[Rule], closure: Closure | None, sampled: Sampled | None) -> None:
    """Raise where a rule needs a closure that is not given."""
    for rule in rules:
        for link in rule.links:
            if closure is None and (what := _wanted(link)):
                raise RavineError(f"'{rule}' needs {what}")
            if sampled is None and "sampled" in link.needs:
                raise RavineError(
                    f"'{rule}' needs the loss at targets drawn from the model's own predictions: give step a second "
                    "function that returns it with the number of examples, as in step(closure, sampled)"
                )


def _wanted(link: Any) -> str:
    if link.probes():
        return "the gradient at a second place: give step a closure that takes it anew, as in step(closure)"
    if "product" in link.needs:
        return (
            "products of the Hessian: give step a closure that returns the loss without backward(), as in step(closure)"
        )
    return _LOSS if "loss" in link.needs else ""


_LOSS = "the loss: give step a closure that returns it, as in step(closure)"


def refuse_processes(rules: Sequence[Rule]) -> None:
    """Raise where gradients are taken past DistributedDataParallel, which would average them over its processes."""
    for rule in (rule for rule in rules if any({"product", "sampled"} & link.needs for link in rule.links)):
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise RavineError(
                f"'{rule}' takes products or gradients by itself, which several processes would not share: each would "
                "go its own way. Train in one process, or with a rule that needs the gradient alone"
            )


def takes_gradients(rules: Sequence[Rule]) -> bool:
    """Whether the engine takes gradients from the loss itself, where a closure otherwise calls `backward()`."""
    return any("product" in link.needs for rule in rules for link in rule.links)


def evaluate(asked: Sequence[Asked], closure: Closure | None, sampled: Sampled | None, own: bool) -> Evaluation:
    """Call the closures, and take the products and gradients that rules need at their next steps.

    own: the engine takes the gradients, which then stand in `p.grad` as `backward()` would have left them.
    """
    curved = [one for one in asked if own and one.wants("product")]
    drawn = [one for one in asked if one.wants("sampled")]
    loss, products, gradients = None, {}, {}
    with torch.enable_grad():
        if closure is not None:
            with twice_differentiable() if curved else nullcontext():
                loss = closure()
                if own:
                    products = _products(loss, asked, curved)
                    loss = loss.detach()
        for one in asked if loss is None else ():  # a framework may have a closure that tells nothing
            if one.wants("loss"):
                raise RavineError(f"'{one.rule}' needs {_LOSS}")
        if drawn and sampled is not None:
            value, examples = sampled()
            ps = [one.p for one in drawn]
            found = torch.autograd.grad(value, ps, allow_unused=True, materialize_grads=True)
            gradients = {p: (widened(g.detach()), examples) for p, g in zip(ps, found, strict=True)}
    return Evaluation(loss, products, gradients)


def _products(loss: Any, asked: Sequence[Asked], curved: Sequence[Asked]) -> dict[Tensor, tuple[Tensor, Tensor]]:
    """The gradients of all parameters, put into `p.grad`, and (z, H z) of those in `curved`."""
    ps = [one.p for one in asked]
    gradients = _gradients(loss, ps, bool(curved))
    found: dict[Tensor, tuple[Tensor, Tensor]] = {}
    if curved:
        signs = {one.p: signs_for(one.p, one.label, one.t) for one in curved}
        pairs = [(g, signs[p]) for p, g in zip(ps, gradients, strict=True) if p in signs and g is not None]
        sloped = sum((g * z.to(g.dtype)).sum() for g, z in pairs if g.requires_grad)
        among = list(signs)
        if isinstance(sloped, Tensor):
            rows = torch.autograd.grad(sloped, among, allow_unused=True, materialize_grads=True)
        else:  # the loss is linear
            rows = tuple(torch.zeros_like(p) for p in among)
        found = {one.p: (signs[one.p], one.sign * widened(row.detach())) for one, row in zip(curved, rows, strict=True)}
    for p, g in zip(ps, gradients, strict=True):
        p.grad = None if g is None else g.detach()
    return found


def _gradients(loss: Any, ps: list[Tensor], again: bool) -> tuple[Tensor | None, ...]:
    refusal = RavineError(
        "a rule that needs products of the Hessian takes the gradient itself: the closure must return the loss and not "
        "call backward(); nothing was moved"
    )
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise refusal
    try:
        return torch.autograd.grad(loss, ps, create_graph=again, allow_unused=True)
    except RuntimeError as error:
        if "second time" in str(error):  # the graph is gone
            raise refusal from error
        raise


@contextmanager
def probing(groups: Sequence[Mapping[str, Any]], rules: Sequence[Rule]) -> Iterator[None]:
    """Inside, the parameters stand where their rules take the second gradient; outside, to the bit where they were."""
    sums: dict[str, dict[str, Tensor]] = {}
    todo = []
    for group, rule in zip(groups, rules, strict=True):
        for link in (link for link in rule.links if link.probes()):
            for p in (p for p in group["params"] if p.grad is not None):
                g = widened(real(p.grad))
                pair = -g if group["maximize"] else g, widened(real(p))
                todo.append((link, p, pair))
                add(sums.setdefault(link.name, {}), link.measure(*pair))
    rested = [(p, p.detach().clone()) for _, p, _ in todo]
    try:
        for link, p, pair in todo:
            real(p).copy_(link.probe_at(*pair, sums[link.name]))
        for p in (p for group in groups for p in group["params"]):
            p.grad = None  # a closure that does not zero would add the second gradient to the first
        yield
    finally:
        for p, value in rested:
            p.detach().copy_(value)
