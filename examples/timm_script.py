"""ravine in a training script of timm: by a name in its registry, or as an optimizer made beforehand. Reads digits.

pip install "ravine[timm]"; python examples/timm_script.py
"""

import ravine
import timm
import torch
from ravine.optim import AdamW
from ravine.rules import Adam, Decay
from sklearn.datasets import load_digits
from timm.optim import OptimInfo, create_optimizer_v2
from timm.optim._optim_factory import default_registry
from timm.scheduler import CosineLRScheduler
from torch.nn.functional import cross_entropy

# timm's train.py finds it as `--opt ravineadamw`. timm reads a name up to its last "_" as a prefix: use none.
default_registry.register(OptimInfo("ravineadamw", AdamW, "AdamW of ravine", has_betas=True))

SMALL = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 10, "embed_dim": 32, "depth": 2, "num_heads": 2}
STEPS = 400


def by_name(model):
    return create_optimizer_v2(model, opt="ravineadamw", lr=3e-3, weight_decay=0.05, betas=(0.9, 0.99))


def made_beforehand(model):
    rule = ravine.chain(Adam(), Decay(0.05))
    bare = {"rule": rule, "weight_decay": 0.0}
    return ravine.Optimizer(ravine.groups(model, norm=bare, bias=bare, embedding=bare, rest=rule), lr=3e-3)


def learned(how):
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **SMALL)
    optimizer = how(model)
    scheduler = CosineLRScheduler(optimizer, t_initial=STEPS, warmup_t=20, warmup_lr_init=1e-4, t_in_epochs=False)

    def accuracy():
        model.eval()
        with torch.no_grad():
            return (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()

    before = accuracy()
    model.train()
    for k in range(STEPS):
        chosen = torch.randint(0, 1400, (64,))
        optimizer.zero_grad()
        cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
        scheduler.step_update(k + 1)
    print(f"{how.__name__}: accuracy {before:.3f} -> {accuracy():.3f}")


if __name__ == "__main__":
    learned(by_name)
    learned(made_beforehand)
