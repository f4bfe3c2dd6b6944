"""Figure defines one figure: its name, its numbers, how to draw them and a sentence on them."""

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.style import style
from fadiag.figures.table import table

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """One figure of the results, with its numbers and its sentence.

    The drawing and the caption both use the table of `numbers`, which can be saved with the figure.

    Parameters
    ----------
    name, title : str
        The name in commands, and the title for readers.
    needs : tuple of str
        Variables that it draws. It cannot be drawn if all of them are missing.
    optional : tuple of str
        Variables, mostly nulls, that are drawn if present.
    plot : callable
        Takes the table, and returns a matplotlib Figure.
    sentence : callable
        Takes the table, and returns the finding in one sentence, whatever it is.

    Examples
    --------
    >>> from fadiag.figures import find
    >>> figure = find("accuracy")
    >>> isinstance(figure, Figure), figure.name
    (True, 'accuracy')
    """

    name: str
    title: str
    needs: tuple[str, ...]
    optional: tuple[str, ...]
    plot: Callable[[xr.Dataset], Canvas]
    sentence: Callable[[xr.Dataset], str]

    def numbers(self, results: xr.DataTree) -> xr.Dataset:
        """Return the numbers of the figure as a table with dims (condition, seed, ...).

        A needed variable that is missing has no values, and is listed in the attribute ``left_out``.

        Raises
        ------
        MissingSignalError
            All of the needed variables are missing. The error names them.
        """
        return table(results, self.needs, self.optional)

    def draw(self, results: xr.DataTree) -> Canvas:
        """Return the drawing as a matplotlib Figure, without the global state of pyplot."""
        numbers = self.numbers(results)
        with style():
            return self.plot(numbers)

    def caption(self, results: xr.DataTree) -> str:
        """Return the finding in one sentence, followed by the stream and what was left out."""
        numbers = self.numbers(results)
        stream, others = (numbers.attrs.get(name) for name in ("stream", "other_streams"))
        measured_on = f" Measured on the stream '{stream}', not on {others}." if stream else ""
        left_out = "".join(f" Left out: {line}." for line in numbers.attrs["left_out"])
        return self.sentence(numbers) + measured_on + left_out

    def left_out(self, results: xr.DataTree) -> list[str]:
        """Return what is missing from the figure, one line per run, see `fadiag.results.left_out`."""
        return list(self.numbers(results).attrs["left_out"])
