"""Record the runs of a ``lightning.Trainer``."""

import math
from pathlib import Path
from typing import Any

import lightning

from fadiag.capture import Recorder

__all__ = ["Record"]


class Record(lightning.Callback):
    """Record a Lightning run: ``Trainer(callbacks=[Record("run.zarr", probes=..., every=...)])``.

    The callback opens a `fadiag.Recorder` when training starts. It calls the recorder after each update, and
    closes it after the last. A run that continues from a checkpoint continues in its store. An exception
    marks the store ``failed``. The last record has the weights of the last update, even if another callback
    averages weights.

    Parameters
    ----------
    path : path-like
        Path of the store.
    **options
        Arguments of `fadiag.Recorder`. The callback gives the model, the optimizers and ``resume_from``.

    Attributes
    ----------
    recorder : Recorder or None
        The open recorder; None before and after training.

    Raises
    ------
    StoreError
        The store exists, and training starts at step 0.

    Examples
    --------
    >>> record = Record("run.zarr", every=10, meta={"rule": "fa", "seed": 0})
    >>> record.state_dict()
    {'step': 0}
    """

    def __init__(self, path: Path | str, **options: Any) -> None:
        self.path, self.options = path, options
        self.recorder: Recorder | None = None
        self._losses: list[float] = []  # the losses of the batches since the last update
        self._step = 0  # the recorded updates, saved in checkpoints
        self._updates = 0  # global_step, which counts the updates of every optimizer
        self._epochs: int | None = None

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint keeps: the number of recorded updates."""
        return {"step": self._step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the step of a checkpoint."""
        self._step = state_dict["step"]

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Come first, to close before other callbacks (SWA, EMA) replace the weights."""
        trainer.callbacks = [self, *(other for other in trainer.callbacks if other is not self)]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the number of epochs before SWA adds one."""
        self._epochs = trainer.max_epochs

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open the recorder. Earlier, a checkpoint's optimizer would not be restored yet."""
        self._losses, self._updates = [], trainer.global_step
        if self._updates == 0:  # a new run, possibly after another one
            self._step = 0
        planned = trainer.estimated_stepping_batches
        self.recorder = Recorder(
            pl_module,
            self.path,
            optimizer=trainer.optimizers,
            resume_from=self._step or None,
            **{"steps": int(planned) if math.isfinite(planned) else None, **self.options},
        )

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close before the epoch that SWA adds for batch norm."""
        if trainer.current_epoch == self._epochs:
            self.close()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Record a step if the batch ended in an update."""
        if self.recorder is None:
            return
        if outputs and outputs.get("loss") is not None:  # training_step may skip a batch
            self._losses.append(outputs["loss"].item())  # divided by the number of accumulated batches
        if trainer.global_step > self._updates:
            loss: dict[str, Any] = {"loss": sum(self._losses)} if self._losses else {}
            self.recorder.step(epoch=trainer.current_epoch, **loss)
            self._losses, self._updates = [], trainer.global_step
            self._step = self.recorder.current_step

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the recorder."""
        self.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Close the recorder, and mark the store ``failed``."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.__exit__(type(exception), exception, exception.__traceback__)

    def close(self) -> None:
        """Close the recorder, if it is open."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()
