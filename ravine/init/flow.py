"""What stands before and behind every weight of a model, gathered while signals are followed through it."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from ravine.core.errors import RavineError
from ravine.init.activations import Activation
from ravine.init.splitting import Rows, equal_parts


class Unknown(Activation):
    """A function of a signal of which only the name is known; gains cannot be had for it."""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.label.partition(": ")[2]


def unknown_function(name: str) -> Unknown:
    """The function of this name, equal to every other of it."""
    return Unknown(f"unknown: {name}", _no_values)


def _no_values(z: Tensor) -> Tensor:
    raise RavineError("the values of a function that is not known cannot be told")


@dataclass(frozen=True)
class Origin:
    """What made a signal: an activation of pre-activations that came from `sources`, or were normalized.

    rows: the rows of the source's weight that it is of, None for all.
    """

    f: Activation
    sources: frozenset[int] = frozenset()
    normalized: bool = False
    rows: Rows | None = None


@dataclass(frozen=True)
class Tag:
    """What is known of one tensor on its way.

    pending: weights whose output this is, with no activation between. origins: the activations that made it, None
    standing for anything else. history: all weights it has come through. norm: the scale of the normalization that made
    it last; normalized: whether one did. line: the multiple or shift of `pending` that this is. rows: of `pending`,
    None for all. roots: signals of which this is a function, number by number.
    """

    pending: frozenset[int] = frozenset()
    origins: frozenset[Origin | None] = frozenset()
    history: frozenset[int] = frozenset()
    norm: int | None = None
    normalized: bool = False
    line: Activation | None = None
    rows: Rows | None = None
    roots: frozenset[object] = frozenset()


@dataclass
class Place:
    """Where a weight stands. after: what its output goes into, None for no activation; turned: used as x W; blocks: the
    rows of it that are used apart.

    norms: the scales of the normalizations between its output and that, None for one without a scale.
    """

    order: int
    before: frozenset[Origin | None]
    after: set[Activation | None] = field(default_factory=set)
    turned: bool = False
    norms: set[int | None] = field(default_factory=set)
    blocks: set[Rows | None] = field(default_factory=set)

    @property
    def parts(self) -> int:
        """In how many equal parts the output is used, as queries, keys and values are."""
        return equal_parts(self.blocks)


@dataclass(frozen=True)
class Branch:
    """A residual branch: its weights in order of use, those that end it, and the normalization that ends it."""

    weights: tuple[int, ...]
    ends: frozenset[int]
    norm: int | None


class Flow:
    """Follows tags through weights, activations, normalizations and sums; numbers stand for parameters.

    What a weight's output goes into is settled where the signal is used: by the next weight, by something that mixes
    signals, or as the model's output. So `2 * tanh(z)` is one function of z.
    """

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.branches: dict[frozenset[int], Branch] = {}
        self.added: set[int] = set()  # parameters that are added to signals, or stand beside them
        self._count = itertools.count()

    def weight(self, key: int, tag: Tag, turned: bool = False) -> Tag:
        """Through a weight."""
        self.resolve(tag)
        place = self.places.setdefault(key, Place(len(self.places), frozenset(), turned=turned))
        place.before |= tag.origins or {None}
        return Tag(pending=frozenset({key}), history=tag.history | {key}, roots=self._root())

    def activate(self, f: Activation, tag: Tag) -> Tag:
        """Through an activation, which makes one of two where another has come just before."""
        (first,) = tag.origins if len(tag.origins) == 1 else (None,)
        made: Origin | None = None
        if tag.pending or tag.normalized:
            self._settle(tag.origins)
            made = Origin(_of(f, tag.line), tag.pending, tag.normalized, tag.rows)
        elif first is not None:
            made = replace(first, f=_of(f, first.f))
        else:
            self._settle(tag.origins)
        return Tag(origins=frozenset({made}), history=tag.history, roots=tag.roots)

    def shift(self, line: Activation, tag: Tag) -> Tag:
        """Through a multiple or a shift by numbers; of sums it is not followed, as their size is not."""
        (first,) = tag.origins if len(tag.origins) == 1 else (None,)
        if first is None and len(tag.pending) <= 1 and (tag.pending or tag.normalized):
            return replace(tag, line=_of(line, tag.line))
        if first is not None and not tag.pending and len(first.sources) <= 1:
            return replace(tag, origins=frozenset({replace(first, f=_of(line, first.f))}))
        return tag

    def normalize(self, tag: Tag, norm: int | None) -> Tag:
        """Through a normalization, behind which the variance is 1 whatever came in."""
        for key in tag.pending:
            self.places[key].norms.add(norm)
        self._settle(tag.origins)
        return Tag(
            tag.pending, frozenset({None}), tag.history, norm, normalized=True, rows=tag.rows, roots=self._root()
        )

    def mix(self, tags: Iterable[Tag]) -> Tag:
        """Through something that is none of these and multiplies signals, such as attention."""
        history: frozenset[int] = frozenset()
        for tag in tags:
            self.resolve(tag)
            history |= tag.history
        return Tag(origins=frozenset({None}), history=history, roots=self._root())

    def piece(self, tag: Tag, place: object, rows: Rows | None) -> Tag:
        """Some of the numbers of a signal, at a place of their own."""
        return replace(tag, rows=tag.rows or rows, roots=frozenset({(tag.roots, place)}))

    def join(self, tags: list[Tag]) -> Tag:
        """Through what changes no distribution much: sums, reshapes, pooling, dropout, concatenation."""
        first = tags[0]
        if len(tags) == 1:
            return first
        return Tag(
            frozenset(key for tag in tags for key in tag.pending),
            frozenset(origin for tag in tags for origin in tag.origins),
            frozenset(key for tag in tags for key in tag.history),
            normalized=all(tag.normalized for tag in tags),
            line=first.line if all(tag.line == first.line for tag in tags) else None,
            rows=first.rows if all(tag.rows == first.rows for tag in tags) else None,
            roots=frozenset(root for tag in tags for root in tag.roots),
        )

    def add(self, a: Tag, b: Tag) -> Tag:
        """Through a sum of two signals, one of which may be a residual branch of the other."""
        own = (a.history - b.history, b.history - a.history)
        branch, weights = (a, own[0]) if len(own[0]) >= len(own[1]) else (b, own[1])
        if branch.pending and branch.pending <= weights and len(own[0]) != len(own[1]) and len(weights) < 16:
            ordered = tuple(sorted(weights, key=lambda key: self.places[key].order))
            self.branches[weights] = Branch(ordered, branch.pending, branch.norm)
        return self.join([a, b])

    def resolve(self, tag: Tag) -> None:
        """A signal is used: the weights that it comes from have met what is behind them."""
        for key in tag.pending:
            self.places[key].after.add(None)
            self.places[key].blocks.add(tag.rows)
        self._settle(tag.origins)

    def _settle(self, origins: Iterable[Origin | None]) -> None:
        for origin in origins:
            for key in origin.sources if origin is not None else ():
                self.places[key].after.add(origin.f if origin is not None else None)
                self.places[key].blocks.add(origin.rows if origin is not None else None)

    def _root(self) -> frozenset[object]:
        return frozenset({next(self._count)})


def _of(f: Activation, inner: Activation | None) -> Activation:
    """f of another; what is not known stays so."""
    if inner is None or isinstance(f, Unknown):
        return f
    return inner if isinstance(inner, Unknown) else f.of(inner)
