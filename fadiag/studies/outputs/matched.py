"""Compare the conditions of a study at equal training loss: the rows of the table, and the page's section."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fadiag.errors import FadiagError
from fadiag.results import select
from fadiag.results.layers import primary_layers
from fadiag.results.matched import at_matched_loss
from fadiag.results.run_labels import conditions_of, seeds_of
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.text import list_of, number, plain, table_of
from fadiag.training.recording import LOGGED

__all__ = ["matched_rows", "matched_section"]

Row = dict[str, Any]
#: The row of a mean over seeds has this in the place of a seed.
_ALL = "all"
_NUMBERS = ("level", "step", "baseline_step", "value", "baseline_value", "difference")
_Runs = Mapping[tuple[str, int | str], str]


def matched_rows(study: Study, results: xr.DataTree) -> list[Row]:
    """Return the comparisons at equal training loss: one row per contrast, metric and seed, and their mean.

    The metrics are the primary one, and those of two ranks of error and modulator that were measured, at the
    primary layer.
    A run that diverged has no pair. A row without numbers has a note that says why.
    """
    if not results.children:
        return []
    diverged = _diverged(results)
    held = {str(variable) for node in results.children.values() for variable in node.data_vars}
    primary = study.primary.metric
    metrics = [metric for metric in _metrics(primary) if metric in held or metric == primary]
    return [
        {**common, **row}
        for name, baseline in study.contrasts()
        for metric in metrics
        for common in [_common(study, results, name, baseline, metric)]
        for row in _rows(study, results, common, diverged)
    ]


def _metrics(primary: str) -> list[str]:
    """Return the primary metric, and the ranks of error and modulator, centered if the primary one is."""
    mean = "centered" if primary.endswith("_centered") else "raw"
    ranks = [
        f"{signal}_{rank}_{mean}"
        for signal in ("error", "modulator")
        for rank in ("effective_rank", "participation_ratio")
    ]
    return list(dict.fromkeys([primary, *ranks]))


def _common(study: Study, results: xr.DataTree, name: str, baseline: str, metric: str) -> Row:
    layers = [] if metric in LOGGED else primary_layers(results, {name, baseline})
    is_primary = (name, baseline) == study.primary.contrast and metric == study.primary.metric
    return {
        "condition": name,
        "baseline": baseline,
        "control": study.conditions[name].control,
        "primary": is_primary,
        "metric": metric,
        "layer": " ".join(layers),
    }


def _rows(study: Study, results: xr.DataTree, common: Row, diverged: _Runs) -> Iterator[Row]:
    sides = (common["condition"], common["baseline"])
    planned = len(study.seed_tables())
    lost = {seed: f"{run} diverged" for (name, seed), run in diverged.items() if name in sides}
    try:
        complete = select(results, status="complete")
        found = at_matched_loss(complete, common["metric"], *sides, layer=common["layer"] or None)
    except FadiagError as error:
        note = "; ".join(lost.values()) or str(error)
        yield {"seed": _ALL, "runs": 0, "planned": planned, "note": note}
        return
    left_out = {**found.left_out, **lost}
    notes = [f"seed {seed}: {why}" for seed, why in left_out.items()]
    if len(found.pairs) == 1:
        notes.insert(0, "no interval: 1 pair, it needs two")
    row: Row = {"seed": _ALL, "runs": len(found.pairs), "planned": planned, "note": "; ".join(notes)}
    if found.pairs:
        row |= {name: float(np.mean([getattr(pair, name) for pair in found.pairs])) for name in _NUMBERS}
    if found.interval is not None:
        row |= {"low": float(found.interval.low), "high": float(found.interval.high)}
    yield row
    for pair in found.pairs:
        yield {"seed": pair.seed} | {name: getattr(pair, name) for name in _NUMBERS}
    for seed, why in left_out.items():
        yield {"seed": seed, "note": why}


def _diverged(results: xr.DataTree) -> _Runs:
    """Return the runs that diverged, by condition and seed."""
    stream = next(iter(results.children.values())).to_dataset()
    keys = zip(conditions_of(stream), seeds_of(stream), strict=True)
    runs = zip(keys, stream["run"].values, stream["status"].values, strict=True)
    return {key: str(run) for key, run, status in runs if status == "diverged"}


def matched_section(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the section of the page, from the rows of the table; nothing if it has none."""
    means = [row for row in rows if row["seed"] == _ALL]
    if not means:
        return []
    head = ["contrast", "metric", "loss", "steps", "difference", "interval", "runs"]
    body = []
    for row in means:
        if row["runs"] == "0":
            continue
        name = f"{row['condition']} − {row['baseline']}"
        body.append(
            [
                f"**{name}**" if row["primary"] == "true" else name,
                plain(row["metric"]),
                number(row["level"]),
                " and ".join(f"{float(row[step]):.0f}" for step in ("step", "baseline_step")),
                number(row["difference"]),
                f"[{number(row['low'])}, {number(row['high'])}]" if row.get("low") else "",
                row["runs"] if row["runs"] == row["planned"] else f"{row['runs']} of {row['planned']}",
            ]
        )
    notes = [f"{row['condition']} − {row['baseline']}: {row['note']}" for row in means if row["note"]]
    return [
        "Each pair of runs is compared at the lowest training loss that both reach, with 95 % t intervals "
        "over pairs. The loss of a record is the mean over the batches since the record before. Between "
        "records the metric is linear in the loss. Loss and steps are means over pairs.",
        *([table_of(head, body)] if body else []),
        list_of(dict.fromkeys(notes)),
        "[matched.csv](matched.csv) has every pair.",
    ]
