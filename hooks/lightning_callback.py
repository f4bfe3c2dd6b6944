"""Record a Lightning run: copy `Record` and give it to ``Trainer(callbacks=...)``.

Run it: ``python hooks/lightning_callback.py --out lightning``; then ``fadiag inspect lightning/run.zarr``.
It needs ``pip install lightning``.
"""

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import fadiag
from fadiag.training.datasets import read_digits


class Record(lightning.Callback):
    """Open a `fadiag.Recorder` when training starts, call it after each update, close it after the last.

    ``options`` go to the Recorder unchanged. A run that continues from a checkpoint continues in its store.
    The last record has the weights of the last update, even if other callbacks average weights.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.options = path, options
        self.recorder: fadiag.Recorder | None = None
        self.losses: list[float] = []  # the losses of the batches since the last update
        self.step = 0  # the recorded updates, saved in checkpoints
        self.updates = 0  # global_step, which counts the updates of every optimizer

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.step = state_dict["step"]

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        # Put this callback first, so that it closes before the others (SWA, EMA) replace the weights.
        trainer.callbacks = [self, *(other for other in trainer.callbacks if other is not self)]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.epochs = trainer.max_epochs  # read before SWA adds an epoch

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # on_fit_start is too early: a checkpoint's optimizer is not restored yet.
        self.losses, self.updates = [], trainer.global_step
        if self.updates == 0:  # a new run, possibly after another one
            self.step = 0
        self.recorder = fadiag.Recorder(
            pl_module,
            self.path,
            optimizer=trainer.optimizers,
            resume_from=self.step or None,
            **self.options,
        )

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch == self.epochs:  # SWA's extra epoch, for batch norm
            self.close()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        if self.recorder is None:
            return
        if outputs and outputs.get("loss") is not None:  # training_step may skip a batch
            self.losses.append(outputs["loss"].item())  # divided by the number of accumulated batches
        if trainer.global_step > self.updates:
            loss = {"loss": sum(self.losses)} if self.losses else {}
            self.recorder.step(epoch=trainer.current_epoch, **loss)
            self.losses, self.updates, self.step = [], trainer.global_step, self.recorder.current_step

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if self.recorder is not None:
            self.recorder.__exit__(type(exception), exception, exception.__traceback__)
            self.recorder = None

    def close(self) -> None:
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        self.net = fadiag.convert(nn.Sequential(*layers), rule="fa", seed=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(self, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def main(out: Path) -> None:
    lightning.seed_everything(0, verbose=False)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    probe = fadiag.Probe((x_test[:128], y_test[:128]), loss_of)
    record = Record(out / "run.zarr", probes={"probe": probe}, every=10, meta={"rule": "fa", "seed": 0})
    trainer = lightning.Trainer(
        max_epochs=4,
        accumulate_grad_batches=2,
        callbacks=[record],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for the store")
    main(parser.parse_args().out)
