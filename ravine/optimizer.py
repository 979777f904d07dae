"""The one torch.optim.Optimizer: it owns groups, state, checkpoints and the loop; rules own the maths."""

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable would import dynamo at once

import ravine.rules  # noqa: F401  # makes the built-in names known, so that checkpoints can be read back
from ravine.core.declared import check_value
from ravine.core.errors import RavineError, unknown
from ravine.core.roles import plain
from ravine.core.rule import Rule
from ravine.engine.bucket import How, Member
from ravine.engine.checkpoint import fitting, pairs
from ravine.engine.collecting import completed, gathered
from ravine.engine.compiled import Compiled
from ravine.engine.evaluation import (
    Evaluation,
    Sampled,
    evaluate,
    probing,
    refuse_missing,
    refuse_processes,
    takes_gradients,
    those_asked,
)
from ravine.engine.execution import EXECUTIONS, compiles, compiling_failed
from ravine.engine.finite import NonFinite, nonfinite_in
from ravine.engine.fitness import refuse_members, refuse_scaler, refuse_unfit
from ravine.engine.group import CYCLED, Group, cycled, lr_of, make_group, rule_of
from ravine.engine.layout import fits
from ravine.engine.rounding import ROUNDINGS
from ravine.engine.single import fresh, label_of
from ravine.engine.stepping import GroupStep
from ravine.engine.summing import mine, totals
from ravine.engine.swapping import judged
from ravine.engine.translation import write
from ravine.schedules import Schedule, constant

Move = tuple[int, dict[str, Any], Rule, float]  # a group's number, itself, its rule, and its learning rate

