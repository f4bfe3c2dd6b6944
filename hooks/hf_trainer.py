"""Record a run of the Hugging Face Trainer: copy `Record` and give it to ``Trainer(callbacks=...)``.

Run it: ``python hooks/hf_trainer.py --out hf``; then ``fadiag inspect hf/run.zarr``.
It needs ``pip install transformers accelerate``; nothing is downloaded, the model has random weights.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

import fadiag
from fadiag.training.datasets import read_digits


class Record(TrainerCallback):
    """Open a `fadiag.Recorder` when training begins, tell it of each update, close it at the end.

    ``options`` go to the Recorder as they are. A run that goes on from a checkpoint goes on in its store. The
    Trainer tells no callback of an exception: the store keeps what was committed, and says ``killed``.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.options = path, options

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]
        self.recorder = fadiag.Recorder(
            kwargs["model"],
            self.path,
            optimizer=getattr(optimizer, "optimizer", optimizer),  # the one inside accelerate's
            steps=state.max_steps,
            resume_from=state.global_step or None,
            **self.options,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.recorder.step(epoch=state.epoch)  # after each update, whatever gradient_accumulation_steps is

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        # The loss is the mean since the last log, told under the step that it led to.
        self.recorder.log(**{name: value for name, value in logs.items() if name != "epoch"})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.recorder.close()


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return model(pixel_values=x, labels=y).loss


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=8,
            patch_size=2,
            num_channels=1,
            num_labels=10,
            initializer_range=0.15,
        )
    )
    fadiag.convert(model, rule="fa", seed=0)
    probe = fadiag.Probe((x_test[:64], y_test[:64]), loss_of)
    trainer = Trainer(
        model,
        TrainingArguments(
            out / "trainer",
            per_device_train_batch_size=32,
            gradient_accumulation_steps=2,
            max_steps=40,
            learning_rate=5e-3,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=[{"pixel_values": image, "labels": label} for image, label in zip(x, y, strict=True)],
        callbacks=[Record(out / "run.zarr", probes={"probe": probe}, every=20, meta={"rule": "fa"})],
    )
    trainer.train()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for the store")
    main(parser.parse_args().out)
