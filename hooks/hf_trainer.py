"""Record a Hugging Face Trainer: give it the callback of ``fadiag.hosts.transformers``.

Run it: ``python hooks/hf_trainer.py --out hf``. It needs ``pip install transformers accelerate``.
It downloads nothing: the model has random weights.
Figure: ``alignment_over_training.png``, the cosine of W with B in one layer.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import fadiag
from fadiag import figures as ff
from fadiag.hosts.transformers import Record
from fadiag.training.datasets import read_digits


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return model(pixel_values=x, labels=y).loss


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    images = {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10}
    model = ViTForImageClassification(ViTConfig(**sizes, **images, initializer_range=0.15))
    fadiag.convert(model, rule="fa", seed=0)
    probe = fadiag.Probe((x_test[:64], y_test[:64]), loss_of)
    arguments = TrainingArguments(
        out / "trainer",
        per_device_train_batch_size=32,
        max_steps=80,
        learning_rate=5e-3,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    images = [{"pixel_values": image, "labels": label} for image, label in zip(x, y, strict=True)]
    record = Record(out / "run.zarr", probes={"probe": probe}, every=20, meta={"rule": "fa", "seed": 0})
    Trainer(model, arguments, train_dataset=images, callbacks=[record]).train()
    results = fadiag.analyze(out / "run.zarr")
    axes = ff.alignment_over_training(results, layer="vit.layers.1.mlp.fc2")
    ff.save(axes, out / "alignment_over_training.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
