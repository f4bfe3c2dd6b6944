"""Write the tables of a study as CSV: its runs, its conditions, its contrasts and its search."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fadiag.analysis import compare
from fadiag.errors import InputError
from fadiag.figures import FIGURES
from fadiag.results import mean_interval
from fadiag.results.intervals import cut_interval
from fadiag.results.layers import primary_layers
from fadiag.results.possible import is_rank, living, possible_values
from fadiag.results.variables import find_variable, streams_of
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.against_null import first_and_nulls, null_counts
from fadiag.studies.outputs.measure import ReportedRun
from fadiag.studies.runs.search import Curve
from fadiag.training.recording import LOGGED

__all__ = ["condition_rows", "contrast_rows", "read_rows", "run_rows", "search_rows", "write_rows"]

ACCURACIES = [name for name in LOGGED if name != "loss"]
Row = dict[str, Any]


def write_rows(rows: Sequence[Row], path: Path) -> Path:
    """Write rows as CSV; floats have all their digits, and what is absent is empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; an empty file has none."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def metrics_of(study: Study) -> list[str]:
    """Return the primary metric and the others of the tables: those declared, or those that figures draw."""
    others = study.metrics
    if others is None:
        others = tuple(name for figure in FIGURES for name in figure.needs)
    return [name for name in dict.fromkeys([study.primary.metric, *others]) if name not in ACCURACIES]


def run_rows(study: Study, runs: Sequence[ReportedRun], results: xr.DataTree) -> list[Row]:
    """Return one row for each run: its seeds, rates, status, accuracies and metrics at the primary layer.

    Values are those of the run's last record. A run that diverged has none.
    """
    metrics = metrics_of(study)
    found = []
    for one in runs:
        config = one.run.config
        row: Row = {
            "condition": one.run.condition,
            "control": study.conditions[one.run.condition].control,
            "seed": config.seeds.init,
            "data_seed": config.seeds.data,
            "feedback_seed": config.seeds.feedback,
            "address": one.address,
            "status": one.answer.status,
            "learning_rate": config.optimizer.learning_rate,
            "rest_learning_rate": config.optimizer.rest.learning_rate if config.optimizer.uses_rest else None,
        }
        layer = _layer_of(one, results)
        row |= {"layer": layer}
        whole = one.answer.status == "complete"
        for name in (*ACCURACIES, *metrics):
            value = _last_value(one, results, name, layer) if whole else None
            if value is not None or name in metrics:
                row[name] = value
        if whole and (own := _of_run(one, results, study.primary.metric, layer)) is not None:
            row |= first_and_nulls(own, study.primary.metric)
        found.append(row)
    return found


def _place_of(one: ReportedRun, stream: xr.Dataset | xr.DataArray) -> int | None:
    keys = zip(map(str, stream["address"].values), map(str, stream["condition"].values), strict=True)
    return next((i for i, key in enumerate(keys) if key == (one.address, one.run.condition)), None)


def _layer_of(one: ReportedRun, results: xr.DataTree) -> str:
    for node in results.children.values():
        stream = node.to_dataset()
        if "primary_layer" in stream.coords and (at := _place_of(one, stream)) is not None:
            return str(stream["primary_layer"].values[at])
    return ""


def _held(one: ReportedRun, results: xr.DataTree, name: str, layer: str) -> tuple[str, int] | None:
    """Return the stream that holds a variable of a run, and the run's place; None without the layer."""
    held = find_variable(results, name, streams_of(results, [name]))
    at = None if held is None else _place_of(one, held[1])
    if held is None or at is None or ("layer" in held[1].dims and layer not in held[1]["layer"].values):
        return None
    return held[0], at


def _of_run(one: ReportedRun, results: xr.DataTree, name: str, layer: str) -> xr.Dataset | None:
    """Return a variable of one run at one layer, with its nulls; None if the results lack it."""
    if (held := _held(one, results, name, layer)) is None:
        return None
    stream = results[held[0]].to_dataset()
    own = stream[[key for key in stream.data_vars if str(key).startswith(name)]].isel(run=held[1])
    return own.sel(layer=layer) if "layer" in own.dims else own


def _last_value(one: ReportedRun, results: xr.DataTree, name: str, layer: str) -> float | None:
    """Return a variable of a run at the last step that it recorded in the stream; None if there is none."""
    if (held := _held(one, results, name, layer)) is None:
        return None
    of_run = results[held[0]].to_dataset()[name].isel(run=held[1])
    steps = np.isfinite(of_run.transpose("step", ...).values).reshape(of_run.sizes["step"], -1).any(axis=1)
    if not steps.any():
        return None
    last = of_run.isel(step=int(np.flatnonzero(steps)[-1]))
    return float(last.sel(layer=layer) if "layer" in last.dims else last)


