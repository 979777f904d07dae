"""ravine in a loop of Hugging Face's Accelerate: prepare, accumulate, clip and step as ever. Reads handwritten digits.

pip install "ravine[ecosystem]"; python examples/accelerate_loop.py
"""

import ravine
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from ravine.rules import Adam, Momentum
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

EPOCHS, ACCUMULATED = 20, 2


def main():
    set_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    # Make the groups before `prepare`, which may wrap the model; their roles and rules stay.
    groups = ravine.groups(model, hidden={"rule": Momentum(0.9), "lr": 0.05}, rest={"rule": Adam(), "lr": 3e-3})
    optimizer = ravine.Optimizer(groups)
    steps = EPOCHS * len(loader) // ACCUMULATED
    scheduler = OneCycleLR(optimizer, [0.05, 3e-3], steps, cycle_momentum=False)  # only one of the groups has betas
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    def accuracy():
        with torch.no_grad():
            return (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()

    before = accuracy()
    for _ in range(EPOCHS):
        for inputs, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(cross_entropy(model(inputs), labels))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    accelerator.print(f"accuracy {before:.3f} -> {accuracy():.3f}")


if __name__ == "__main__":
    main()
