"""A step's way through the links of a rule, one after the other."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ravine.core.link import Link, State

More = Mapping[str, Any]
Totals = Mapping[int, Mapping[str, Tensor]]  # by the link's place in the chain, then by name


class Passage:
    """What a gradient becomes on its way through `links`; a rule alone is a chain of one."""

    @property
    def links(self) -> tuple[Link, ...]:
        raise NotImplementedError

    def move(
        self, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None, refresh: bool = True,
    ) -> tuple[Tensor, Any, State]:  # fmt: skip
        """A step of all links: `(u, scale, new_state)`, after which the parameter stands at `p - scale * u`.

        `more` tells what links may need besides, see `needs`; "noise" is a function that makes it for a link.
        `refresh`: with what is refreshed at this step, where that has not been done before.
        """
        return self._through(len(self.links), g, p, t, state, lr, totals, more, refresh)

    def move_alone(
        self, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, more: More | None = None
    ) -> tuple[Tensor, Any, State]:
        """The same for a parameter beside which there is no other: what is summed over all is its own."""
        totals: dict[int, Mapping[str, Tensor]] = {}
        for i in (i for i, link in enumerate(self.links) if link.summarizes()):
            totals[i] = self.summed(i, g, p, t, state, lr, totals, more)
        return self.move(g, p, t, state, lr, totals, more)

    def summed(
        self, i: int, g: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None, refresh: bool = True,
    ) -> Mapping[str, Tensor]:  # fmt: skip
        """What link `i` wants summed over all parameters; `totals` are those of the links before."""
        link = self.links[i]
        handed, scale, _ = self._through(i, g, p, t, state, lr, totals, more, refresh)
        handed = scale * handed if link.takes_displacement else handed
        return link.summarize(handed, p, t, **self._given(i, g, state, lr, totals, more))

    def refreshed(
        self, g: Tensor, p: Tensor, t: int, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None,
    ) -> State:  # fmt: skip
        """What all links refresh at step `t`, apart from the rest of the step."""
        new: State = {}
        for i, link in enumerate(self.links):
            if link.refreshes_at(t):
                handed, scale, _ = self._through(i, g, p, t, state | new, lr, totals, more, refresh=False)
                handed = scale * handed if link.takes_displacement else handed
                new |= self._fresh(i, handed, g, p, t, state, lr, totals, more)
        return new

    def _through(
        self, end: int, raw: Tensor, p: Tensor, t: Any, state: State, lr: Any, totals: Totals | None = None,
        more: More | None = None, refresh: bool = True,
    ) -> tuple[Tensor, Any, State]:  # fmt: skip
        """The links before `end`: what they hand on, what that is still to be scaled by, and their new state."""
        new: State = {}
        g, scale = raw, lr
        for i, link in enumerate(self.links[:end]):
            if link.takes_displacement:
                g = scale * g
            scale = 1.0 if link.applies else scale
            if refresh and link.refreshes_at(t):
                new |= self._fresh(i, g, raw, p, t, state, lr, totals, more)
            g, kept = link.update(g, p, t, **self._given(i, raw, state | new, lr, totals, more))
            new |= {self.key(i, key): value for key, value in kept.items()}
            raw = g if link.collects > 1 else raw  # what has been gathered is the gradient
        return g, scale, new

    def _fresh(
        self, i: int, g: Tensor, raw: Tensor, p: Tensor, t: int, state: State, lr: Any, totals: Totals | None,
        more: More | None,
    ) -> State:  # fmt: skip
        given = self._given(i, raw, state, lr, totals, more, dear=True)
        return {self.key(i, key): value for key, value in self.links[i].refresh(g, p, t, **given).items()}

    def _given(
        self, i: int, raw: Tensor, state: State, lr: Any, totals: Totals | None, more: More | None, dear: bool = False
    ) -> dict[str, Any]:
        """What link `i` is handed beside `g` and `p`: its state, and what it needs, see `needs`."""
        link = self.links[i]
        dear, more = dear or not link.refreshes_every, more or {}
        given: dict[str, Any] = self.part(i, state)
        if link.applies or "lr" in link.needs:
            given["lr"] = lr if any(before.applies for before in self.links[: i + 1]) else 1.0
        if "gradient" in link.needs:
            given["gradient"] = raw
        if link.summarizes():
            given["totals"] = (totals or {}).get(i, {})
        if "loss" in link.needs:
            given["loss"] = more["loss"]
        if dear and "noise" in link.needs:
            given["noise"] = more["noise"](i)
        if dear and "product" in link.needs:
            given["signs"], given["product"] = more["product"]
        if dear and "sampled" in link.needs:
            given["sampled"], given["examples"] = more["sampled"]
        return given

    def start(self, p: Tensor) -> State:
        """The state of all links for the parameter `p`."""
        return {self.key(i, key): v for i, link in enumerate(self.links) for key, v in link.init(p).items()}

    def part(self, i: int, state: State) -> State:
        """The state of link `i` alone, under the names that it gave."""
        prefix = self.key(i, "")
        return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}

    def key(self, i: int, key: str) -> str:
        """The name in a chain's state of what link `i` calls `key`."""
        return key if len(self.links) == 1 else f"{i}.{key}"

    def judgement(self, p: Tensor, state: State) -> Tensor:
        """The parameters to be judged, from those at which the gradient is taken."""
        for i, link in reversed(list(enumerate(self.links))):
            p = link.judged(p, **self.part(i, state))
        return p
