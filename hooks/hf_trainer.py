"""Record a run of the Hugging Face Trainer: copy `Record` and give it to ``Trainer(callbacks=...)``.

Run it: ``python hooks/hf_trainer.py --out hf``; then ``fadiag inspect hf/run.zarr``.
It needs ``pip install transformers accelerate``. It downloads nothing: the model has random weights.
"""

import argparse
import re
import warnings
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
from fadiag.errors import InputError
from fadiag.training.datasets import read_digits


class Record(TrainerCallback):
    """Open a `fadiag.Recorder` when training begins, call it after each update, close it after the last.

    ``options`` go to the Recorder unchanged. A run that continues from a checkpoint continues in its store.
    The last record has the weights of the last update, also with ``load_best_model_at_end``. Names of
    metrics get underscores: ``rewards/chosen`` becomes ``rewards_chosen``. The Trainer calls no callback when
    an exception ends it. The store then has the records before the exception.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.options = path, options
        self.recorder: fadiag.Recorder | None = None
        self.refused: set[str] = set()  # metrics that the store cannot hold

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.recorder is not None:  # an exception ended an earlier train()
            self.load_hook.remove()
            self.recorder.__exit__(RuntimeError, None, None)
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self.recorder = fadiag.Recorder(
            model,
            self.path,
            optimizer=getattr(optimizer, "optimizer", optimizer),  # accelerate wraps the optimizer
            steps=state.max_steps,
            resume_from=state.global_step or None,
            **self.options,
        )

        def before_loading(*_: Any) -> None:
            if control.should_training_stop:  # transformers 4 loads the best model, then logs the end
                self.close()

        self.load_hook = model.register_load_state_dict_pre_hook(before_loading)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.recorder is not None:
            self.recorder.step(epoch=state.epoch)  # once an update, for any gradient_accumulation_steps

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        if self.recorder is None:  # evaluate() before or after train()
            return
        # The loss is the mean since the last log, and is logged under the current step.
        for name, value in logs.items():
            if name == "epoch" or name in self.refused:
                continue
            try:
                self.recorder.log(**{re.sub("[^A-Za-z0-9_]", "_", name): value})
            except InputError as error:
                self.refused.add(name)
                warnings.warn(f"metric {name!r} is not recorded: {error}", stacklevel=2)
        if "train_runtime" in logs:  # training has ended; the weights are still the last update's
            self.close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            self.load_hook.remove()
            recorder.close()


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
