"""What links want summed over all parameters of an optimizer: the norm of all gradients, for one."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from ravine.core.errors import RavineError
from ravine.core.rule import Rule

Summed = dict[str, Tensor]
Key = tuple[str, int]  # a link's name, and the how many-eth of that name it is in its chain
Totals = dict[Key, Summed]
Parts = Callable[[int, Mapping[int, Summed]], Iterable[Mapping[str, Tensor]]]
"""From a link and the totals of those before it to what it wants summed, of the parameters of one group, in parts."""


def totals(rules: Sequence[Rule], parts: Sequence[Parts]) -> Totals:
    """The sums for every summing link of all groups' rules, over the groups that have the link.

    A later link of a chain sees what the earlier ones made, so the sums are taken in an order in which each chain's
    come one after the other; raises where two chains want opposite orders.
    """
    found: Totals = {}
    waiting = [_summing(rule) for rule in rules]
    while keys := {key for places in waiting for _, key in places if key not in found}:
        with_it = {key: [places for places in waiting if any(own == key for _, own in places)] for key in keys}
        ready = [key for key in keys if all(_next(places, found) == key for places in with_it[key])]
        if not ready:
            names = " and ".join(sorted(name for name, _ in keys))
            raise RavineError(f"the chains of the groups have {names} in opposite orders: give them the same")
        key = min(ready)
        found[key] = {}
        for rule, places, summed in zip(rules, waiting, parts, strict=True):
            for i in [i for i, own in places if own == key]:
                for part in summed(i, mine(rule, found)):
                    add(found[key], part)
    return found


def mine(rule: Rule, found: Totals) -> dict[int, Summed]:
    """Of all totals, those of the rule's own links, by their place in the chain."""
    return {i: found[key] for i, key in _summing(rule) if key in found}


def add(total: Summed, more: Mapping[str, Tensor]) -> None:
    """Add `more` to `total`, name by name."""
    for name, value in more.items():
        total[name] = total[name] + value.to(total[name].device) if name in total else value


def _summing(rule: Rule) -> list[tuple[int, Key]]:
    names = [link.name for link in rule.links]
    return [(i, (link.name, names[:i].count(link.name))) for i, link in enumerate(rule.links) if link.summarizes()]


def _next(places: list[tuple[int, Key]], found: Totals) -> Key | None:
    """The first of a chain's sums that is not known yet."""
    return next((key for _, key in places if key not in found), None)
