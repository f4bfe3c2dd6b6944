"""Check one record of a stream against the declarations of its arrays."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.store.names import COORDINATES, signal_path
from fadiag.store.values import check_number, check_whole
from fadiag.store.write.stream import StreamState

__all__ = ["Record", "checked_record"]


@dataclass(frozen=True)
class Record:
    """Hold the values of one step of a stream, by path; ``nbytes`` counts the signals without coordinates."""

    stream: str
    step: int
    arrays: Mapping[str, NDArray[Any]]
    nbytes: int


def checked_record(
    stream: StreamState,
    step: int,
    values: Mapping[tuple[str, str], NDArray[Any]],
    *,
    wall_time: float | None,
    epoch: float | None,
    rows_valid: int | None,
    extra: Mapping[str, float],
) -> Record:
    """Check the arguments of `RunWriter.append` and return them as a record.

    Raises
    ------
    InputError
        The step does not increase, a signal does not fit its declaration, or a coordinate or scalar is not a
        number.
    """
    number = check_whole("step", step)
    if stream.last_step is not None and number <= stream.last_step:
        raise InputError(
            f"step {number} of stream {stream.name!r} comes after step {stream.last_step}; steps must grow,"
            f" and to go back to a checkpoint open the store with resume_from={number}"
        )
    arrays, samples = _arrays(stream, values)
    nbytes = sum(array.nbytes for array in arrays.values())
    numbers = {
        "step": number,
        "wall_time": time.time() if wall_time is None else check_number("wall_time", wall_time),
        "epoch": np.nan if epoch is None else check_number("epoch", epoch),
        "rows_valid": samples if rows_valid is None else check_whole("rows_valid", rows_valid),
        **{name: check_number(f"scalar {name!r}", value) for name, value in extra.items()},
    }
    for name, value in numbers.items():
        arrays[f"{stream.name}/{name}"] = np.asarray(value, COORDINATES.get(name, "float64"))
    return Record(stream.name, number, arrays, nbytes)


def _arrays(
    stream: StreamState, values: Mapping[tuple[str, str], NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the signals of a record by path, and the record's number of samples."""
    arrays: dict[str, NDArray[Any]] = {}
    counts: set[int] = set()
    padded = False
    for (layer, signal), array in values.items():
        path = signal_path(stream.name, layer, signal)
        spec = stream.specs.get(path)
        if spec is None:
            raise InputError(f"{path} was not declared; declare it before appending to it")
        data = np.asarray(array)
        samples = bool(spec.dims) and spec.dims[0] == "sample"
        short = samples and data.shape[1:] == spec.shape[1:] and 0 < len(data) <= spec.shape[0]
        if data.dtype.name != spec.dtype or not (short or data.shape == spec.shape):
            raise InputError(
                f"{path} was declared {spec.dtype} {spec.shape}, this record has {data.dtype.name}"
                f" {data.shape}; give it as declared"
            )
        if samples:
            counts.add(len(data))
            padded = padded or len(data) < spec.shape[0]
        arrays[path] = data
    if padded and len(counts) > 1:
        raise InputError(
            f"arrays of one record of stream {stream.name!r} have {sorted(counts)} samples; give one number"
        )
    return arrays, max(counts, default=0)
