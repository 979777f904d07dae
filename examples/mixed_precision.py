"""ravine under mixed precision: bf16 autocast, with a GradScaler where fp16 needs one. Reads handwritten digits.

python examples/mixed_precision.py
"""

import ravine
import torch
from ravine.rules import Adam
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCALED = DEVICE == "cuda"
DTYPE = torch.float16 if SCALED else torch.bfloat16


def main():
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32, device=DEVICE), torch.tensor(y, device=DEVICE)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(DEVICE)
    optimizer = ravine.Optimizer(model.parameters(), Adam(), lr=3e-3)
    # bf16 has the range of float32 and needs no scaling: the scaler is then switched off, and the loop stays the same.
    scaler = torch.amp.GradScaler(DEVICE, enabled=SCALED)

    def accuracy():
        with torch.no_grad(), torch.autocast(DEVICE, DTYPE):
            return (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()

    before = accuracy()
    for _ in range(300):
        chosen = torch.randint(0, 1400, (64,), device=DEVICE)
        optimizer.zero_grad()
        with torch.autocast(DEVICE, DTYPE):
            loss = cross_entropy(model(x[chosen]), y[chosen])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # for clipping; a no-op where the scaler is off
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)  # leaves out steps with infinite gradients by itself
        scaler.update()
    print(f"{DTYPE}: accuracy {before:.3f} -> {accuracy():.3f}")


if __name__ == "__main__":
    main()
