"""What an analysis left out, and why: a record of each, which results carry with them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import xarray as xr

__all__ = ["LEFT_OUT", "LeftOut", "left_out", "merged", "to_attribute", "told_by_run"]

#: The attribute of the results' root that holds the records.
LEFT_OUT = "left_out"
#: More runs than this are counted and not named.
_NAMED = 6


@dataclass(frozen=True)
class LeftOut:
    """One thing that could not be measured, while the rest was.

    Parameters
    ----------
    run : str
        The run's label; its path where it has none.
    reason : str
        Reads on from what was left out: ``holds 7 NaN of 160 values``.
    stream, layer : str
        Where; "" where it is the whole run, or a scalar of the stream.
    metric, signal : str
        The metric that has no value, or the signal that no metric can read. "" for both: the whole run.
    step : int, optional
        The first step at which it is so.
    steps : int
        At how many steps, if more than one.

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
        """Whether the run is at fault, in whole or in a signal, rather than a metric."""
        return not self.metric

    def __str__(self) -> str:
        return f"run {self.run}: {self.reason}" if not self.name else f"{self.words} (run {self.run})"

    @property
    def name(self) -> str:
        """The metric or the signal."""
        return self.metric or self.signal

    @property
    def words(self) -> str:
        """All but the run."""
        if not self.name:
            return self.reason
        if not self.stream:
            return self.reason
        where = f" of layer '{self.layer}'" if self.layer else f" of stream '{self.stream}'"
        at = "" if self.step is None else f" at step {self.step}"
        more = f" (and at {self.steps - 1} more)" if self.steps > 1 else ""
        return f"{self.name}{where}{at}{more} {self.reason}"


def merged(records: Iterable[LeftOut]) -> list[LeftOut]:
    """Return one record of each metric or signal of a layer: that of its first step, with their number.

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
    # In one order, whichever block was measured first.
    return sorted(found, key=lambda r: (r.run, r.stream, _first(r), r.layer, r.metric, r.signal))


def _first(record: LeftOut) -> int:
    return -1 if record.step is None else record.step


def to_attribute(records: Sequence[LeftOut]) -> dict[str, str]:
    """Return the attribute of the results' root, as JSON; none where nothing was left out."""
    plain = [
        {k: v for k, v in asdict(record).items() if v not in ("", None) and (k, v) != ("steps", 1)}
        for record in records
    ]
    return {LEFT_OUT: json.dumps(plain)} if plain else {}


def left_out(results: xr.DataTree) -> tuple[LeftOut, ...]:
    """Return what an analysis left out of these results, see `LeftOut`.

    Of results that were selected, it is what was left out of the runs that are still there, and the runs that
    could not be measured at all.

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


def told_by_run(records: Sequence[LeftOut], most: int = _NAMED) -> list[str]:
    """Return one line a run: what was left out of it first, and how much more.

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
