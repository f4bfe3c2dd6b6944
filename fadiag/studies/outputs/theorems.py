"""Hold the runs of a study to the theorems that it declares: rows of the table, and the page's section."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fadiag.errors import FadiagError
from fadiag.results.variables import find_variable, streams_of
from fadiag.studies.declared.study import Study
from fadiag.studies.declared.tables import TheoremTable
from fadiag.studies.outputs.rows import read_rows
from fadiag.studies.outputs.text import number, plain, table_of

__all__ = ["check_theorems", "theorem_rows", "theorem_section"]

Row = dict[str, Any]


def theorem_rows(study: Study, results: xr.DataTree) -> list[Row]:
    """Return one row for each theorem: the values and bounds found, and whether all values keep it.

    A theorem without a single value is not kept: nothing was held to it. Runs that diverged are left out.
    """
    return [
        {
            "law": theorem.law,
            "metric": theorem.metric,
            "conditions": " | ".join(theorem.conditions or ()),
            "layers": theorem.layers,
            "step": theorem.step,
            "average": theorem.average,
            "tolerance": theorem.tolerance,
            **_held_to(theorem, results),
        }
        for theorem in study.theorems
    ]


def _held_to(theorem: TheoremTable, results: xr.DataTree) -> Row:
    bounds = {"at_least": theorem.at_least, "at_most": theorem.at_most}
    named = [bound for bound in bounds.values() if isinstance(bound, str)]
    found = _values(theorem, results, list(dict.fromkeys([theorem.metric, *named])))
    values = found[theorem.metric]
    row: Row = {"values": int(np.isfinite(values).sum())}
    kept = row["values"] > 0
    if kept:
        row |= {"lowest": float(np.nanmin(values)), "highest": float(np.nanmax(values))}
    for (name, bound), sign in zip(bounds.items(), (-1, 1), strict=True):
        if bound is None:
            continue
        limits = found[bound] if isinstance(bound, str) else np.asarray(bound)
        outside = sign * (values - limits) - theorem.tolerance * np.maximum(1, np.abs(limits))
        held = np.isfinite(outside)
        row[name] = bound
        # Each value needs its bound.
        kept &= bool(held.sum() == row["values"] and (outside[held] <= 0).all())
    return row | {"kept": kept}


def _values(
    theorem: TheoremTable, results: xr.DataTree, names: Sequence[str]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the values of variables at the records of the first one that a theorem is about."""
    held = [find_variable(results, name, streams_of(results, names[:1])) for name in names]
    if any(one is None for one in held):
        return {name: np.full(1, np.nan) for name in names}
    stream = xr.Dataset({name: one[1] for name, one in zip(names, held, strict=True) if one is not None})
    if "layer" in stream.dims:
        layers = [fnmatchcase(str(name), theorem.layers) for name in stream["layer"].values]
        stream = stream.isel(layer=np.flatnonzero(layers))
    parts: dict[str, list[np.ndarray[Any, Any]]] = {name: [np.full(0, np.nan)] for name in names}
    for at in range(stream.sizes["run"]):
        run = stream.isel(run=at)
        wanted = theorem.conditions is None or str(run["condition"].values) in theorem.conditions
        if wanted and str(run["status"].values) == "complete":
            steps = _steps(theorem, run[names[0]])
            for name in names:
                parts[name].append(run[name].isel(step=steps).values.astype(np.float64).ravel())
    values = {name: np.concatenate(part) for name, part in parts.items()}
    if not theorem.average:
        return values
    finite = {name: one[np.isfinite(one)] for name, one in values.items()}
    return {name: one.mean(keepdims=True) if one.size else one for name, one in finite.items()}


def _steps(theorem: TheoremTable, variable: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return the places of the records of one run that a theorem is about."""
    values = np.isfinite(variable.transpose("step", ...).values.astype(np.float64))
    recorded = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
    return recorded[{"all": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[theorem.step]]


def check_theorems(path: Path) -> None:
    """Raise an error that names each theorem of a table that the runs do not keep."""
    broken = [row for row in read_rows(path) if row["kept"] != "true"]
    if broken:
        lines = [f"{row['law']} ({row['metric']}: {_range(row)}; {_bounds(row)})" for row in broken]
        raise FadiagError(
            f"the runs do not keep {len(broken)} of the study's theorems, so do not trust its other numbers: "
            f"{'; '.join(lines)}. {path} has the values"
        )


def theorem_section(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the section of the page, from the rows of the table; nothing if it has none."""
    if not rows:
        return []
    body = [
        [
            row["law"],
            plain(row["metric"]) + (", mean" if row["average"] == "true" else ""),
            _range(row),
            _bounds(row),
            row["values"],
            "kept" if row["kept"] == "true" else "**broken**",
        ]
        for row in rows
    ]
    return [
        "Laws that hold whatever a run learns. If one is broken, a run or its measurement has a fault.",
        table_of(["law", "metric", "found", "law says", "values", ""], body),
        "[theorems.csv](theorems.csv) has the conditions, layers, steps and tolerances.",
    ]


def _range(row: Mapping[str, str]) -> str:
    if not row.get("lowest"):
        return "no value"
    ends = dict.fromkeys(number(row[key]) for key in ("lowest", "highest"))
    return " to ".join(ends)


def _bounds(row: Mapping[str, str]) -> str:
    said = {key: _bound(row[key]) for key in ("at_least", "at_most") if row.get(key)}
    if len(set(said.values())) == 1 and len(said) == 2:
        return f"equal to {said['at_least']}"
    return " and ".join(f"{key.replace('_', ' ')} {value}" for key, value in said.items())


def _bound(text: str) -> str:
    """Return a bound in words: a number, or the name of the variable that holds it."""
    try:
        return number(text)
    except ValueError:
        return plain(text)
