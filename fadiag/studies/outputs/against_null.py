"""Give a run's primary metric at its first record, and where its last value lies in each recorded null."""

import numpy as np
import xarray as xr

from fadiag.results.null_values import exceeds

__all__ = ["NULLS", "first_and_nulls", "null_counts"]

#: The stems of the columns of nulls -> their words.
NULLS = {"gate_null": "gate null", "redrawn_null": "null of redrawn feedback", "null": "null"}
_PARTS = ("low", "mean", "high")
Row = dict[str, float | int | str | None]


def first_and_nulls(runs: xr.Dataset, metric: str) -> Row:
    """Return the columns of one run: its first value, and the mean and central 95 % of each null.

    `runs` holds the variables of one run at one layer, along step. A null may be drawn at fewer steps than
    its variable. So it is compared at the last step that has both, which is a column.
    """
    values = runs[metric]
    known = np.flatnonzero(np.isfinite(values.values))
    row: Row = {}
    if known.size:
        row |= {
            f"{metric}_first": float(values[known[0]]),
            f"{metric}_first_step": int(values["step"][known[0]]),
        }
    for stem in ("gate_null", "null"):
        parts = {part: runs.get(f"{metric}_{stem}_{part}") for part in _PARTS}
        held = {part: array for part, array in parts.items() if array is not None}
        if len(held) < len(_PARTS):
            continue
        both = np.isfinite(values.values) & np.all(
            [np.isfinite(each.values) for each in held.values()], axis=0
        )
        if not both.any():
            continue
        last = int(np.flatnonzero(both)[-1])
        value, ends = values[last], {part: array[last] for part, array in held.items()}
        side = (
            "below" if exceeds(ends["low"], value) else "above" if exceeds(value, ends["high"]) else "inside"
        )
        redrawn = str(held["low"].attrs.get("draws_of", "")).startswith("error_null")
        stem_of = f"{metric}_{'redrawn_' * (redrawn and stem == 'null')}{stem}"
        row |= {f"{stem_of}_{part}": float(end) for part, end in ends.items()}
        if (draws := runs.get(f"{metric}_{stem}_draws")) is not None:
            row[f"{stem_of}_draws"] = int(draws[last])
        row |= {f"{stem_of}_step": int(values["step"][last]), f"{stem_of}_side": side}
    return row


def null_counts(rows: list[Row], metric: str) -> Row:
    """Return the columns of a condition: how many runs lie beyond each null, and the null over its runs."""
    found: Row = {}
    for column in NULLS:
        stem = f"{metric}_{column}"
        mine = [row for row in rows if row.get(f"{stem}_side")]
        if not mine:
            continue
        found |= {
            f"{stem}_{part}": float(np.mean([row[f"{stem}_{part}"] for row in mine])) for part in _PARTS
        }
        for side in ("below", "above"):
            found[f"{stem}_{side}"] = sum(row[f"{stem}_side"] == side for row in mine)
        found[f"{stem}_runs"] = len(mine)
        for part in ("step", "draws"):
            values = dict.fromkeys(str(row.get(f"{stem}_{part}", "")) for row in mine)
            found[f"{stem}_{part}"] = ", ".join(values)
    return found
