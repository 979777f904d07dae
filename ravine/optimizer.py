"""The one torch.optim.Optimizer: it owns groups, state, checkpoints and the loop; rules own the maths."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor

import ravine.rules  # noqa: F401  # makes the built-in names known, so that checkpoints can be read back
from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule
from ravine.engine.checkpoint import check_state, matched, pairs
from ravine.engine.finite import NonFinite, nonfinite_in
from ravine.engine.group import CYCLED, Group, lr_of, make_group, rule_of
from ravine.schedules import Schedule, constant

NONFINITE = ("raise", "skip", "ignore")
Summed = dict[str, Tensor]


class Optimizer(torch.optim.Optimizer):
    """Moves every parameter by `p <- p - lr * u`, where its group's rule makes `u` of the gradient.

    params: parameters, named parameters or group dicts, as for any optimizer of torch. A group may bring its own
        `rule`, `lr`, `schedule` and hyperparameters.
    rule: a rule or a chain of rules.
    lr: the learning rate; None takes the rule's default.
    schedule: a factor on lr by the number of steps done, such as `warmup(100) * cosine(5000)`. torch's LR schedulers
        work too: they change `group["lr"]`, and `momentum` or `betas` where they cycle them.
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.param_groups = [Group(group) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        given = {key: self.defaults[key] for key in ("rule", "lr", "schedule", "maximize")} | param_group
        group = make_group(given)
        super().add_param_group(group)
        self.defaults.update({key: group[key] for key in CYCLED if key in group and key not in self.defaults})

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
        moves = [(group, rule_of(group), lr_of(group)) for group in self.param_groups]
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
                    rule = rule_of(group)
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
            fitted.update(given, param_groups=matched(self.param_groups, given["param_groups"]))
            for p, kept, group in pairs(self.param_groups, fitted):
                check_state(kept, rule_of(group).start(_seen(p)))
            return fitted

        last = self.register_load_state_dict_pre_hook(fit)  # after the user's own
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
        # torch casts every floating state to the dtype of its parameter; a state's own dtype is part of the rule.
        for p, kept, _ in pairs(self.param_groups, fitted):
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
