"""ravine in Lightning: `configure_optimizers` returns it like any optimizer of torch. Reads handwritten digits.

pip install "ravine[ecosystem]"; python examples/lightning_module.py
"""

import logging

import lightning
import ravine
import torch
from ravine.rules import Adam, Decay
from ravine.schedules import cosine, warmup
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, _):
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        # The schedule counts steps by itself. To let Lightning step one of torch's, leave it out and return, as ever,
        # {"optimizer": opt, "lr_scheduler": {"scheduler": OneCycleLR(opt, 1e-2, steps), "interval": "step"}}
        steps = int(self.trainer.estimated_stepping_batches)
        rule = ravine.chain(Adam(), Decay(0.1))
        return ravine.Optimizer(self.parameters(), rule, lr=1e-2, schedule=warmup(10) * cosine(steps))


def main():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.seed_everything(0, verbose=False)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    train = DataLoader(TensorDataset(*data[:1400]), batch_size=64, shuffle=True)
    valid = DataLoader(TensorDataset(*data[1400:]), batch_size=397)

    model = Digits()
    trainer = lightning.Trainer(
        max_epochs=10, gradient_clip_val=1.0, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    (before,) = trainer.validate(model, valid, verbose=False)
    trainer.fit(model, train)
    (after,) = trainer.validate(model, valid, verbose=False)
    print(f"accuracy {before['accuracy']:.3f} -> {after['accuracy']:.3f}")


if __name__ == "__main__":
    main()
