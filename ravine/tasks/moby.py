"""Moby Dick, letter by letter: a character-level language model on 1.2 million characters."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravine import data
from ravine.core.batches import Batch, to
from ravine.core.sampling import classes
from ravine.core.task import Task

CONTEXT = 64
_JUDGED = 32 * 64  # windows on which the metric is judged


class Transformer(nn.Module):
    """A decoder of pre-norm blocks with learned positions; logits (batch, time, characters)."""

    def __init__(self, characters: int, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position_embedding = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)

    def forward(self, text: Tensor) -> Tensor:
        x = self.embedding(text) + self.position_embedding.weight[: text.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        parts = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, time, width))
        added: Tensor = self.mlp(self.mlp_norm(x))
        return x + added


def _nats(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy per character, in nats."""
    x, y = batch
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def _bits(model: nn.Module, windows: Batch) -> float:
    """Bits per character."""
    device = next(model.parameters()).device
    x, y = windows
    parts = zip(x.split(256), y.split(256), strict=True)
    nats = sum(_nats(model, to(part, device)).item() * len(part[0]) for part in parts)
    return nats / len(x) / math.log(2)


def _windows(text: Tensor) -> Batch:
    """The first windows of `text` that do not overlap, with the characters that follow."""
    n = min(_JUDGED, (len(text) - 1) // CONTEXT)
    return text[: n * CONTEXT].view(n, CONTEXT), text[1 : n * CONTEXT + 1].view(n, CONTEXT)


def lm() -> Task:
    """Moby Dick by characters, a transformer of 2 layers (bits per character). Needs `ravine data fetch moby_dick`."""
    book = str(data.load("moby_dick"))
    alphabet = {character: i for i, character in enumerate(sorted(set(book)))}
    text = torch.tensor([alphabet[character] for character in book])
    a, b = int(0.8 * len(text)), int(0.9 * len(text))
    train = text[:a]

    def draw(generator: torch.Generator) -> Iterator[Batch]:
        steps = torch.arange(CONTEXT + 1)
        while True:
            starts = torch.randint(len(train) - CONTEXT, (32, 1), generator=generator)
            windows = train[starts + steps]
            yield windows[:, :-1], windows[:, 1:]

    return Task(
        name="moby-lm",
        model=lambda: Transformer(len(alphabet)),
        loss=_nats,
        train=draw,
        valid=_windows(text[a:b]),
        test=_windows(text[b:]),
        metric=_bits,
        metric_name="bits per character",
        better="lower",
        batch_size=32,
        forward=lambda model, batch: model(batch[0]),
        criterion=lambda outputs, batch: F.cross_entropy(outputs.flatten(0, 1), batch[1].flatten()),
        sample=lambda outputs, batch: ((batch[0], classes(outputs)), batch[1].numel()),
    )
