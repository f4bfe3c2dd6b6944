"""Check the step number that a user gives for a checkpoint."""

from typing import Any

from fadiag.capture.arguments import whole_number
from fadiag.errors import InputError

__all__ = ["checked_checkpoint"]


def checked_checkpoint(step: Any, *, last: int | None, is_live_run: bool) -> int:
    """Return the step of a checkpoint if the recorder can record it after the last step.

    Raises
    ------
    InputError
        The recorder follows a live run, or the step is not a whole number, or it is not above the last one.
    """
    if is_live_run:
        raise InputError(
            f"step={step!r} names the step of a checkpoint, but this recorder follows a run by its optimizer "
            "or live signals: call step() without it after each update, or leave optimizer= and live= out"
        )
    number = whole_number(step, 0)
    if number is None:
        raise InputError(f"step is {step!r}; give the number of updates that the checkpoint has seen")
    if last is not None and number <= last:
        raise InputError(
            f"step {number} comes after step {last}, and steps must grow; record checkpoints in their order, "
            "and give Recorder(every=()) if the model is not at step 0 when the recorder is built"
        )
    return number
