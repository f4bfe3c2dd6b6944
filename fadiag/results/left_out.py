"""LeftOut records one item that an analysis left out, and the reason; results store these records."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import xarray as xr

__all__ = ["LEFT_OUT", "LeftOut", "left_out", "left_out_of", "merged", "to_attribute", "told_by_run"]

#: The attribute of the results' root that holds the records.
LEFT_OUT = "left_out"
#: At most so many runs are named; the others are counted.
_NAMED = 6


@dataclass(frozen=True)
class LeftOut:
    """One item that could not be measured, while the rest was.

    Parameters
    ----------
    run : str
        The label of the run, or its path if it has no label.
    reason : str
        The rest of a sentence that begins with the item: ``holds 7 NaN of 160 values``.
    stream, layer : str
        The stream and the layer; "" for the whole run, or for a scalar of the stream.
    metric, signal : str
        The metric without a value, or the signal that metrics cannot use. Both are "" for the whole run.
    step : int, optional
        The first step concerned.
    steps : int
        The number of steps concerned.

    Examples
    --------
    >>> print(LeftOut("fa-seed1", "holds 7 NaN of 160 values", "probe", "fc2", signal="error", step=10))
    error of layer 'fc2' at step 10 holds 7 NaN of 160 values (run fa-seed1)
    >>> print(LeftOut("runs/a.zarr", "no such directory"))
    run runs/a.zarr: no such directory
    """

    run: str
    reason: str
    stream: str = ""
    layer: str = ""
    metric: str = ""
    signal: str = ""
    step: int | None = None
    steps: int = 1

    @property
    def of_run(self) -> bool:
        """Whether the run or one of its signals is at fault, rather than a metric."""
        return not self.metric

    def __str__(self) -> str:
        return f"run {self.run}: {self.reason}" if not self.name else f"{self.words} (run {self.run})"

    @property
    def name(self) -> str:
        """The name of the metric or signal."""
        return self.metric or self.signal

    @property
    def words(self) -> str:
        """The text of the record, without the run."""
        if not self.name:
            return self.reason
        if not self.stream:
            return self.reason
        where = f" of layer '{self.layer}'" if self.layer else f" of stream '{self.stream}'"
        at = "" if self.step is None else f" at step {self.step}"
        more = f" (and at {self.steps - 1} more)" if self.steps > 1 else ""
        return f"{self.name}{where}{at}{more} {self.reason}"


def merged(records: Iterable[LeftOut]) -> list[LeftOut]:
    """Return one record per metric or signal of a layer: the one of the first step, with the number of steps.

    Examples
    --------
    >>> found = [LeftOut("a", "is NaN", "probe", "fc", signal="error", step=s) for s in (20, 10, 20)]
    >>> [(record.step, record.steps) for record in merged(found)]
    [(10, 2)]
    """
    alike: dict[tuple[str, ...], dict[int | None, LeftOut]] = {}
    for record in records:
        key = (record.run, record.stream, record.layer, record.metric, record.signal)
        alike.setdefault(key, {}).setdefault(record.step, record)
    found = [
        replace(min(by_step.values(), key=_first), steps=sum(r.steps for r in by_step.values()))
        for by_step in alike.values()
    ]
    # A fixed order, independent of which block was measured first.
    return sorted(found, key=lambda r: (r.run, r.stream, _first(r), r.layer, r.metric, r.signal))


def _first(record: LeftOut) -> int:
    return -1 if record.step is None else record.step


def to_attribute(records: Sequence[LeftOut]) -> dict[str, str]:
    """Return the attribute of the results' root as JSON; an empty dict if nothing was left out."""
    plain = [
        {k: v for k, v in asdict(record).items() if v not in ("", None) and (k, v) != ("steps", 1)}
        for record in records
    ]
    return {LEFT_OUT: json.dumps(plain)} if plain else {}


def left_out(results: xr.DataTree) -> tuple[LeftOut, ...]:
    """Return the records of everything that an analysis left out of these results, see `LeftOut`.

    For a selection of results, these are the records of the selected runs, and the runs that could not be
    measured at all.

    Examples
    --------
    >>> results = xr.DataTree(xr.Dataset(attrs=to_attribute([LeftOut("a.zarr", "no such directory")])))
    >>> [str(record) for record in left_out(results)]
    ['run a.zarr: no such directory']
    """
    found = [LeftOut(**entry) for entry in json.loads(results.attrs.get(LEFT_OUT, "[]"))]
    groups = [node.to_dataset() for node in results.subtree]
    here = {str(run) for group in groups if "run" in group.coords for run in group["run"].values}
    return tuple(record for record in found if record.run in here or not record.name)


def left_out_of(results: xr.DataTree, variables: Iterable[str]) -> tuple[LeftOut, ...]:
    """Return the records that concern some variables: of whole runs and signals, and of their metrics.

    Examples
    --------
    >>> lost = LeftOut("a", "has one row", "probe", "fc", metric="error_cosine_null")
    >>> results = xr.DataTree(xr.Dataset({"x": ("run", [0])}, {"run": ["a"]}, to_attribute([lost])))
    >>> len(left_out_of(results, ["error_cosine"])), len(left_out_of(results, ["error_overlap"]))
    (1, 0)
    """
    names = set(variables)
    return tuple(r for r in left_out(results) if r.of_run or r.metric.removesuffix("_null") in names)


def told_by_run(records: Sequence[LeftOut], most: int = _NAMED) -> list[str]:
    """Return one line per run: the first record, and the number of other records.

    Examples
    --------
    >>> error = LeftOut("a", "is NaN", "probe", "fc", signal="error", step=10, steps=3)
    >>> told_by_run([error, LeftOut("a", "is NaN", "probe", "fc", signal="input", step=10, steps=3)])
    ["run a: error of layer 'fc' at step 10 (and at 2 more) is NaN; and 1 more metric or signal"]
    """
    by_run: dict[str, list[LeftOut]] = {}
    for record in records:
        by_run.setdefault(record.run, []).append(record)
    lines = []
    for run, own in by_run.items():
        first = min(own, key=_first)
        more = len(own) - 1
        others = f"; and {more} more metric{_s(more)} or signal{_s(more)}" if more else ""
        lines.append(f"run {run}: {first.words}{others}")
    rest = len(lines) - most
    return [*lines[:most], f"and {rest} more run{_s(rest)}"] if rest > 0 else lines


def _s(count: int) -> str:
    return "s" if count != 1 else ""
