"""Draw the figures of results, each with its numbers and a sentence computed from them."""

from fadiag.errors import InputError
from fadiag.figures.accuracy import ACCURACY
from fadiag.figures.alignment import ALIGNMENT
from fadiag.figures.figure import Figure
from fadiag.figures.overlap import OVERLAP
from fadiag.figures.rank import RANK
from fadiag.figures.remedies import REMEDIES
from fadiag.figures.save import check_numbers, check_suffix, save, svg, write_numbers
from fadiag.figures.style import label

__all__ = [
    "FIGURES",
    "Figure",
    "check_numbers",
    "check_suffix",
    "find",
    "label",
    "save",
    "svg",
    "write_numbers",
]

FIGURES: tuple[Figure, ...] = (ACCURACY, RANK, ALIGNMENT, OVERLAP, REMEDIES)


def find(name: str) -> Figure:
    """Return the figure with a name.

    Raises
    ------
    InputError
        There is no such figure. The error lists the names.

    Examples
    --------
    >>> find("rank").title
    'Rank of error and modulator'
    """
    for figure in FIGURES:
        if figure.name == name:
            return figure
    raise InputError(f"no figure is called '{name}'; there are {', '.join(f.name for f in FIGURES)}")


def __dir__() -> list[str]:
    return sorted(__all__)
