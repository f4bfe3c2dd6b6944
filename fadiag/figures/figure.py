"""What a figure is: a name, the numbers it needs, how they are drawn and what they say."""

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.style import style
from fadiag.figures.table import table

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """One picture of the results, with its numbers and its sentence.

    Drawing and caption both read what `numbers` returns: the table saved beside a figure is the figure.

    Parameters
    ----------
    name, title : str
        What the command calls it, and what a reader does.
    needs : tuple of str
        Variables that it draws; without any of them it cannot be drawn.
    optional : tuple of str
        Variables (nulls, mostly) that are drawn where present.
    plot : callable
        Takes the table, returns a matplotlib Figure.
    sentence : callable
        Takes the table, returns the finding in one sentence, whatever it is.

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
        """Return the table behind the figure, dims (condition, seed, ...).

        A needed variable that the results lack has no values, and its name is among what is left out.

        Raises
        ------
        MissingSignalError
            If the results lack all of the needed variables; they are named.
        """
        return table(results, self.needs, self.optional)

    def draw(self, results: xr.DataTree) -> Canvas:
        """Return the picture, as a matplotlib Figure that no global state knows of."""
        numbers = self.numbers(results)
        with style():
            return self.plot(numbers)

    def caption(self, results: xr.DataTree) -> str:
        """Return what the numbers say, in one sentence; others name the stream and what is left out."""
        numbers = self.numbers(results)
        told = numbers.attrs.get("stream")
        beside = f" Measured on the stream '{told}', not on {numbers.attrs['other_streams']}." if told else ""
        left_out = "".join(f" Left out: {line}." for line in numbers.attrs["left_out"])
        return self.sentence(numbers) + beside + left_out

    def left_out(self, results: xr.DataTree) -> list[str]:
        """Return what the figure has to do without, a line a run: see `fadiag.results.left_out`."""
        return list(self.numbers(results).attrs["left_out"])
