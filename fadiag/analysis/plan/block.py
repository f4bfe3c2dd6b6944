"""Reads one layer over a block of steps, refuses signals that are not finite, and measures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.signal_refs import parse
from fadiag.analysis.metrics.view import Layer, SignalView, View
from fadiag.errors import InputError

__all__ = ["Block", "measure"]


@dataclass(frozen=True)
class Block:
    """One layer over some steps, with all that is needed to measure it in another thread, process or machine.

    ``arrays`` are lazy selections (step, ...) with one entry a step of the block. ``missing`` marks the steps
    without a record of a signal. ``static`` arrays have no step axis. An ``optional`` signal may be absent
    (all NaN) at some steps. ``owners`` names the layer of each array, which may be another layer. An array in
    ``windows`` has other entries than one a step; its positions (step, window) are what each step reads.
    """

    run: str
    layer: Layer
    steps: NDArray[np.int64]
    rows_valid: NDArray[np.int64] | None
    arrays: Mapping[str, xr.DataArray]
    owners: Mapping[str, str]
    windows: Mapping[str, NDArray[np.intp]]
    missing: Mapping[str, NDArray[np.bool_]]
    static: Mapping[str, xr.DataArray]
    optional: frozenset[str]
    metrics: tuple[Metric, ...]
    skip_invalid: bool


def _finite(name: str, values: NDArray[np.generic], block: Block) -> NDArray[np.bool_]:
    """Return for each step whether the signal can be measured; raise if a record is not finite.

    The store gives NaN for a signal that was not recorded at a step. So a record of nothing but NaN is absent
    if the recorder counted no NaN in what it recorded. Single draws of a null may be NaN; the other draws
    then make the null.
    """
    good = ~block.missing.get(name, np.zeros(len(values), np.bool_))
    sample_rows = "sample" in block.arrays[name].dims and block.rows_valid is not None
    if block.rows_valid is not None and (sample_rows or _is_factor(block.arrays[name])):
        good &= block.rows_valid != 0  # no sample reached the layer
    if values.dtype.kind != "f" or "nan_means" in block.arrays[name].attrs:
        return good
    if any(name in metric.null_signals for metric in block.metrics):
        return np.asarray(good & ~np.isnan(values).reshape(len(values), -1).all(axis=-1))
    for i, step in enumerate(block.steps):
        rows = block.rows_valid[i] if sample_rows else None  # type: ignore[index]
        record = (
            values[i, :, :rows] if name in block.windows else values[i, :rows] if sample_rows else values[i]
        )
        with np.errstate(over="ignore", invalid="ignore"):
            if not good[i] or np.isfinite(np.sum(record, dtype=np.float64)):
                continue
        nan, inf = int(np.isnan(record).sum()), int(np.isinf(record).sum())
        if nan + inf == 0:
            continue
        good[i] = False
        lacking = _lacks(record if name in block.windows else record[None])
        absent = lacking and (name in block.optional or block.arrays[name].attrs.get("nan_count") == 0)
        if not absent and not block.skip_invalid:
            words = " and ".join(f"{n:,} {what}" for n, what in ((nan, "NaN"), (inf, "Inf")) if n)
            unsure = lacking and "nan_count" not in block.arrays[name].attrs
            told = ", or was not recorded there (the store is not closed)" if unsure else ""
            raise InputError(
                f"{parse(name).signal} of layer '{block.owners[name]}' at step {step} holds {words} of "
                f"{record.size:,} values{told}; analyze with skip_invalid=True "
                f"or stop before step {step} (run {block.run})"
            )
    return good


def _usable(name: str, values: NDArray[np.generic], block: Block) -> bool:
    """Return whether an array without steps can be measured; raise if a static one is not finite."""
    # The first record of a stream may have filled-up rows.
    if parse(name).stream != "static" or values.dtype.kind != "f" or np.isfinite(values).all():
        return True
    if not block.skip_invalid:
        bad = np.count_nonzero(~np.isfinite(values))
        raise InputError(
            f"{parse(name).signal} of layer '{block.owners.get(name, block.layer.name)}' holds {bad:,} "
            f"values that are not finite of {values.size:,}; analyze with skip_invalid=True (run {block.run})"
        )
    return False


def _lacks(records: NDArray[np.generic]) -> bool:
    """Return whether one of the records is nothing but NaN."""
    return bool(np.isnan(records.reshape(len(records), -1)).all(axis=-1).any())


def _is_factor(array: xr.DataArray) -> bool:
    """Return whether an array is a factor of the rows; if the columns were factored, rows are samples."""
    return array.attrs.get("reduction") == "factor" and array.attrs.get("factor_side", "rows") == "rows"


def _read(array: xr.DataArray) -> NDArray[Any]:
    """Read an array past xarray's cache, since the block outlives its measurement."""
    return np.asarray(array[...].values)


def _views(block: Block) -> Iterator[tuple[NDArray[np.intp], View]]:
    """Cut the block into views whose steps have equal valid rows and the same signals."""
    loaded = {name: _read(array) for name, array in block.arrays.items()}
    loaded |= {name: loaded[name][at] for name, at in block.windows.items()}
    good = {name: _finite(name, values, block) for name, values in loaded.items()}
    static = {name: _read(array) for name, array in block.static.items()}
    static = {name: values for name, values in static.items() if _usable(name, values, block)}
    kinds: dict[tuple[int | None, frozenset[str], tuple[bool, ...]], list[int]] = {}
    # A first record has no steps, and may have other samples than some of them.
    apart = {name: mask for name, mask in block.missing.items() if name in block.static}
    for i in range(len(block.steps)):
        rows = None if block.rows_valid is None else int(block.rows_valid[i])
        lacks = frozenset(name for name, mask in apart.items() if mask[i])
        kinds.setdefault((rows, lacks, tuple(bool(g[i]) for g in good.values())), []).append(i)
    for (rows_valid, lacking, present), members in kinds.items():
        where = np.asarray(members, np.intp)
        whole = len(members) == len(block.steps)
        signals = {
            name: SignalView(
                values if whole else values[where],
                ("window",) * (name in block.windows) + tuple(str(d) for d in block.arrays[name].dims[1:]),
                _is_factor(block.arrays[name]),
                block.arrays[name].attrs.get("columns"),
            )
            for (name, values), here in zip(loaded.items(), present, strict=True)
            if here
        }
        for name, values in static.items():
            if name not in lacking:
                signals[name] = SignalView(values[None], tuple(str(d) for d in block.static[name].dims))
        yield where, View(block.layer, block.steps[where], signals, rows_valid)


def measure(block: Block) -> dict[str, Values]:
    """Measure every metric of a block, with its null: one float64 a step, NaN if a signal is absent."""
    out: dict[str, Values] = {}

    def put(name: str, where: NDArray[np.intp], values: Values) -> None:
        out.setdefault(name, np.full(len(block.steps), np.nan))[where] = values

    for where, view in _views(block):
        for metric in block.metrics:
            if not all(signal in view.signals for signal in metric.signals):
                continue
            values = np.asarray(metric.function(view), np.float64)
            put(metric.name, where, values)
            if metric.null is not None:
                for suffix, null in metric.null(view, values).items():
                    put(f"{metric.name}_{suffix}", where, null)
    return out
