"""Draw the figures of a study, each with its numbers and its caption."""

from pathlib import Path

import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import caption, drawable, find, save
from fadiag.figures.base.record import records_of
from fadiag.results.roles import roles
from fadiag.studies.declared.tables import FigureTable

__all__ = ["draw_figures"]


def draw_figures(
    chosen: FigureTable, results: xr.DataTree, folder: Path, baseline: str, note: str
) -> list[dict[str, str]]:
    """Draw the chosen figures into a folder; return a row for each: its caption, or why it is not drawn.

    Differences are to the given baseline, if the results hold it. Each caption ends with the note.
    """
    folder.mkdir(exist_ok=True)
    rows = []
    held = baseline if baseline in roles(results).conditions else None
    figures = drawable(results) if chosen.names is None else [find(name) for name in chosen.names]
    for figure in figures:
        row = {"name": figure.name, "title": figure.title, "caption": "", "not_drawn": ""}
        try:
            canvas = figure.draw(results, baseline=held)
            for record in records_of(canvas.axes):
                record.say_once(note)
            save(canvas, folder / figure.name, formats=("pdf", "png"))
            row["caption"] = caption(canvas)
        except FadiagError as error:
            row["not_drawn"] = str(error)
        rows.append(row)
    return rows
