"""ravine in Hugging Face's Trainer, in both ways it takes an optimizer. A tiny GPT-2 learns to count modulo 17.

pip install "ravine[ecosystem]"; python examples/hf_trainer.py
"""

import tempfile

import ravine
import torch
from ravine.optim import AdamW
from ravine.rules import Adam, Decay, Momentum
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments

MODULUS, LENGTH = 17, 12


def counting(start, stride):
    ids = torch.tensor([(start + stride * i) % MODULUS for i in range(LENGTH)])
    return {"input_ids": ids, "labels": ids}


DATA = [counting(start, stride) for start in range(MODULUS) for stride in range(1, 5)]


def made():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=MODULUS, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ))  # fmt: skip


def learned(how, model, **given):
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=40, per_device_train_batch_size=17, weight_decay=0.1, warmup_steps=10, seed=0,
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=DATA, eval_dataset=DATA, **given)
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        print(f"{how}: loss {before:.3f} -> {trainer.evaluate()['eval_loss']:.3f}")


def main():
    # An optimizer made beforehand, with any groups and rules; Trainer makes its own scheduler for it.
    model = made()
    decayed = ravine.chain(Adam(), Decay(0.1))
    groups = ravine.groups(model, hidden={"rule": Momentum(0.9), "lr": 0.1}, rest={"rule": decayed, "lr": 1e-2})
    learned("optimizers=", model, optimizers=(ravine.Optimizer(groups), None))

    # A class and its arguments: Trainer makes the groups, with and without weight_decay.
    learned("optimizer_cls_and_kwargs=", made(), optimizer_cls_and_kwargs=(AdamW, {"lr": 1e-2, "betas": (0.9, 0.99)}))


if __name__ == "__main__":
    main()
