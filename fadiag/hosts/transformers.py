"""Record the runs of a ``transformers.Trainer``."""

import re
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fadiag.capture import Recorder
from fadiag.errors import InputError

__all__ = ["Record"]


class Record(TrainerCallback):
    """Record a run of the Hugging Face Trainer: ``Trainer(..., callbacks=[Record("run.zarr", ...)])``.

    The callback opens a `fadiag.Recorder` when training begins. It calls the recorder after each update, and
    closes it after the last. A run that continues from a checkpoint continues in its store. The last record
    has the weights of the last update, also with ``load_best_model_at_end``. The Trainer calls no callback
    when an exception ends it: the store then has the records before the exception.

    What the Trainer logs is logged in the store. Names of metrics get underscores: ``rewards/chosen`` becomes
    ``rewards_chosen``.

    Parameters
    ----------
    path : path-like
        Path of the store.
    **options
        Arguments of `fadiag.Recorder`. The callback gives the model, the optimizer, ``steps`` and
        ``resume_from``.

    Attributes
    ----------
    recorder : Recorder or None
        The open recorder; None before and after training.

    Warns
    -----
    UserWarning
        A logged metric cannot be stored, for example a text. It is named once.

    Raises
    ------
    StoreError
        The store exists, and training starts at step 0.

    Examples
    --------
    >>> record = Record("run.zarr", every=10, meta={"rule": "fa", "seed": 0})
    >>> record.recorder is None
    True
    """

    def __init__(self, path: Path | str, **options: Any) -> None:
        self.path, self.options = path, options
        self.recorder: Recorder | None = None
        self._refused: set[str] = set()  # metrics that the store cannot hold
        self._load_hook: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the recorder."""
        if self.recorder is not None:  # an exception ended an earlier train()
            self._load_hook.remove()
            self.recorder.__exit__(RuntimeError, None, None)
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        self.recorder = Recorder(
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

        self._load_hook = model.register_load_state_dict_pre_hook(before_loading)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record a step; it is called once an update, for any gradient_accumulation_steps."""
        if self.recorder is not None:
            self.recorder.step(epoch=state.epoch)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the Trainer's numbers under the current step. The loss is the mean since the last log."""
        logs: dict[str, Any] = kwargs["logs"]
        if self.recorder is None:  # evaluate() before or after train()
            return
        for name, value in logs.items():
            if name == "epoch" or name in self._refused:
                continue
            try:
                self.recorder.log(**{re.sub("[^A-Za-z0-9_]", "_", name): value})
            except InputError as error:
                self._refused.add(name)
                warnings.warn(f"metric {name!r} is not recorded: {error}", stacklevel=2)
        if "train_runtime" in logs:  # training has ended; the weights are still the last update's
            self.close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the recorder, if no log has closed it."""
        self.close()

    def close(self) -> None:
        """Close the recorder, if it is open."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            self._load_hook.remove()
            recorder.close()
