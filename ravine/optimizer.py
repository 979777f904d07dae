"""The one torch.optim.Optimizer: it owns groups, state, checkpoints and the loop; rules own the maths."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, overload

import torch
from torch import Tensor

import ravine.rules  # noqa: F401  # makes the built-in names known, so that checkpoints can be read back
from ravine.core.composition import make_rule
from ravine.core.declared import Declared, check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.finite import NonFinite, nonfinite_in
from ravine.core.rule import Rule
from ravine.core.spec import parse_links, parse_schedules
from ravine.schedules import Schedule, constant, make_schedule

NONFINITE = ("raise", "skip", "ignore")
Summed = dict[str, Tensor]
_OWN = ("params", "lr", "rule", "schedule", "steps", "maximize")


class Optimizer(torch.optim.Optimizer):
    """Moves every parameter by `p <- p - lr * u`, where its group's rule makes `u` of the gradient.

    params: parameters, named parameters or group dicts, as for any optimizer of torch. A group may bring its own
        `rule`, `lr`, `schedule` and hyperparameters.
    rule: a rule or a chain of rules.
    lr: the learning rate; None takes the rule's default.
    schedule: a factor on lr by the number of steps done, such as `warmup(100) * cosine(5000)`. torch's LR schedulers
        work too: they change `group["lr"]` (those that cycle momentum need `cycle_momentum=False`).
    maximize: climb instead of descend.
    nonfinite: what to do where a gradient, or a parameter that moves for the first time, is NaN or infinite: "raise"
        an error that names it, "skip" the step (`skipped` counts them), or "ignore" it and step. Either of the first
        two leaves everything as it was.

    The numeric hyperparameters stand in `param_groups` under their names and may be changed between steps. Each
    parameter counts its own steps, so one whose first gradient comes late gets its own bias correction. Raises
    `RavineError` for values outside their range, before any parameter has moved.

    >>> import torch, ravine
    >>> from ravine.rules import Adam, Decay
    >>> model = torch.nn.Linear(2, 1)
    >>> opt = ravine.Optimizer(model.parameters(), ravine.chain(Adam(beta2=0.99), Decay(0.1)), lr=1e-3)
    >>> model(torch.ones(2)).backward(); opt.step(); opt.param_groups[0]["weight_decay"]
    0.1
    """

    def __init__(
        self,
        params: Any,
        rule: Rule,
        lr: float | None = None,
        schedule: Schedule | None = None,
        maximize: bool = False,
        nonfinite: str = "raise",
    ) -> None:
        if not isinstance(rule, Rule):
            raise RavineError(f"rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
        if nonfinite not in NONFINITE:
            raise unknown("choice of nonfinite=", str(nonfinite), NONFINITE)
        self.nonfinite, self.skipped = nonfinite, 0
        super().__init__(params, {"rule": rule, "lr": lr, "schedule": schedule or constant(), "maximize": maximize})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"nonfinite": self.nonfinite, "skipped": self.skipped}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        group = {key: self.defaults[key] for key in ("rule", "lr", "schedule", "maximize")} | param_group
        super().add_param_group(_group(group, self.defaults["rule"]))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every parameter that has a gradient. Returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moves = [(group, _rule(group), _lr(group)) for group in self.param_groups]
        for group, rule, _ in moves:
            if not rule.sparse and any(p.grad is not None and p.grad.is_sparse for p in group["params"]):
                raise RavineError(f"'{rule}' needs dense gradients: use nn.Embedding(sparse=False), or sgd")
        if self.nonfinite != "ignore" and (found := nonfinite_in(self.param_groups, self.state)):
            if self.nonfinite == "raise":
                raise NonFinite(f"{found}; nothing was changed. Lower the learning rate, clip, or skip such steps")
            self.skipped += 1
            return loss
        totals = self._totals(moves)
        for group, rule, lr in moves:
            mine = _mine(rule, totals)
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, rule, lr, group["maximize"], mine)
            group["steps"] += 1
        return loss

    def _move(self, p: Tensor, rule: Rule, lr: float, maximize: bool, totals: dict[int, Summed]) -> None:
        own = _real(p)
        g, seen, t, kept = self._given(p, rule, maximize)
        u, scale, new = rule.move(g, seen, t, kept, lr, totals)
        self.state[p].update(new, step=t)
        seen.sub_(u, alpha=scale)
        if seen.dtype != own.dtype:
            own.copy_(seen)

    def _given(self, p: Tensor, rule: Rule, maximize: bool) -> tuple[Tensor, Tensor, int, dict[str, Tensor]]:
        """What a rule is given of a parameter for its next step: gradient, value, the step's number, and its state."""
        assert p.grad is not None
        seen, g = _seen(p), _seen(p.grad.to_dense())
        state = self.state[p]
        if not state:
            state.update(step=0, **rule.start(seen))
        return -g if maximize else g, seen, state["step"] + 1, _kept(state)

    def _totals(self, moves: list[tuple[dict[str, Any], Rule, float]]) -> dict[tuple[int, str], Summed]:
        """What links want summed over all parameters, link by link, since a later one sees what earlier ones made."""
        totals: dict[tuple[int, str], Summed] = {}
        places = {(i, link.name) for _, rule, _ in moves for i, link in enumerate(rule.links) if link.summarizes()}
        for place in sorted(places):
            i, name = place
            summed: Summed = {}
            for group, rule, lr in moves:
                if i >= len(rule.links) or rule.links[i].name != name:
                    continue
                mine = _mine(rule, totals)
                for p in (p for p in group["params"] if p.grad is not None):
                    for key, value in rule.summed(i, *self._given(p, rule, group["maximize"]), lr, mine).items():
                        summed[key] = summed[key] + value.to(summed[key].device) if key in summed else value
            totals[place] = summed
        return totals

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are those to be judged; outside, those at which the next gradient is taken.

        They differ for a rule such as Nesterov(form="book"); for the others nothing happens.
        """
        resting: list[tuple[Tensor, Tensor]] = []
        try:
            with torch.no_grad():
                for group in self.param_groups:
                    rule = _rule(group)
                    for p in group["params"] if rule.judges_elsewhere else ():
                        if state := self.state.get(p):
                            resting.append((p, p.detach().clone()))
                            _real(p).copy_(rule.judgement(_seen(p), _kept(state)))
            yield
        finally:
            with torch.no_grad():
                for p, value in resting:
                    p.copy_(value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, to the bit; parameters are matched by name where both sides have names.

        Refuses another rule's state, and one that does not fit the parameters, before anything has changed.
        """
        fitted: dict[str, Any] = {}

        def fit(_: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
            fitted.update(given, param_groups=_matched(self.param_groups, given["param_groups"]))
            for p, kept, group in _pairs(self.param_groups, fitted):
                _check_state(kept, _rule(group).start(_seen(p)))
            return fitted

        last = self.register_load_state_dict_pre_hook(fit)  # after the user's own
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
        # torch casts every floating state to the dtype of its parameter; a state's own dtype is part of the rule.
        for p, kept, _group in _pairs(self.param_groups, fitted):
            tensors = {key: value for key, value in kept.items() if isinstance(value, Tensor)}
            self.state[p].update({key: value.detach().clone().to(p.device) for key, value in tensors.items()})


def _kept(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A parameter's state as its rule knows it: without the count of steps, which is the engine's."""
    return {key: value for key, value in state.items() if key != "step"}


def _mine(rule: Rule, totals: Mapping[tuple[int, str], Summed]) -> dict[int, Summed]:
    """Of all totals, those of the rule's own links."""
    return {i: totals[i, link.name] for i, link in enumerate(rule.links) if (i, link.name) in totals}


def _real(p: Tensor) -> Tensor:
    """A view of `p` in real numbers: rules take complex parameters as pairs."""
    return torch.view_as_real(p) if p.is_complex() else p


def _seen(p: Tensor) -> Tensor:
    """What a rule sees of `p`: real numbers of 32 bits at least, so that rounding happens once, at the end."""
    real = _real(p)
    return real.float() if real.dtype.itemsize < 4 else real


Groups = list[dict[str, Any]]


def _matched(mine: Groups, saved: Groups) -> Groups:
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


def _pairs(groups: Groups, state_dict: dict[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any], dict[str, Any]]]:
    """Each parameter that has a saved state, with that state and its group."""
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        for p, i in zip(group["params"], saved["params"], strict=True):
            if i in state_dict["state"]:
                yield p, state_dict["state"][i], group


def _check_state(kept: dict[str, Any], fresh: dict[str, Tensor]) -> None:
    if kept.keys() != {"step", *fresh}:
        names = ", ".join(("step", *fresh))
        raise RavineError(f"the checkpoint keeps {', '.join(kept)} for a parameter, but this optimizer keeps {names}")
    for key, value in fresh.items():
        if kept[key].shape != value.shape:
            found, wanted = tuple(kept[key].shape), tuple(value.shape)
            raise RavineError(f"the checkpoint's '{key}' has shape {found}, but this optimizer's has {wanted}")


def _group(given: dict[str, Any], default: Rule) -> dict[str, Any]:
    """A param group as it is kept: the rule's choices as text, its numbers under their own names.

    Text, because an object in `param_groups` would not load with `torch.load(weights_only=True)`; numbers apart,
    because schedulers change them.
    """
    rule = given["rule"]
    if isinstance(rule, str):
        rule = make_rule(parse_links(rule))
    if not isinstance(rule, Rule):
        raise RavineError(f"a group's rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
    numbers = rule.numbers()
    for key in given:
        if key not in (*_OWN, *numbers, "param_names", "initial_lr", "name"):
            raise unknown(f"hyperparameter of '{rule}'", key, ("lr", *numbers))
    rule = rule.with_numbers({key: given[key] for key in numbers if key in given})
    lr = given["lr"] if given["lr"] is not None else rule.lr
    check_value("lr", lr, float, "[0, inf)")
    schedule = given["schedule"]
    if not isinstance(schedule, Schedule):
        raise RavineError(f"schedule must be a schedule such as ravine.schedules.cosine(1000), got {schedule!r}")
    schedule(0)  # one that does not know its horizon says so now
    own = {"rule": rule.structure(), "lr": lr, "schedule": str(schedule), "steps": 0, "maximize": given["maximize"]}
    return given | own | rule.numbers()


def _rule(group: dict[str, Any]) -> Rule:
    names = _number_names(group["rule"], Declared.revision)
    return _bound(group["rule"], tuple((name, group[name]) for name in names), Declared.revision)


def _lr(group: dict[str, Any]) -> float:
    lr = float(group["lr"])
    check_value("lr", lr, float, "[0, inf)")
    return lr * _schedule(group["schedule"], Declared.revision)(group["steps"])


@lru_cache(maxsize=256)
def _number_names(structure: str, revision: int) -> tuple[str, ...]:
    return tuple(make_rule(parse_links(structure)).numbers())


@lru_cache(maxsize=1024)
def _bound(structure: str, numbers: Iterable[tuple[str, float]], revision: int) -> Rule:
    return make_rule(parse_links(structure)).with_numbers(dict(numbers))


@lru_cache(maxsize=256)
def _schedule(text: str, revision: int) -> Schedule:
    return make_schedule(parse_schedules(text))
