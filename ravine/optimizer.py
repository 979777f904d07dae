"""The one torch.optim.Optimizer: it owns groups, state, checkpoints and the loop; rules own the maths."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor

import ravine.rules  # noqa: F401  # makes the built-in names known, so that checkpoints can be read back
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.rule import Rule
from ravine.engine.checkpoint import fitting, pairs
from ravine.engine.compiled import Compiled, How, Member, fits
from ravine.engine.execution import EXECUTIONS, compiles, compiling_failed
from ravine.engine.finite import NonFinite, nonfinite_in
from ravine.engine.group import CYCLED, Group, lr_of, make_group, rule_of
from ravine.engine.rounding import (
    COMPENSATION,
    ROUNDINGS,
    by_chance,
    compensated,
    is_low,
    kept_by_rule,
    noise_for,
    normal_for,
    real,
    refuse_sharded,
    to_nearest,
    widened,
)
from ravine.engine.summing import Summed, Totals, mine, totals
from ravine.engine.translation import write
from ravine.schedules import Schedule, constant

NONFINITE = ("raise", "skip", "ignore")
_KEPT = ("nonfinite", "execution", "rounding", "seed", "skipped")


class Optimizer(torch.optim.Optimizer):
    """Moves every parameter by `p <- p - lr * u`, where its group's rule makes `u` of the gradient.

    params: parameters, named parameters or group dicts, as for any optimizer of torch. A group may bring its own
        `rule`, `lr`, `schedule` and hyperparameters.
    rule: a rule or a chain of rules; may be left out where every group brings its own, see `ravine.groups`.
    lr: the learning rate; None takes the rule's default.
    schedule: a factor on lr by the number of steps done, such as `warmup(100) * cosine(5000)`. torch's LR schedulers
        work too: they change `group["lr"]`, and `momentum` or `betas` where they cycle them.
    maximize: climb instead of descend.
    nonfinite: what to do where a gradient, or a parameter that moves for the first time, is NaN or infinite: "raise"
        an error that names it, "skip" the step (`skipped` counts them), or "ignore" it and step. Either of the first
        two leaves everything as it was.
    execution: "loop" runs the rule tensor by tensor; "compiled" makes one kernel of it that passes over memory once
        (some seconds at the first step, for rules that look at each weight alone); "auto" compiles groups of four
        million weights and more, where that is possible. All give the same numbers, to the last bits.
    rounding: how steps end in weights of bf16 or fp16: to the "nearest", "stochastic" (right on average), or "kahan"
        (exact, with a second tensor); smaller steps than a weight's last bit are otherwise lost.
    seed: of the noise for stochastic rounding and for rules that need noise.

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
        rule: Rule | None = None,
        lr: float | None = None,
        schedule: Schedule | None = None,
        maximize: bool = False,
        nonfinite: str = "raise",
        execution: str = "auto",
        rounding: str = "nearest",
        seed: int = 0,
    ) -> None:
        if rule is not None and not isinstance(rule, Rule):
            raise RavineError(f"rule must be a rule such as ravine.rules.Adam(), got {rule!r}")
        choices = {"nonfinite": NONFINITE, "execution": EXECUTIONS, "rounding": ROUNDINGS}
        for (name, allowed), given in zip(choices.items(), (nonfinite, execution, rounding), strict=True):
            if given not in allowed:
                raise unknown(f"choice of {name}=", str(given), allowed)
        check_value("seed", seed, int, "[0, inf)")
        self.nonfinite, self.execution, self.rounding, self.seed, self.skipped = nonfinite, execution, rounding, seed, 0
        self._compiled: dict[int, Compiled] = {}
        self._swapped = False
        super().__init__(params, {"rule": rule, "lr": lr, "schedule": schedule or constant(), "maximize": maximize})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in _KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled, self._swapped = {}, False
        self.param_groups = [Group(group) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        given = {key: self.defaults[key] for key in ("rule", "lr", "schedule", "maximize")} | param_group
        group = make_group(given)
        with warnings.catch_warnings():  # torch warns of a parameter that is given twice, and steps it twice
            warnings.filterwarnings("error", "optimizer contains a parameter group with duplicate parameters")
            try:
                super().add_param_group(group)
            except UserWarning as error:
                self.param_groups = [kept for kept in self.param_groups if kept is not group]
                raise RavineError(f"a parameter is given twice in one group: {error}") from error
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
            if loss is None and any("loss" in link.needs for link in rule.links):
                raise RavineError(f"'{rule}' needs the loss: give step a closure that returns it, as in step(closure)")
            if not rule.sparse and any(g.is_sparse for p in group["params"] if (g := p.grad) is not None):
                raise RavineError(f"'{rule}' needs dense gradients: use nn.Embedding(sparse=False), or sgd")
            if self.rounding == "stochastic":
                refuse_sharded(group["params"])
            if rule.scope != "element" and any(p.is_complex() for p in group["params"] if p.grad is not None):
                hint = "use one that looks at each weight alone, such as adam"
                raise RavineError(f"'{rule}' looks at whole tensors and takes no complex parameters: {hint}")
        if self.nonfinite != "ignore" and (found := nonfinite_in(self.param_groups, self.state)):
            if self.nonfinite == "raise":
                raise NonFinite(f"{found}; nothing was changed. Lower the learning rate, clip, or skip such steps")
            self.skipped += 1
            return loss
        told = loss.detach() if isinstance(loss, Tensor) else loss
        summands = [partial(self._summands, i, *move, told) for i, move in enumerate(moves)]
        summed = totals([rule for _, rule, _ in moves], summands)
        steps = [step for i, move in enumerate(moves) for step in self._steps(i, *move, summed, told)]
        for step in steps:
            step()
        for group in self.param_groups:
            group["steps"] += 1
        return loss

    def _steps(
        self, number: int, group: dict[str, Any], rule: Rule, lr: float, found: Totals, loss: Any
    ) -> Iterator[Callable[[], None]]:
        """What moves the parameters of a group, ready to be called: compiled steps, and those of the loop."""
        how = How(rule, group["rule"], lr, group["maximize"], self.rounding, mine(rule, found), loss)
        done: Collection[tuple[int, int]] = ()
        if compiles(self.execution, rule, group["params"]):
            compiled = self._compiled.get(number)
            if compiled is None or not compiled.holds(group["params"], self.state, how):
                compiled = self._gathered(number, group, how)
            if compiled is not None:
                yield partial(compiled.step, how)
                if compiled.complete:
                    return
                done = compiled.places
        for i, p in enumerate(group["params"]):
            if p.grad is not None and (number, i) not in done:
                yield partial(self._move, self._label(group, number, i), p, how)

    def _gathered(self, number: int, group: dict[str, Any], how: How) -> Compiled | None:
        """The compiled step of those parameters of a group for which there can be one."""
        for i in [i for i in self._compiled if i == number or i >= len(self.param_groups)]:
            self._compiled.pop(i).release()
        todo = [(i, p) for i, p in enumerate(group["params"]) if p.grad is not None]
        members = [
            Member((number, i), p, self._state(p, how.rule), self._label(group, number, i)) for i, p in todo if fits(p)
        ]
        try:
            self._compiled[number] = Compiled(members, len(todo), how)
            return self._compiled[number]
        except RavineError:
            raise
        except Exception as error:
            compiling_failed(self.execution, error)
            self.execution = "loop"
            return None

    def _label(self, group: dict[str, Any], number: int, i: int) -> tuple[Any, ...]:
        """What a parameter's noise is drawn from: the seed, and its name, or its place where it has none."""
        return (self.seed, group["param_names"][i]) if "param_names" in group else (self.seed, number, i)

    def _summands(
        self, number: int, group: dict[str, Any], rule: Rule, lr: float, loss: Any, before: Mapping[int, Summed]
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What `Rule.summed` takes of each parameter of a group."""
        for i, p in enumerate(group["params"]):
            if p.grad is not None:
                given = self._given(p, rule, group["maximize"])
                more = _more(real(p), self._label(group, number, i), given[2], loss)
                yield (*given, lr), {"totals": before, "more": more}

    def _move(self, label: tuple[Any, ...], p: Tensor, how: How) -> None:
        own, state = real(p), self._state(p, how.rule)
        g, seen, t, kept = self._given(p, how.rule, how.maximize)
        more = None if how.rule.is_plain else _more(own, label, t, how.loss)
        u, scale, new = how.rule.move(g, seen, t, kept, how.lr, how.totals, more)
        new = {key: x.clone() if x is g else x for key, x in new.items()}  # the user's gradient is not ours to keep
        if not is_low(own.dtype):
            own.sub_(u, alpha=scale)
        elif self.rounding == "kahan":
            moved, new[COMPENSATION] = compensated(own, u, scale, state[COMPENSATION])
            own.copy_(moved)
        elif self.rounding == "stochastic":
            own.copy_(by_chance(own, u, scale, noise_for(own, label, t)))
        else:
            own.copy_(to_nearest(own, u, scale))
        state.update(new, step=t)

    def _state(self, p: Tensor, rule: Rule) -> dict[str, Any]:
        """The state of a parameter, begun where there is none."""
        state: dict[str, Any] = self.state[p]
        if not state:
            state.update(step=0, **self._fresh(p, rule))
        return state

    def _fresh(self, p: Tensor, rule: Rule) -> dict[str, Tensor]:
        state = rule.start(widened(real(p)))
        if self.rounding == "kahan" and is_low(p.dtype):
            state[COMPENSATION] = torch.zeros_like(real(p))
        return state

    def _given(self, p: Tensor, rule: Rule, maximize: bool) -> tuple[Tensor, Tensor, int, dict[str, Tensor]]:
        """What a rule is given of a parameter for its next step: gradient, value, the step's number, and its state."""
        assert p.grad is not None
        seen, g, state = widened(real(p)), widened(real(p.grad.to_dense())), self._state(p, rule)
        return -g if maximize else g, seen, state["step"] + 1, kept_by_rule(state)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are those to be judged; outside, those at which the next gradient is taken.

        They differ for a rule such as Nesterov(form="book"); for the others nothing happens.
        """
        if self._swapped:  # they are already those
            yield
            return
        resting: list[tuple[Tensor, Tensor]] = []
        self._swapped = True
        try:
            with torch.no_grad():
                for group in self.param_groups:
                    rule = rule_of(group)
                    for p in group["params"] if rule.judges_elsewhere else ():
                        if state := self.state.get(p):
                            resting.append((p, p.detach().clone()))
                            real(p).copy_(rule.judgement(widened(real(p)), kept_by_rule(state)))
            yield
        finally:
            self._swapped = False
            with torch.no_grad():
                for p, value in resting:
                    p.copy_(value)

    def torch_state_dict(self) -> dict[str, Any]:
        """The state in the form of the torch.optim optimizer that does the same, whose `load_state_dict` takes it."""
        return write(self.param_groups, [rule_of(group) for group in self.param_groups], self.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, to the bit; parameters are matched by name where both sides have names.

        A checkpoint of the torch.optim optimizer that does the same is read as well. Refuses another rule's state, and
        one that does not fit the parameters, before anything has changed.
        """
        fitted: dict[str, Any] = {}

        def fit(_: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
            fitted.update(fitting(self.param_groups, given, self._fresh))
            return fitted

        last = self.register_load_state_dict_pre_hook(fit)  # after the user's own
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
        # torch casts every floating state to the dtype of its parameter; a state's own dtype is part of the rule.
        for p, kept in pairs(self.param_groups, fitted):
            tensors = {key: value for key, value in kept.items() if isinstance(value, Tensor)}
            self.state[p].update({key: value.detach().clone().to(p.device) for key, value in tensors.items()})


def _more(p: Tensor, label: tuple[Any, ...], t: int, loss: Any) -> dict[str, Any]:
    """What a rule may need besides for a step of one parameter."""
    return {"loss": loss, "noise": lambda link: normal_for(p, (*label, link), t)}
