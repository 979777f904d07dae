"""Deep networks on digits, many copies at once: a copy's weights are one vector, so that any rule walks them all."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

UNITS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
CHANCE = math.log(10)  # the loss of guessing
Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Deep:
    """`depth` hidden layers of `width` units, behind the last of them the classes.

    skip: "residual", y = x + a F(x) with a learnt from 0, or "highway", y = H T + x (1 - T) with a gate's bias of -2;
        around every hidden layer but the first.
    norm: every layer is normalized over the batch, at training as at judging; then scaled and shifted.
    heads: the hidden layers (1 is the first) behind which something else is predicted, of `head_size` numbers.
    """

    depth: int
    width: int = 24
    unit: str = "relu"
    skip: str = ""
    norm: bool = False
    heads: tuple[int, ...] = ()
    head_size: int = 10
    inputs: int = 64
    classes: int = 10

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part of a copy's weights; hidden layers after the first, and heads, are stacked."""
        d, h, heads = self.depth - 1, self.width, len(self.heads)
        found: dict[str, tuple[int, ...]] = {"first": (self.inputs, h), "first bias": (1, h)}
        found |= {"hidden": (d, h, h), "hidden bias": (d, 1, h)}
        found |= {"last": (h, self.classes), "last bias": (1, self.classes)}
        found |= {"scale": (d, 1, 1)} if self.skip == "residual" else {}
        found |= {"gate": (d, h, h), "gate bias": (d, 1, h)} if self.skip == "highway" else {}
        found |= {"gain": (self.depth, 1, h)} if self.norm else {}
        return found | (
            {"heads": (heads, h, self.head_size), "heads bias": (heads, 1, self.head_size)} if heads else {}
        )

    @property
    def size(self) -> int:
        """How many weights a copy has."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def parts(self, weights: Tensor) -> dict[str, Tensor]:
        """Views of the weights (R, size), each of (R, *shape)."""
        shapes = self.shapes
        pieces = torch.split(weights, [math.prod(shape) for shape in shapes.values()], 1)
        return {
            name: piece.view(len(weights), *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    def start(self, generators: Sequence[torch.Generator], how: str) -> Tensor:
        """A copy for each generator, biases of 0.

        how: "classic", uniform within 1/sqrt(fan-in) either way, or "he", normal of variance 2/fan-in, but classic for
        what makes outputs and for gates.
        """
        copies = torch.zeros(len(generators), self.size)
        for copy, generator in zip(copies, generators, strict=True):
            for name, part in self.parts(copy[None]).items():
                fan_in = part.shape[-2]
                if name in ("gain", "gate bias"):
                    part.fill_(1.0 if name == "gain" else -2.0)
                elif how == "he" and name in ("first", "hidden"):
                    part.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                elif not name.endswith("bias") and name != "scale":
                    part.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        return copies

    def only(self, layers: Collection[int], last: bool = False, heads: Collection[int] = ()) -> Tensor:
        """1 for the weights of these hidden layers, of the last if asked, and of heads by their number; else 0."""
        mask = torch.zeros(1, self.size)
        for name, part in self.parts(mask).items():
            kind = name.removesuffix(" bias")
            if kind == "first":
                part += float(1 in layers)
            elif kind == "last":
                part += float(last)
            elif kind == "heads":
                part[0, list(heads)] = 1.0
            else:
                shift = 1 if kind == "gain" else 2
                part[0, [i - shift for i in layers if i >= shift]] = 1.0
        return mask

    def hidden(self, weights: Tensor, x: Tensor, until: int | None = None) -> list[Tensor]:
        """What each hidden layer makes of each copy's inputs (R, n, 64), or of those (n, 64) that all share."""
        part, unit = (
            {name: p.unbind(1) if p.ndim > 3 else p for name, p in self.parts(weights).items()},
            UNITS[self.unit],
        )

        def made(x: Tensor, weight: Tensor, bias: Tensor, layer: int) -> Tensor:
            if not self.norm:
                return unit(x @ weight + bias)
            z = x @ weight
            z = (z - z.mean(1, keepdim=True)) * (z.var(1, keepdim=True, correction=0) + 1e-5).rsqrt()
            return unit(part["gain"][layer] * z + bias)

        found = [made(x, part["first"], part["first bias"], 0)]  # type: ignore[arg-type]
        for i in range((until or self.depth) - 1):
            x = found[-1]
            y = made(x, part["hidden"][i], part["hidden bias"][i], i + 1)
            if self.skip == "residual":
                y = x + part["scale"][i] * y
            elif self.skip == "highway":
                gate = torch.sigmoid(x @ part["gate"][i] + part["gate bias"][i])
                y = x + gate * (y - x)
            found.append(y)
        return found

    def logits(self, weights: Tensor, x: Tensor) -> Tensor:
        """The outputs of each copy: (R, n, classes)."""
        return self.answered(weights, self.hidden(weights, x))

    def answered(self, weights: Tensor, hidden: Sequence[Tensor]) -> Tensor:
        """The outputs, from what the hidden layers made."""
        part = self.parts(weights)
        return hidden[-1] @ part["last"] + part["last bias"]

    def predicted(self, weights: Tensor, hidden: Sequence[Tensor], head: int) -> Tensor:
        """What a head makes, by its number, from what the hidden layers made."""
        part = self.parts(weights)
        return hidden[self.heads[head] - 1] @ part["heads"][:, head] + part["heads bias"][:, head]


def entropies(logits: Tensor, y: Tensor) -> Tensor:
    """Each copy's mean cross-entropy: (R,)."""
    y = y.expand(logits.shape[:-1])
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(1)


def accuracies(logits: Tensor, y: Tensor) -> Tensor:
    """Each copy's share of right answers: (R,)."""
    return (logits.argmax(-1) == y).double().mean(-1)


def gradient(losses: Losses, mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Of each copy's own loss by its own weights; 0 where the mask is."""

    def found(weights: Tensor) -> Tensor:
        at = weights.detach().requires_grad_()
        slope = torch.autograd.grad(losses(at).sum(), at)[0]
        return slope if mask is None else slope * mask

    return found


def arms(start: Tensor, lrs: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The same copies for each learning rate, arm after arm, and the learning rate of each row."""
    return start.repeat(len(lrs), 1), torch.tensor(lrs).repeat_interleave(len(start))[:, None]


def best(losses: Tensor, copies: int) -> int:
    """The arm of the smallest mean loss; where that is no number it counts as infinite."""
    return int(torch.nan_to_num(losses, nan=math.inf).view(-1, copies).double().mean(1).argmin())


def batches(
    x: Tensor, y: Tensor, size: int, generators: Sequence[torch.Generator], repeat: int = 1
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Minibatches drawn with replacement, one stream for each copy, the same for every arm."""

    def batch() -> tuple[Tensor, Tensor]:
        rows = torch.stack([torch.randint(len(y), (size,), generator=g) for g in generators])
        return x[rows].repeat(repeat, 1, 1), y[rows].repeat(repeat, 1)

    return batch
