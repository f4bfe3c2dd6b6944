"""Read one layer over a block of steps, leave out signals that are not finite, and measure the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.signal_refs import parse
from fadiag.analysis.metrics.view import Layer, SignalView, View
from fadiag.analysis.plan.rows import put_rows, widened
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.errors import InputError
from fadiag.results.left_out import LeftOut
from fadiag.results.null_values import AT_CEILING, NULL_WORDS
from fadiag.signals import NULLS

__all__ = ["CEILING", "Block", "Measured", "measure", "views"]

#: A rank above this share of its bound is at its ceiling: there are too few samples or units for it.
CEILING = 0.99
_NULL_SUFFIXES = tuple(f"{null.prefix}{suffix}" for null in NULLS.values() for suffix in NULL_WORDS)


@dataclass(frozen=True)
class Block:
    """One layer over some steps, with everything needed to measure it in another thread, process or machine.

    ``arrays`` are lazy selections (step, ...) with one entry per step of the block. ``missing`` marks the
    steps without a record of a signal. ``static`` arrays have no step axis. An ``optional`` signal may be
    absent (all NaN) at some steps. ``owners`` names the layer of each array, which may be another layer. An
    array in ``windows`` is read at the positions (step, window) instead of once per step.
    """

    run: str
    stream: str
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
    strict: bool

    def lost(self, name: str, reason: str = "") -> LeftOut:
        """Return the record for a signal that cannot be used."""
        ref = parse(name)
        owner = self.owners.get(name, self.layer.name)
        return LeftOut(self.run, reason, ref.stream or self.stream, owner, signal=ref.signal)


@dataclass(frozen=True)
class Measured:
    """The values of a block by variable, one or a row per step, and the records of what was left out."""

    values: Mapping[str, Values]
    left_out: tuple[LeftOut, ...] = ()


def _finite(
    name: str, values: NDArray[np.generic], block: Block, unmeasured: Unmeasured
) -> NDArray[np.bool_]:
    """Return for each step whether the signal can be measured; leave out a record that is not finite.

    The store returns NaN for a signal that was not recorded at a step. So a record that is all NaN is absent
    if the recorder counted no NaN in the recorded values. Single draws of a null may be NaN; the null then
    uses the other draws.
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
        if not absent:
            words = " and ".join(f"{n:,} {what}" for n, what in ((nan, "NaN"), (inf, "Inf")) if n)
            unsure = lacking and "nan_count" not in block.arrays[name].attrs
            doubt = ", or was not recorded there (the store is not closed)" if unsure else ""
            unmeasured.add(block.lost(name, f"holds {words} of {record.size:,} values{doubt}"), (int(step),))
    return good


def _usable(name: str, values: NDArray[np.generic], block: Block, unmeasured: Unmeasured) -> bool:
    """Return whether an array without steps can be measured; leave out a static one that is not finite."""
    # The first record of a stream may have padded rows.
    if parse(name).stream != "static" or values.dtype.kind != "f" or np.isfinite(values).all():
        return True
    bad = np.count_nonzero(~np.isfinite(values))
    unmeasured.add(block.lost(name, f"holds {bad:,} values that are not finite of {values.size:,}"))
    return False


def _lacks(records: NDArray[np.generic]) -> bool:
    """Return whether one of the records is all NaN."""
    return bool(np.isnan(records.reshape(len(records), -1)).all(axis=-1).any())


def _is_factor(array: xr.DataArray) -> bool:
    """Return whether an array is a factor of the rows. If the columns were factored, the rows are samples."""
    return array.attrs.get("reduction") == "factor" and array.attrs.get("factor_side", "rows") == "rows"


def _read(
    arrays: Mapping[str, xr.DataArray], block: Block, unmeasured: Unmeasured
) -> dict[str, NDArray[Any]]:
    """Read the arrays without filling xarray's cache, which would outlive the measurement."""
    found = {}
    for name, array in arrays.items():
        with unmeasured.catching(block.lost(name), (None,) if name in block.static else block.steps.tolist()):
            found[name] = np.asarray(array[...].values)
    return found


