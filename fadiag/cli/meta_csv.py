"""Read the meta entries of runs from a CSV file, for ``fadiag analyze --meta``."""

import csv
import re

from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["read_meta"]

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_meta(path: str) -> dict[str, dict[str, str | int | float]]:
    """Return the entries of each run, from a file with a first column ``path`` and one column per entry.

    Whole numbers and floats become numbers. An empty cell gives no entry.

    Raises
    ------
    InputError
        There is no column ``path``, a row has too many or too few cells, a path occurs twice, or the file is
        not text.
    """
    try:
        with absolute_path(path).open(encoding="utf-8-sig", newline="") as file:
            head, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise InputError(f"{path} cannot be read as CSV: {cause}") from None
    if head[:1] != ["path"]:
        raise InputError(
            f"the first column of {path} is {head[0] if head else 'missing'!r}; its first line must name "
            "path and the entries, as in: path,condition,seed"
        )
    found: dict[str, dict[str, str | int | float]] = {}
    for run, *cells in rows:
        if len(cells) != len(head) - 1:
            raise InputError(
                f"{path}: the row of {run} has {len(cells) + 1} cells, and there are {len(head)} columns: "
                f"{', '.join(head)}"
            )
        if run in found:
            raise InputError(f"{path} has two rows of {run}; give each run one")
        found[run] = {name: _number(cell) for name, cell in zip(head[1:], cells, strict=True) if cell}
    return found


def _number(text: str) -> str | int | float:
    """Return a text as a number if it is one, else the text.

    >>> _number("3"), _number("1e-3"), _number("fa+bn"), _number("nan")
    (3, 0.001, 'fa+bn', 'nan')
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
