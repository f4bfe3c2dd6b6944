"""Read from results how each run was recorded: the number of samples, the mode of the norms, the data split.

Coordinates along ``run`` hold it, so that it stays right for a selection of runs. The attributes of each
variable hold the joined values.
"""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from fadiag.results.run_labels import as_text, is_missing

__all__ = ["STREAM_COORDINATES", "joined", "of_these_runs", "recordings", "samples_of_conditions"]

#: Coordinates along run that describe how a stream was recorded -> the attribute of a variable.
STREAM_COORDINATES = {
    "kept_samples": "samples",
    "batch_samples": "samples",
    "probe_mode": "probe_mode",
    "split": "split",
}


def joined(values: Sequence[Any]) -> Any:
    """Return the common value of all runs, or a comma-separated list of values if they differ.

    >>> joined([64, None, 64]), joined(["test", "train"])
    (64, 'test, train')
    """
    distinct = list(dict.fromkeys(v for v in values if v is not None and v != ""))
    if len(distinct) == 1:
        return distinct[0]
    return ", ".join(str(v) for v in distinct)


def of_these_runs(variable: xr.DataArray) -> dict[str, Any]:
    """Return the attributes of a variable, with joined values of the selected runs only."""
    attrs = dict(variable.attrs)
    counted = attrs.get("samples_coordinate")
    for name, attribute in STREAM_COORDINATES.items():
        if name in variable.coords and (attribute != "samples" or name == counted):
            attrs[attribute] = joined([as_text(v) for v in variable[name].values if not is_missing(v)])
    return attrs


def samples_of_conditions(
    variable: xr.DataArray, conditions: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Return the attribute ``samples_of``: the numbers of samples of each condition's runs.

    `conditions` holds the condition of each run. The dict is empty if the numbers are unknown.
    """
    coordinate = variable.attrs.get("samples_coordinate")
    if coordinate not in variable.coords:
        return {}
    found: dict[str, list[str]] = {}
    for condition, value in zip(conditions, variable[coordinate].values, strict=True):
        number = as_text(value)
        if not is_missing(value) and number not in found.setdefault(condition, []):
            found[condition].append(number)
    return {"samples_of": found}


def recordings(runs: xr.Dataset) -> list[tuple[str, int]]:
    """Return the run id and generation of each run, which copies of one recording share."""
    if not {"run_id", "generation"} <= set(runs.coords):
        return [("", 0)] * runs.sizes["run"]
    return [
        (str(run_id), int(generation))
        for run_id, generation in zip(runs["run_id"].values, runs["generation"].values, strict=True)
    ]
