"""Choose the steps at which metrics with a row of values, such as spectra, are measured; keep their rows."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fadiag.analysis.plan.runs import Run, Stream
from fadiag.errors import InputError

__all__ = ["SpectraSteps", "check_spectra_steps", "put_rows", "rows_kept", "widened"]

SpectraSteps = Literal["ends", "all"] | tuple[int, ...]
#: The last state has no update, and the first may have no momentum. So the second and the last but one are
#: ends too.
_ENDS: dict[bool, list[int]] = {False: [0, -1], True: [0, 1, -2, -1]}


def rows_kept(stream: Stream, wanted: SpectraSteps) -> NDArray[np.bool_]:
    """Return at which steps of a stream rows are measured: at its ends, at all steps, or at those wanted."""
    steps = stream.steps
    if wanted == "ends":
        places = np.arange(len(steps))
        return np.isin(places, [i % max(1, len(steps)) for i in _ENDS[stream.kind == "state"]])
    return np.isin(steps, wanted) if isinstance(wanted, tuple) else np.ones(len(steps), np.bool_)


def check_spectra_steps(runs: Sequence[Run], wanted: SpectraSteps) -> None:
    """Raise InputError for other words than "ends" and "all", and for a step that no run recorded."""
    if not isinstance(wanted, tuple):
        if wanted not in ("ends", "all"):
            raise InputError(f"spectra_steps is {wanted!r}; it is 'ends', 'all' or a list of steps")
        return
    streams = [stream.steps for run in runs for stream in run.streams.values()]
    recorded = np.unique(np.concatenate(streams)) if streams else np.empty(0, np.int64)
    for step in wanted:
        if step not in recorded:
            nearest = sorted(recorded[np.argsort(abs(recorded - step), kind="stable")[:3]].tolist())
            raise InputError(
                f"spectra_steps has {step}, a step that no run recorded; the nearest are "
                f"{', '.join(map(str, nearest))}"
            )


def widened(values: NDArray[np.float64], row: tuple[int, ...]) -> NDArray[np.float64]:
    """Return values whose rows have at least a length, filled with NaN; values without rows as they are.

    Examples
    --------
    >>> widened(np.ones((1, 2)), (3,)).tolist()
    [[1.0, 1.0, nan]]
    """
    if not row or row[0] <= values.shape[-1]:
        return values
    blank = np.full((*values.shape[:-1], row[0] - values.shape[-1]), np.nan)
    return np.concatenate([values, blank], axis=-1)


def put_rows(into: NDArray[np.float64], steps: NDArray[np.intp], values: NDArray[np.float64]) -> None:
    """Write the numbers or the rows of some steps, given by position, into those of all steps."""
    if values.ndim == 1:
        into[steps] = values
    else:
        into[steps, : values.shape[-1]] = values
