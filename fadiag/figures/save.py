"""Save figures, and write their numbers as CSV."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.errors import InputError
from fadiag.figures.style import style
from fadiag.paths import absolute_path

__all__ = ["SUFFIXES", "check_numbers", "check_suffix", "save", "svg", "write_numbers"]

#: The formats of a saved figure.
SUFFIXES = (".pdf", ".png", ".svg")

# Leave out dates, so that the same results give the same file.
_METADATA: dict[str, dict[str, str | None]] = {
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
    ".svg": {"Date": None},
}


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """Return the path; raise InputError, before anything is drawn, if no figure can be saved there.

    Examples
    --------
    >>> check_suffix("rank.gif")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: a figure cannot be saved as ...rank.gif: its name must end in .pdf, .png, .svg
    """
    path = absolute_path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a figure cannot be saved as {path}: its name must end in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"a figure cannot be saved as {path}: there is no directory {path.parent}")
    return path


def check_numbers(path: str | os.PathLike[str]) -> Path:
    """Return the path; raise InputError, before anything is drawn, if no table can be written there.

    Examples
    --------
    >>> check_numbers("rank.csv").name
    'rank.csv'
    """
    path = absolute_path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"the numbers cannot be written to {path}: name a file in a directory that exists")
    return path


def save(canvas: Canvas, path: str | os.PathLike[str]) -> Path:
    """Save a figure in the format of the path's suffix; a PDF embeds TrueType fonts.

    Raises
    ------
    InputError
        The suffix is not ``.pdf``, ``.png`` or ``.svg``, or the directory does not exist.

    Examples
    --------
    >>> import tempfile
    >>> save(Canvas(figsize=(1, 1)), tempfile.mkdtemp() + "/empty.png").name
    'empty.png'
    """
    path = check_suffix(path)
    with style():
        canvas.savefig(path, metadata=_METADATA[path.suffix.lower()])
    return path


def svg(canvas: Canvas) -> str:
    """Return a figure as an SVG document.

    Examples
    --------
    >>> "<svg" in svg(Canvas(figsize=(1, 1)))
    True
    """
    buffer = io.StringIO()
    with style():
        canvas.savefig(buffer, format="svg", metadata=_METADATA[".svg"])
    return buffer.getvalue()


def write_numbers(numbers: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write the numbers of a figure as CSV in long form: variable, condition, seed, layer, step, value.

    Values are written with all digits, so that they read back bit-equal. Absent values are left out.

    Raises
    ------
    InputError
        The path is a directory, or its directory does not exist.

    Examples
    --------
    >>> import tempfile
    >>> coords = {"condition": ["fa"], "seed": [0], "step": [9]}
    >>> loss = xr.Dataset({"loss": (tuple(coords), np.full((1, 1, 1), 0.5))}, coords)
    >>> print(write_numbers(loss, tempfile.mkdtemp() + "/loss.csv").read_text().strip())
    variable,condition,seed,layer,step,value
    loss,fa,0,,9,0.5
    """
    path = check_numbers(path)
    dims = ("condition", "seed", "layer", "step")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variable", *dims, "value"])
        for name, array in numbers.data_vars.items():
            values = array.values
            for place in zip(*np.nonzero(~np.isnan(values)), strict=True):
                at = {dim: array[dim].values[i] for dim, i in zip(array.dims, place, strict=True)}
                writer.writerow([name, *(at.get(dim, "") for dim in dims), repr(float(values[place]))])
    return path
