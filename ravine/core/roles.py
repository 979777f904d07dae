"""Roles of parameters: what a weight is for, read off its name, its shape and its place in the model.

    input       the first matrix, fed by the data
    hidden      a matrix (or convolution kernel) between input and output
    output      the last matrix, which makes the prediction
    embedding   a table of vectors looked up by index
    norm        scale or shift of a normalization layer
    bias        any other vector or scalar
"""

import re

from torch import nn

ROLES = ("input", "hidden", "output", "embedding", "norm", "bias")

_NORM = re.compile(r"(^|[._])(\w*norm\w*|ln\w*|bn\d*)([._]|$)", re.IGNORECASE)
_EMBEDDING = re.compile(r"(^|[._])(\w*embed\w*|emb|wte|wpe)([._]|$)|_(tokens?|bias_table)$", re.IGNORECASE)
_PROJECTING = (  # whatever they are called, these multiply: `patch_embed.proj`, `embed_out`
    nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention,
)  # fmt: skip
_WRAPPING = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def role(name: str, shape: tuple[int, ...], owner: nn.Module | None = None) -> str:
    """The role of one parameter as far as name, shape and owning module tell: matrices come out as "hidden".

    >>> role("blocks.3.ln_1.weight", (64,)), role("fc.weight", (10, 64)), role("fc.bias", (10,))
    ('norm', 'hidden', 'bias')
    """
    kind = type(owner).__name__
    named = len(shape) >= 2 and not isinstance(owner, _PROJECTING) and kind != "Conv1D" and _EMBEDDING.search(name)
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag) or named:
        return "embedding"
    if len(shape) < 2:
        return "norm" if "Norm" in kind or _NORM.search(name) else "bias"
    return "hidden"


def roles(model: nn.Module) -> dict[str, str]:
    """The role of every parameter of `model` by its name, as `named_parameters` has it.

    Among the matrices, in the order in which the model registers them, the last is the output and the first is the
    input, unless the model starts with a table of an embedding (tokens and positions that are added to patches are
    none). A single matrix is an output. Where the last is the table of an embedding used again, as in GPT-2, the
    embedding is the output too, and no other matrix is one.
    """
    model = unwrapped(model)
    found: dict[str, str] = {}
    last: nn.Parameter | None = None
    tables = False
    for prefix, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            full = plain(f"{prefix}.{name}" if prefix else name)
            found[full] = role(full, tuple(p.shape), module)
            last = p if found[full] == "hidden" else last
            tables |= found[full] == "embedding" and _looked_up(full, p, module)
    parameters = named_parameters(model)
    known = {name: found[name] for name in parameters}  # a tied weight counts once
    tied = any(p is last for name, p in parameters.items() if known[name] == "embedding")
    matrices = [name for name, kind in known.items() if kind == "hidden"]
    if matrices and not tables:
        known[matrices[0]] = "input"
    if matrices and not tied:
        known[matrices[-1]] = "output"
    return known


def _looked_up(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """Whether an embedding may take the data: not a class token, a grid of positions, or a table of biases."""
    return isinstance(owner, nn.Embedding | nn.EmbeddingBag) or (p.ndim == 2 and not name.endswith("_bias_table"))


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of `model` by their names, which are the same whatever it is wrapped in."""
    return {plain(name): p for name, p in unwrapped(model).named_parameters()}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DistributedDataParallel and DataParallel, however they are nested."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        else:
            return model


def plain(name: str) -> str:
    """A parameter's name without what torch.compile, FSDP and activation checkpointing put between its parts.

    >>> plain("_orig_mod.blocks.0._checkpoint_wrapped_module.weight")
    'blocks.0.weight'
    """
    return _WRAPPING.sub("", name)