NONFINITE = ("raise", "skip", "ignore")
_KEPT = ("nonfinite", "execution", "rounding", "seed", "skipped", "products")


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
        for (name, allowed), chosen in zip(choices.items(), (nonfinite, execution, rounding), strict=True):
            if chosen not in allowed:
                raise unknown(f"choice of {name}=", str(chosen), allowed)
        check_value("seed", seed, int, "[0, inf)")
        self.nonfinite, self.execution, self.rounding, self.seed = nonfinite, execution, rounding, seed
        self.skipped = self.products = 0
        self._compiled: dict[int, Compiled] = {}
        self._swapped = False
        super().__init__(params, {"rule": rule, "lr": lr, "schedule": schedule or constant(), "maximize": maximize})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in _KEPT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"products": 0} | state)
        self._compiled, self._swapped = {}, False
        self.param_groups = [Group(group) for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        given = {key: self.defaults[key] for key in ("rule", "lr", "schedule", "maximize")} | param_group
        group = make_group(given)
        with warnings.catch_warnings():  # torch warns of a parameter that is given twice, and steps it twice
            warnings.filterwarnings("error", "optimizer contains a parameter group with duplicate parameters")
            try:
                super().add_param_group(group)
                refuse_members(group, rule_of(group))
            except (UserWarning, RavineError) as error:
                self.param_groups = [kept for kept in self.param_groups if kept is not group]
                if isinstance(error, RavineError):
                    raise
                raise RavineError(f"a parameter is given twice in one group: {error}") from error
        if "param_names" in group:
            group["param_names"] = [plain(name) for name in group["param_names"]]
        kept = {key: value for key, value in self.defaults.items() if key not in CYCLED}
        self.defaults = kept | cycled(self.param_groups)

    @overload
    def step(self, closure: None = None, sampled: Sampled | None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float], sampled: Sampled | None = None) -> float: ...

    @_disable_dynamo  # inside a compiled function it runs as it is: dynamo cannot trace our groups
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, sampled: Sampled | None = None) -> float | None:
        """One step for every parameter that has a gradient. Returns the closure's loss, if one is given.

        closure: takes the gradients and returns the loss, as for any optimizer of torch; called a second time at
            another place by SAM. Rules that need products of the Hessian take the gradients themselves, so that it
            must return the loss without calling `backward()`.
        sampled: for rules that need it, returns the mean loss at targets drawn from the model's own predictions, and
            the number of examples; without calling `backward()` either.
        """
        if self._swapped:
            raise RavineError("a step inside swapped() would be undone at its end: step outside")
        rules = [rule_of(group) for group in self.param_groups]
        lrs = [lr_of(group) for group in self.param_groups]
        curious = [rule for rule in rules if rule.is_curious]
        refuse_missing(curious, closure, sampled)
        refuse_processes(curious)
        own = takes_gradients(curious)
        asked = those_asked(self.param_groups, rules, self.state, self.seed)
        told = evaluate(asked, closure, sampled, own)
        self.products += bool(told.products)
        loss: float | None = told.loss
        refuse_unfit(self.param_groups, rules, self.rounding)
        if self._is_skipped(told):
            return loss
        if any(link.probes() for rule in curious for link in rule.links):
            with probing(self.param_groups, rules):
                evaluate([one._replace(again=True) for one in asked], closure, None, own)
            if self._is_skipped(told):
                return loss
        moves = list(zip(range(len(rules)), self.param_groups, rules, lrs, strict=True))
        moves = [move for move in moves if not gathered(*move[1:3], self._state)]
        with completed(moves, self.state):
            self._make(moves, told)
        return loss

    def _make(self, moves: list[Move], told: Evaluation) -> None:
        """Move the parameters of the groups that are due."""
        rules, groups = [rule for _, _, rule, _ in moves], [self._group_step(*move, told) for move in moves]
        summed = totals(rules, [group.summed for group in groups])
        steps = [move for group, rule in zip(groups, rules, strict=True) for move in group.moves(mine(rule, summed))]
        for step in steps:
            step()
        for _, group, rule, _ in moves:
            group["steps"] += 1
            if rule.collects > 1:
                group["collected"] = 0

    def wants(self, need: str) -> bool:
        """Whether a rule of any group needs this, one of those that `ravine.Rule` names."""
        return any(need in link.needs for group in self.param_groups for link in rule_of(group).links)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """What torch's GradScaler asks before a step: it unscales the gradients, and cannot know of products."""
        refuse_scaler(self.param_groups)
        return False

    def _is_skipped(self, told: Evaluation) -> bool:
        """Whether the step is left out for numbers that are not finite; raises where that is asked for."""
        if self.nonfinite == "ignore":
            return False
        if not (found := told.nonfinite() or nonfinite_in(self.param_groups, self.state)):
            return False
        if self.nonfinite == "raise":
            raise NonFinite(f"{found}; nothing was changed. Lower the learning rate, clip, or skip such steps")
        self.skipped += 1
        return True

    def _group_step(self, number: int, group: dict[str, Any], rule: Rule, lr: float, told: Evaluation) -> GroupStep:
        """The step of a group, which is to be summed over before it is made."""
        how = How(rule, group["rule"], lr, group["maximize"], self.rounding, {}, told)
        compiled: Compiled | None = None
        if compiles(self.execution, rule, group["params"]):
            compiled = self._compiled.get(number)
            if compiled is None or not compiled.holds(group["params"], self.state, how):
                compiled = self._gathered(number, group, how)
        looped: list[Member] = []
        if compiled is None or not compiled.complete:
            done: Collection[tuple[int, int]] = compiled.places if compiled else ()
            looped = [m for m in self._members(number, group, rule) if m.place not in done]
        return GroupStep(how, compiled, looped, partial(self._fall_back, number))

    def _members(self, number: int, group: dict[str, Any], rule: Rule) -> list[Member]:
        """The parameters of a group that have a gradient."""
        return [
            Member((number, i), p, self._state(p, rule), label_of(self.seed, group, number, i))
            for i, p in enumerate(group["params"])
            if p.grad is not None
        ]

    def _gathered(self, number: int, group: dict[str, Any], how: How) -> Compiled | None:
        """The compiled step of those parameters of a group for which there can be one."""
        for i in [i for i in self._compiled if i == number or i >= len(self.param_groups)]:
            self._compiled.pop(i).release()
        members = self._members(number, group, how.rule)
        try:
            self._compiled[number] = Compiled([m for m in members if fits(m.p)], len(members), how)
        except Exception as error:
            self._fall_back(number, error)
        return self._compiled.get(number)

    def _fall_back(self, number: int, error: Exception) -> None:
        """Loop from now on, where that was not excluded, since a group cannot be compiled."""
        if number in self._compiled:
            self._compiled.pop(number).release()
        if isinstance(error, RavineError):
            raise error
        compiling_failed(self.execution, error)
        self.execution = "loop"

    def _state(self, p: Tensor, rule: Rule) -> dict[str, Any]:
        """The state of a parameter, begun where there is none."""
        state: dict[str, Any] = self.state[p]
        if not state:
            state.update(step=0, **fresh(p, rule, self.rounding))
        return state

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are those to be judged; outside, those at which the next gradient is taken.

        They differ for a rule such as Nesterov(form="book"); for the others nothing happens.
        """
        if self._swapped:  # they are already those
            yield
            return
        self._swapped = True
        try:
            with judged(self.param_groups, self.state):
                yield
        finally:
            self._swapped = False

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
            fitted.update(fitting(self.param_groups, given, partial(fresh, rounding=self.rounding)))
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
