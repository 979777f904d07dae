"""ravine with a model under torch.compile: roles and checkpoints are by name, and the names stay. Reads digits.

python examples/compiled_model.py
"""

import ravine
import torch
from ravine.rules import Adam, Momentum
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy


def made():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def optimizer_for(model):
    # Of the model or of the compiled model, whichever is at hand: the parameters are the same, and `groups` takes the
    # prefix "_orig_mod." off their names.
    hidden, rest = {"rule": Momentum(0.9), "lr": 0.02}, {"rule": Adam(), "lr": 3e-3}
    return ravine.Optimizer(ravine.groups(model, hidden=hidden, rest=rest))


def main():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    plain = made()
    model = torch.compile(plain)
    optimizer = optimizer_for(model)

    def accuracy():
        with torch.no_grad():
            return (plain(x[1400:]).argmax(1) == y[1400:]).float().mean().item()

    before = accuracy()
    for _ in range(200):
        chosen = torch.randint(0, 1400, (64,))
        optimizer.zero_grad()
        cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    print(f"accuracy {before:.3f} -> {accuracy():.3f}")

    again = optimizer_for(made())  # of a model that is not compiled
    again.load_state_dict(optimizer.state_dict())
    print(f"its checkpoint goes on without torch.compile, at step {again.param_groups[0]['steps']}")


if __name__ == "__main__":
    main()