def _rows_of(array: xr.DataArray, rows_valid: int | None) -> int | None:
    """Return the number of rows of the matrix behind a factor; None if the array is not such a factor."""
    if not _is_factor(array) or not {"rows", "samples"} <= set(array.attrs):
        return None
    rows, samples = int(array.attrs["rows"]), int(array.attrs["samples"])
    return rows if rows_valid is None else rows // samples * rows_valid


def views(block: Block, unmeasured: Unmeasured) -> Iterator[tuple[NDArray[np.intp], View]]:
    """Split the block into views whose steps have the same signals and the same number of valid rows."""
    loaded = _read(block.arrays, block, unmeasured)
    loaded |= {name: loaded[name][at] for name, at in block.windows.items() if name in loaded}
    good = {name: _finite(name, values, block, unmeasured) for name, values in loaded.items()}
    static = _read(block.static, block, unmeasured)
    static = {name: values for name, values in static.items() if _usable(name, values, block, unmeasured)}
    kinds: dict[tuple[int | None, frozenset[str], tuple[bool, ...]], list[int]] = {}
    # A first record has no step axis, and some steps may have other samples.
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
                _rows_of(block.arrays[name], rows_valid),
                block.arrays[name].attrs.get("columns"),
            )
            for (name, values), here in zip(loaded.items(), present, strict=True)
            if here
        }
        for name, values in static.items():
            if name not in lacking:
                signals[name] = SignalView(values[None], tuple(str(d) for d in block.static[name].dims))
        yield where, View(block.layer, block.steps[where], signals, rows_valid)


def measure(block: Block) -> Measured:
    """Measure every metric of a block, with its null: one float64 per step, NaN if a signal is absent.

    An error in reading or measuring is recorded and the item left out; with ``block.strict`` it is raised.
    """
    out: dict[str, Values] = {}
    unmeasured = Unmeasured(block.strict)
    for where, view in views(block, unmeasured):
        for metric in block.metrics:
            if not all(signal in view.signals for signal in metric.signals):
                continue
            lost = LeftOut(block.run, "", block.stream, block.layer.name, metric=metric.name)
            with unmeasured.catching(lost, view.steps.tolist()):
                for name, values in _measured(metric, view, unmeasured, lost):
                    shape = (len(block.steps), *values.shape[1:])
                    out[name] = widened(out.get(name, np.full(shape, np.nan)), shape[1:])
                    put_rows(out[name], where, values)
    return Measured(out, tuple(unmeasured.records))


def _measured(
    metric: Metric, view: View, unmeasured: Unmeasured, lost: LeftOut
) -> Iterator[tuple[str, Values]]:
    """Yield the values of a metric, the mark of values at their ceiling, and the null."""
    if metric.axis:
        yield metric.name, _row_a_step(metric.function(view), view)
        return
    values = _one_a_step(metric.function(view), view)
    yield metric.name, values
    if metric.bound is not None and (bound := metric.bound(view)) > 0:
        at_ceiling = values >= CEILING * bound
        if at_ceiling.any():
            yield f"{metric.name}_{AT_CEILING}", at_ceiling.astype(np.float64)
    if metric.null is None:
        return
    found = {}
    with unmeasured.catching(replace(lost, metric=f"{metric.name}_null"), view.steps.tolist()):
        found = {suffix: _one_a_step(null, view) for suffix, null in metric.null(view, values).items()}
        if unknown := [suffix for suffix in found if suffix not in _NULL_SUFFIXES]:
            raise InputError(f"the null gives {', '.join(unknown)}; it can give {', '.join(_NULL_SUFFIXES)}")
    for suffix, null in found.items():
        if suffix in _NULL_SUFFIXES:
            yield f"{metric.name}_{suffix}", null


def _one_a_step(found: Values, view: View) -> Values:
    values = np.asarray(found, np.float64)
    if values.shape not in ((), (1,), (len(view.steps),)):  # a constant may be given as one number
        raise InputError(
            f"an array of shape {values.shape} came back, not one number for each of {len(view.steps)} steps"
        )
    return np.broadcast_to(values, len(view.steps))


def _row_a_step(found: Values, view: View) -> Values:
    values = np.asarray(found, np.float64)
    if values.ndim != 2 or len(values) != len(view.steps):
        raise InputError(
            f"an array of shape {values.shape} came back, not one row for each of {len(view.steps)} steps"
        )
    return values
