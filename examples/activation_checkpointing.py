"""ravine with activation checkpointing: activations are computed twice, gradients and steps are the same to the bit.

python examples/activation_checkpointing.py
"""

import ravine
import torch
from ravine.rules import Adam
from torch import nn
from torch.utils.checkpoint import checkpoint


class Deep(nn.Module):
    def __init__(self, saves_memory):
        super().__init__()
        torch.manual_seed(0)
        self.saves_memory = saves_memory
        blocks = [nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.1)) for _ in range(8)]
        self.blocks, self.last = nn.ModuleList(blocks), nn.Linear(32, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.saves_memory else block(x))
        return self.last(x)


def trained(saves_memory, steps=100):
    """The losses and the last weights of a run."""
    model = Deep(saves_memory)
    optimizer = ravine.Optimizer(model.named_parameters(), Adam(), lr=3e-3)
    x = torch.randn(256, 32)
    target = x[:, :1] * x[:, 1:2]
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def main():
    (plain, weights), (losses, others) = trained(False), trained(True)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    print(f"the same as without, to the bit: {losses == plain and torch.equal(weights, others)}")


if __name__ == "__main__":
    main()