def condition_rows(study: Study, rows: Sequence[Row], results: xr.DataTree) -> list[Row]:
    """Return one row for each condition: how many runs, and the mean and 95 % t interval of each number.

    An interval is cut to the values that the number can take. The mean of possible values is possible, so a
    cut interval covers it as often as the whole one. A run whose layer is dead has the rank 0: it is counted
    and left out of the mean.

    With crossed seeds the runs of a condition share seeds, so there is no interval.
    """
    found: list[Row] = []
    metric = study.primary.metric
    first = f"{metric}_first"
    values = [key for row in rows for key in row if key in (*ACCURACIES, *metrics_of(study), first)]
    attrs = {key: _attrs(results, key.removesuffix("_first")) for key in dict.fromkeys(values)}
    for name, condition in study.conditions.items():
        mine = [row for row in rows if row["condition"] == name]
        row: Row = {
            "condition": name,
            "control": condition.control,
            "runs": len(mine),
            "diverged": sum(one["status"] == "diverged" for one in mine),
            "learning_rate": mine[0]["learning_rate"] if mine else None,
            "rest_learning_rate": mine[0]["rest_learning_rate"] if mine else None,
            "rate_from": condition.rate_from,
        }
        for key, of_key in attrs.items():
            own = np.array([v for one in mine if (v := one.get(key)) is not None], np.float64)
            array = xr.DataArray(own, dims="seed", name=key.removesuffix("_first"), attrs=of_key)
            over = cut_interval(mean_interval(living(array)), *possible_values(array))
            n = int(over.n)
            row |= {key: float(over.mean) if n else None, f"{key}_n": n}
            if is_rank(key):
                row[f"{key}_dead"] = int((own == 0).sum())
            if n > 1 and not study.seeds.cross:
                row |= {f"{key}_low": float(over.low), f"{key}_high": float(over.high)}
        found.append(row | null_counts(mine, metric))
    return found


def _attrs(results: xr.DataTree, name: str) -> dict[str, Any]:
    held = find_variable(results, name, streams_of(results, [name]))
    return {} if held is None else held[1].attrs


def contrast_rows(study: Study, results: xr.DataTree) -> list[Row]:
    """Return the paired differences of every condition with its baseline, for all metrics of the tables.

    The first row is the primary contrast. A row without numbers has a note that says why.
    """
    metrics = metrics_of(study)
    kept = _only(results, {*metrics, *ACCURACIES})
    rows = [row for name, baseline in study.contrasts() for row in _contrast(study, kept, name, baseline)]
    return sorted(rows, key=lambda row: not row["primary"])


def _contrast(study: Study, results: xr.DataTree, name: str, baseline: str) -> Iterator[Row]:
    control = study.conditions[name].control
    common: Row = {"condition": name, "baseline": baseline, "control": control}
    is_primary = (name, baseline) == study.primary.contrast
    try:
        found = compare(results, results, conditions=(baseline, name), names=(baseline, name)).to_dict(
            "records"
        )
    except InputError as error:
        yield {**common, "primary": is_primary, "metric": study.primary.metric, "note": str(error)}
        return
    layers = primary_layers(results, {name, baseline})
    held = find_variable(results, study.primary.metric, streams_of(results, [study.primary.metric]))
    said = False
    for row in found:
        of_metric = row["variable"] == study.primary.metric and held is not None and row["stream"] == held[0]
        at_layer = [row["layer"]] == layers or not row["layer"]
        primary = is_primary and of_metric and at_layer
        said |= primary
        yield {
            **common,
            "primary": primary,
            "metric": row["variable"],
            "stream": row["stream"],
            "layer": row["layer"],
            "at_primary_layer": at_layer,
            "runs": row["runs"],
            "planned": len(study.seed_tables()),
            "design": row["design"],
            "mean": row["b"],
            "baseline_mean": row["a"],
            "difference": row["difference"],
            "low": row["low"],
            "high": row["high"],
            "differs": row["differs"],
            "p": row["p"],
            "note": row["note"],
        }
    if is_primary and not said:
        why = f"{study.primary.metric} has no value at the primary layer ({', '.join(layers) or 'none'})"
        yield {**common, "primary": True, "metric": study.primary.metric, "note": why}


def _only(results: xr.DataTree, names: set[str]) -> xr.DataTree:
    """Return the results with some variables only."""
    groups = {
        path: (stream := node.to_dataset()).drop_vars([v for v in stream.data_vars if str(v) not in names])
        for path, node in results.subtree_with_keys
    }
    return xr.DataTree.from_dict(groups, name=results.name)


def search_rows(study: Study, curves: Mapping[str, Curve]) -> list[Row]:
    """Return one row for each condition, setting and seed of the search, with what was chosen."""
    if study.search is None:
        return []
    return [
        {
            "condition": name,
            "setting": point.setting,
            "learning_rate": point.learning_rate,
            "seed": seed,
            "score": study.search.score,
            "value": score,
            "diverged": score is None,
            "best": point.setting == curve.best,
            "chosen": point.setting == curve.chosen,
            "at_edge": curve.at_edge and point.setting in (curve.best, curve.chosen),
            "trains_at_no_rate": curve.chosen is None,
        }
        for name, curve in curves.items()
        for point in curve.points
        for seed, score in zip(study.search.seeds, point.scores, strict=True)
    ]
