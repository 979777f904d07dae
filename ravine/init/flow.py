"""What stands before and behind every weight of a model, gathered while signals are followed through it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ravine.init.activations import Activation


@dataclass(frozen=True)
class Origin:
    """What made a signal: an activation of pre-activations that came from `sources`, or were normalized."""

    f: Activation
    sources: frozenset[int] = frozenset()
    normalized: bool = False


@dataclass(frozen=True)
class Tag:
    """What is known of one tensor on its way.

    pending: weights whose output this is, with no activation between. origins: the activations that made it, None
    standing for anything else. history: all weights it has come through. norm: the scale of the normalization that made
    it last; normalized: whether one did.
    """

    pending: frozenset[int] = frozenset()
    origins: frozenset[Origin | None] = frozenset()
    history: frozenset[int] = frozenset()
    norm: int | None = None
    normalized: bool = False


@dataclass
class Place:
    """Where a weight stands. after: what its output goes into, None for no activation; turned: used as x W.

    norms: the scales of the normalizations between its output and that, None for one without a scale.
    """

    order: int
    before: frozenset[Origin | None]
    after: set[Activation | None] = field(default_factory=set)
    turned: bool = False
    norms: set[int | None] = field(default_factory=set)


@dataclass(frozen=True)
class Branch:
    """A residual branch: its weights in order of use, those that end it, and the normalization that ends it."""

    weights: tuple[int, ...]
    ends: frozenset[int]
    norm: int | None


class Flow:
    """Follows tags through weights, activations, normalizations and sums; numbers stand for parameters."""

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.branches: dict[frozenset[int], Branch] = {}
        self.added: set[int] = set()  # parameters that are added to signals, or stand beside them

    def weight(self, key: int, tag: Tag, turned: bool = False) -> Tag:
        """Through a weight."""
        self.resolve(tag, None)
        place = self.places.setdefault(key, Place(len(self.places), frozenset(), turned=turned))
        place.before |= tag.origins or {None}
        return Tag(pending=frozenset({key}), history=tag.history | {key})

    def activate(self, f: Activation, tag: Tag) -> Tag:
        """Through an activation, which makes one of two where another has come just before."""
        self.resolve(tag, f)
        (first,) = tag.origins if len(tag.origins) == 1 else (None,)
        made: Origin | None = Origin(f, tag.pending, tag.normalized) if tag.pending or tag.normalized else None
        if made is None and first is not None:
            made = Origin(f.of(first.f), first.sources, first.normalized)
        return Tag(origins=frozenset({made}), history=tag.history)

    def normalize(self, tag: Tag, norm: int | None) -> Tag:
        """Through a normalization, behind which the variance is 1 whatever came in."""
        for key in tag.pending:
            self.places[key].norms.add(norm)
        return Tag(tag.pending, frozenset({None}), tag.history, norm, normalized=True)

    def mix(self, tags: Iterable[Tag]) -> Tag:
        """Through something that is none of these and multiplies signals, such as attention."""
        history: frozenset[int] = frozenset()
        for tag in tags:
            self.resolve(tag, None)
            history |= tag.history
        return Tag(origins=frozenset({None}), history=history)

    def join(self, tags: list[Tag]) -> Tag:
        """Through what changes no distribution much: sums, reshapes, pooling, dropout, concatenation."""
        if len(tags) == 1:
            return tags[0]
        return Tag(
            frozenset(key for tag in tags for key in tag.pending),
            frozenset(origin for tag in tags for origin in tag.origins),
            frozenset(key for tag in tags for key in tag.history),
            normalized=all(tag.normalized for tag in tags),
        )

    def add(self, a: Tag, b: Tag) -> Tag:
        """Through a sum of two signals, one of which may be a residual branch of the other."""
        own = (a.history - b.history, b.history - a.history)
        branch, weights = (a, own[0]) if len(own[0]) >= len(own[1]) else (b, own[1])
        if branch.pending and branch.pending <= weights and len(own[0]) != len(own[1]) and len(weights) < 16:
            ordered = tuple(sorted(weights, key=lambda key: self.places[key].order))
            self.branches[weights] = Branch(ordered, branch.pending, branch.norm)
        return self.join([a, b])

    def resolve(self, tag: Tag, f: Activation | None) -> None:
        """The pending weights of `tag` have met what is behind them."""
        for key in tag.pending:
            self.places[key].after.add(f)
