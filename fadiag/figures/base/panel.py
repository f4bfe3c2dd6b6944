"""Panel draws one Axes: it holds the conditions, the numbers that are drawn, and the words on them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.arms import Arm, Arms, arms
from fadiag.figures.base.axes import dress, leave_blank, own_axes
from fadiag.figures.base.furnish import furnish
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.near_names import near
from fadiag.figures.base.record import Record, attach
from fadiag.figures.base.values import values_of, with_twin
from fadiag.figures.look.canvas import tallest, user_size
from fadiag.figures.look.palette import look
from fadiag.figures.look.style import styled
from fadiag.figures.look.theme import label
from fadiag.figures.words.definition import Drawn, definition, seeds_and_interval
from fadiag.results import final_values
from fadiag.results.left_out import left_out, left_out_of, told_by_run
from fadiag.store.tools.printable import printable

__all__ = ["Panel", "panel"]


class Panel:
    """One Axes of a figure, and what is drawn in it.

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`.
    ax : Axes
        Where to draw.
    arms : Arms
        The conditions to draw, and the baseline.
    stream : str, optional
        The stream to read; by default the first with the variable.
    """

    def __init__(self, results: xr.DataTree, ax: Axes, arms: Arms, stream: str | None) -> None:
        self.results = results
        self.ax = ax
        self.arms = arms
        self.stream = stream
        self.record = Record()
        #: Whether the figure is fadiag's, and of no size that the user chose.
        self.grows = False

    def need(self, high: float) -> None:
        """Make a figure that may grow so high that its Axes have about a height in inches."""
        figure, share = self.ax.figure.figure, self.ax.get_position().height
        if self.grows and isinstance(figure, Figure) and high > share * figure.get_figheight():
            figure.set_figheight(min(high / share, tallest()))

    @property
    def drawn(self) -> tuple[Arm, ...]:
        """The conditions to draw, in order."""
        return self.arms.drawn

    def values(self, measure: Measure, drawn: Drawn = "interval") -> xr.DataArray:
        """Return a variable by condition and seed, for the drawn conditions and the baseline.

        If a single condition is drawn and there is no baseline, the exact error of the same runs takes the
        baseline's place, where the results hold it.

        Raises
        ------
        MissingSignalError
            The results lack the variable. The panel then shows the reason.
        """
        names = list(dict.fromkeys([*self.arms.names, *([self.arms.baseline] if self.arms.baseline else [])]))
        found = values_of(self.results, measure, names, self.stream)
        twin = self.companion(measure.twin, found) if measure.twin and self._may_have_twin() else None
        if twin is not None:
            reference = f"{measure.twin.partition('_bp_')[0]}_bp, same weights"
            found = with_twin(found, twin, reference)
            self.arms = Arms((Arm(reference, look(0)), *self.arms.drawn), reference)
        self._describe(found, drawn)
        return found

    def _may_have_twin(self) -> bool:
        return not self.arms.baseline and len(self.arms.drawn) == 1

    def companion(self, name: str, values: xr.DataArray, *, degrees: bool = False) -> xr.DataArray | None:
        """Return a variable of the same stream as some values; None if it is not there."""
        try:
            measure = Measure(name, name, name, layered="layer" in values.dims, degrees=degrees)
            names = [str(c) for c in values["condition"].values]
            found = values_of(self.results, measure, names, values.attrs["stream"])
        except MissingSignalError:
            return None
        return found if found.dims == values.dims and bool(np.isfinite(found).any()) else None

    def at(self, values: xr.DataArray, step: int | None) -> xr.DataArray:
        """Return the values at a step; by default at the last step that all drawn conditions share.

        Raises
        ------
        InputError
            Nothing was recorded at that step. The error names the nearest ones.
        """
        if step is None:
            return final_values(values)
        steps = values["step"].values
        if step not in steps:
            nearest = sorted(steps[np.argsort(abs(steps - step), kind="stable")[:3]].tolist())
            raise InputError(f"step {step} was not recorded; the nearest are {', '.join(map(str, nearest))}")
        return final_values(values.sel(step=[step])).assign_attrs({**values.attrs, "chosen_step": step})

    @property
    def lost(self) -> bool:
        """Whether a run could not be measured at all; it may belong to any condition."""
        return any(not record.name for record in left_out(self.results))

    def _describe(self, values: xr.DataArray, drawn: Drawn) -> None:
        """Note the definition of what is drawn, the stream, and what is left out."""
        empty = [label(name) for name in self.arms.names if not self.has(values, name)]
        if empty:
            self.record.note(f"No value: {', '.join(empty)}.")
        for sentence in definition(values):
            self.record.note(sentence)
        self.record.note(seeds_and_interval(values, drawn))
        held = [k for k, n in self.results.children.items() if values.name in n.data_vars]
        if len(held) > 1:
            others = ", ".join(printable(str(name)) for name in held if name != values.attrs["stream"])
            self.record.say_once(
                f"Measured on the stream '{printable(values.attrs['stream'])}', not on {others}."
            )
        gone = left_out_of(self.results, [str(values.name)])
        for line in told_by_run(gone):
            self.record.say_once(f"Left out: {printable(line)}.")
        runs = ", ".join(dict.fromkeys(record.run for record in gone))
        self.record.note(f"Left out, wholly or in part: {printable(runs)}." if runs else "")

    def has(self, values: xr.DataArray, condition: str) -> bool:
        """Return whether a condition has any finite value."""
        return bool(np.isfinite(values.sel({"condition": condition})).any())

    def add(self, artist: Artist) -> None:
        """Note that an artist belongs to this panel."""
        self.record.artists.append(artist)


@contextmanager
def panel(
    results: xr.DataTree,
    ax: Axes | None,
    *,
    conditions: str | Sequence[str] | None = None,
    baseline: str | None = None,
    stream: str | None = None,
    legend: bool = True,
) -> Iterator[Panel]:
    """Draw one Axes inside the block: set the style, choose conditions, and add legend and small print.

    A `MissingSignalError` inside the block becomes a text in the Axes.

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`.
    ax : Axes or None
        Where to draw; None makes a figure of the style's size.
    conditions, baseline
        See `fadiag.figures.base.arms.arms`.
    stream : str, optional
        The stream to read.
    legend : bool
        Whether to update the legend and the small print of the figure.

    Raises
    ------
    InputError
        The results hold no such condition or stream.
    """
    chosen = arms(results, conditions, baseline)
    if stream is not None and stream not in results.children:
        raise InputError(f"the results hold no stream {stream!r}{near(stream, map(str, results.children))}")
    with styled(), own_axes(ax) as axes:
        here = Panel(results, axes, chosen, stream)
        here.grows = ax is None and user_size() is None
        try:
            yield here
        except MissingSignalError as error:
            here.record.missing = printable(str(error))
            here.record.notes.clear()  # they are of what is drawn
            here.add(leave_blank(axes, here.record.missing))
        dress(axes, grows=here.grows)
        attach(axes, here.record)
        if legend:
            furnish(axes.figure, own=ax is None, grow=here.grows)
