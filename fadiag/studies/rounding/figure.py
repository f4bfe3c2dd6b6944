"""Draw what rounding adds to Muon's steps: their effective rank, and the direction of what is added."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fadiag.figures import save
from fadiag.figures.base.record import Record, attach
from fadiag.figures.look.palette import NULL_COLOR, look
from fadiag.figures.look.style import styled
from fadiag.studies.rounding.steps import METHODS

__all__ = ["draw_rounding"]

Row = dict[str, Any]
#: Each row of panels: the source, the column of the table, the label of the axis and the caption.
_PANELS = (
    (
        "gradient",
        "effective_rank_energy",
        "effective rank",
        "Effective rank (of the energy) of the steps that each method makes of the gradient of one batch",
    ),
    (
        "momentum",
        "effective_rank_energy",
        "effective rank",
        "The same of the steps of the momentum, which Muon orthogonalizes",
    ),
    (
        "momentum",
        "rounding_cosine_bp",
        "cosine with BP",
        "Cosine of backpropagation's gradient with what rounding adds to the momentum's step",
    ),
)
#: What the caption says of the placebo.
_BAND = "The gray band is the central 95 % of random directions that give the exact step the rank of bf16's"


def draw_rounding(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the rows of ``steps.csv``, and save the figure, its numbers and its caption.

    Points are seeds, lines are their means.
    """
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    with styled():
        figure = Figure(figsize=(1 + 2 * len(layers), 6), layout="constrained")
        axes = figure.subplots(len(_PANELS), len(layers), squeeze=False, sharex=True, sharey="row")
        for i, (source, column, label, what) in enumerate(_PANELS):
            for ax, layer in zip(axes[i], layers, strict=True):
                mine = [row for row in rows if (row["source"], row["layer"]) == (source, layer)]
                _panel(ax, mine, column, Record(what=what, place=layer))
                ax.set_title(layer if i == 0 else "")
                ax.set_xlabel("step" if i == len(_PANELS) - 1 else "")
            axes[i, 0].set_ylabel(f"{label} ({source})")
        axes[0, -1].legend(*axes[0, 0].get_legend_handles_labels(), fontsize="small")
    return save(figure, path)


def _panel(ax: Axes, rows: Sequence[Row], column: str, record: Record) -> None:
    for place, method in enumerate(METHODS):
        own = look(place)
        steps, seeds = _series(rows, method, column)
        if not steps:
            continue
        means = [float(np.mean(values)) for values in seeds]
        style = {"color": own.color, "marker": own.marker}
        record.artists += ax.plot(steps, means, linestyle=own.dash, label=method, **style)  # type: ignore[arg-type]
        for step, values in zip(steps, seeds, strict=True):
            record.artists.append(ax.scatter([step] * len(values), values, s=4, color=own.color, alpha=0.5))
        of = {"variable": column, "condition": method, "layer": record.place}
        for step, mean, values in zip(steps, means, seeds, strict=True):
            record.rows.append({**of, "kind": "mean", "step": step, "value": mean, "n": len(values)})
            record.rows += [{**of, "kind": "seed", "step": step, "value": value} for value in values]
    ends = [_series(rows, "placebo", f"{column}_{end}") for end in ("low", "high")]
    steps = ends[0][0]
    if steps:
        low, high = ([float(np.mean(values)) for values in seeds] for _, seeds in ends)
        record.artists.append(ax.fill_between(steps, low, high, color=NULL_COLOR, alpha=0.4, linewidth=0))
        for step, below, above in zip(steps, low, high, strict=True):
            row = {"kind": "null", "variable": column, "condition": "placebo", "layer": record.place}
            record.rows.append({**row, "step": step, "low": below, "high": above})
        record.say(_BAND)
    attach(ax, record)


def _series(rows: Sequence[Row], method: str, column: str) -> tuple[list[int], list[list[float]]]:
    """Return the steps of a method, and the values of all seeds at each."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["method"] == method and row.get(column) is not None:
            found.setdefault(row["step"], []).append(row[column])
    return list(found), list(found.values())
