"""What a spec means for a model: a strategy for every role."""

from dataclasses import dataclass

from ravine.core.errors import RavineError, unknown
from ravine.core.roles import ROLES
from ravine.core.spec import Call, Group, Spec, parse
from ravine.init.strategy import Strategy

NAMED = (*ROLES, "recurrent")
REST = "rest"
OWN = ("embedding", "norm", "bias", "recurrent")  # roles with a way of their own where the spec does not name them
ZERO_RESIDUAL = "zero_residual"


@dataclass(frozen=True)
class Settings:
    """The strategies of a spec by role, `rest` among them, and whether residual branches shall begin at zero."""

    text: str
    strategies: dict[str, Strategy]
    zero_residual: bool

    def strategy(self, role: str, name: str) -> Strategy | None:
        """The strategy of a role; None where the role has its own way; raises where a matrix is left out."""
        if role in self.strategies:
            return self.strategies[role]
        if role in OWN and role != "recurrent":
            return None
        if REST in self.strategies:
            return self.strategies[REST]
        if role == "recurrent":
            return None
        raise RavineError(
            f"parameter '{name}' has the role '{role}', which '{self.text}' leaves out: give '{REST}' too"
        )


def settings(spec: Spec | Strategy | str) -> Settings:
    """The meaning of `spec`; everything in it is checked."""
    if isinstance(spec, Strategy):
        return Settings(str(spec), {REST: spec}, False)
    parsed = parse(spec) if isinstance(spec, str) else spec
    if not isinstance(parsed, Spec):
        raise RavineError(
            f"an initialization is a spec such as \"orthogonal(gain='auto')\" or a Strategy, got {spec!r}"
        )
    strategies: dict[str, Strategy] = {}
    zero = False
    for group in parsed.groups:
        role = group.role or REST
        if role not in (*NAMED, REST):
            raise unknown("role", role, (*NAMED, REST))
        if role in strategies or (group.role is None and len(parsed.groups) > 1):
            raise RavineError(f"'{parsed}' must give each role once and, with several groups, each group a role")
        strategies[role] = _strategy(group)
        zero |= len(group.links) > 1
    return Settings(str(parsed), strategies, zero)


def _strategy(group: Group) -> Strategy:
    first, *more = group.links
    if group.schedules:
        raise RavineError(f"'{group}' has a schedule; an initialization has none")
    for link in more:
        if link != Call(ZERO_RESIDUAL):
            raise unknown("addition to an initialization", link.name, [ZERO_RESIDUAL], f"As in he + {ZERO_RESIDUAL}.")
    return Strategy.make(first)
