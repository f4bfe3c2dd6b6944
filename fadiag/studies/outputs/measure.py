"""Measure the runs of a study, under the conditions that the study gives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from fadiag.analysis import analyze
from fadiag.results import save_results
from fadiag.studies.declared.study import PlannedRun, Study
from fadiag.studies.runs.layers import layer_names
from fadiag.studies.runs.pool import Answer, store_of

__all__ = ["ReportedRun", "measure_runs", "one_of_each_seed"]


@dataclass(frozen=True)
class ReportedRun:
    """One run of a study, the folder that holds it, and how it ended.

    Examples
    --------
    >>> from fadiag.training import Config
    >>> ReportedRun(PlannedRun("fa-seed0", "fa", Config()), Path("pool/00ff"), Answer("complete")).address
    '00ff'
    """

    run: PlannedRun
    place: Path
    answer: Answer

    @property
    def address(self) -> str:
        """The run's address in the pool."""
        return self.place.name


def measure_runs(
    study: Study,
    runs: Sequence[ReportedRun],
    output: Path,
    progress: Callable[[int, int], None] | None = None,
) -> xr.DataTree:
    """Measure runs and save the results; earlier results of the same recordings are reused.

    A run that two conditions share is measured once, and has a place in the results for each of them.
    """
    meta: dict[Path, dict[str, Any]] = {}
    shared: list[tuple[str, dict[str, Any]]] = []
    for one in runs:
        entries = _entries(study, one)
        if one.place in meta:
            shared.append((one.run.name, entries))
        else:
            meta[one.place] = entries
    stores = {store_of(place): entries for place, entries in meta.items()}
    results = analyze(list(stores), meta=stores, unfolding=study.unfolding, progress=progress, output=output)
    if shared:
        results = _with_shared(results, shared)
        save_results(results, output)
    return results


def _entries(study: Study, one: ReportedRun) -> dict[str, Any]:
    """Return what the study says of a run, in place of what the run recorded."""
    seeds, primary = one.run.config.seeds, study.primary
    entries: dict[str, Any] = {
        "condition": one.run.condition,
        "seed": seeds.init,
        "data_seed": seeds.data,
        "feedback_seed": seeds.feedback,
        "study": study.name,
        "address": one.address,
        "status": one.answer.status,
        "primary_metric": primary.metric,
        "baseline": study.baseline_of(one.run.condition) or "",
    }
    if primary.layer == "first":
        entries["primary_layer"] = layer_names(one.run.config)[0]
    elif primary.layer != "last_hidden":  # which the trainer has found
        entries["primary_layer"] = primary.layer
    return entries


def _with_shared(results: xr.DataTree, shared: Sequence[tuple[str, Mapping[str, Any]]]) -> xr.DataTree:
    groups = {"/": results.to_dataset()}
    for name, node in results.children.items():
        stream = node.to_dataset()
        addresses = [str(address) for address in stream["address"].values]
        copies = []
        for label, entries in shared:
            copy = stream.isel(run=[addresses.index(entries["address"])])
            of_study = {"run": label, "condition": entries["condition"]}
            copies.append(copy.assign_coords({key: ("run", [value]) for key, value in of_study.items()}))
        groups[f"/{name}"] = xr.concat([stream, *copies], "run", combine_attrs="override")
    return xr.DataTree.from_dict(groups, name=results.name)


def one_of_each_seed(results: xr.DataTree) -> xr.DataTree:
    """Return the runs whose seeds are all equal: figures show one run for each condition and seed."""

    def equal(stream: xr.Dataset) -> xr.Dataset:
        same = (stream["seed"] == stream["data_seed"]) & (stream["seed"] == stream["feedback_seed"])
        return stream.isel(run=same.values.nonzero()[0])

    groups = {
        path: equal(node.to_dataset()) if "run" in node.dims else node.to_dataset()
        for path, node in results.subtree_with_keys
    }
    return xr.DataTree.from_dict(groups, name=results.name)
