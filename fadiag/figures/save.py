"""Save a figure with its numbers and its caption, in exactly the same bytes each time."""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from fadiag.errors import InputError
from fadiag.figures.base.captions import caption, numbers, small_print
from fadiag.figures.base.near_names import near
from fadiag.figures.look.style import styled
from fadiag.figures.words.latex import latex
from fadiag.paths import absolute_path
from fadiag.store.tools.printable import printable

__all__ = ["FORMATS", "check_path", "save", "svg"]

#: The formats of a saved figure.
FORMATS = ("pdf", "svg", "png")
#: A suffix begins with a letter; what follows another dot, as in ``rate0.1``, is part of the name.
_SUFFIX = re.compile(r"[a-z][a-z0-9]*")

# Leave out dates, so that the same results give the same file.
_METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}


def check_path(
    path: str | os.PathLike[str], formats: Sequence[str] | None = None
) -> tuple[Path, tuple[str, ...]]:
    """Return the path without its suffix, and the formats; raise InputError if no figure can be saved there.

    Examples
    --------
    >>> check_path("fig1.pdf")[1], check_path("fig1")[1], check_path("fig1", ["svg"])[1]
    (('pdf',), ('pdf', 'svg', 'png'), ('svg',))
    """
    path = absolute_path(path)
    suffix = path.suffix.removeprefix(".").lower()
    if suffix in FORMATS:
        path, formats = path.with_suffix(""), formats or (suffix,)
    elif _SUFFIX.fullmatch(suffix) and formats is None:
        formats = (suffix,)
    wanted = tuple(FORMATS if formats is None else formats)
    for name in wanted:
        if name not in FORMATS:
            raise InputError(f"a figure cannot be saved as {name!r}{near(name, FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"a figure cannot be saved as {path}: there is no directory {path.parent}")
    if path.is_dir():
        raise InputError(f"a figure cannot be saved as {path}: it is a folder; name a file in it")
    return path, wanted


def save(figure: Any, path: str | os.PathLike[str], *, formats: Sequence[str] | None = None) -> list[Path]:
    """Save a figure, the numbers that are drawn as ``.csv``, and the caption as ``.tex``.

    The same results give the same bytes on one machine, also if a figure is saved several times. For this,
    its layout is computed once and then kept. A PDF embeds TrueType fonts; a text in an SVG is a text.

    Parameters
    ----------
    figure : Figure or Axes
        What to save.
    path : path
        The file, without a suffix or with that of a format.
    formats : sequence of str, optional
        ``pdf``, ``svg`` and ``png``; by default all three, or the one of the path's suffix.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        There is no such format, or the directory does not exist.

    Examples
    --------
    >>> import tempfile
    >>> [path.name for path in save(Figure(figsize=(1, 1)), tempfile.mkdtemp() + "/fig1", formats=["svg"])]
    ['fig1.svg', 'fig1.csv', 'fig1.tex']
    """
    stem, wanted = check_path(path, formats)
    root = _root(figure)
    written = []
    with styled():
        _keep_layout(root)
        for name in wanted:
            written.append(stem.with_name(f"{stem.name}.{name}"))
            root.savefig(written[-1], format=name, metadata=_METADATA[name])
    table, text = (stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "tex"))
    held = numbers(root).map(lambda value: printable(value) if isinstance(value, str) else value)
    table.write_text(held.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    text.write_text(latex(stem.name, caption(root), small_print(root)), encoding="utf-8")
    return [*written, table, text]


def svg(figure: Any) -> str:
    """Return a figure as an SVG document.

    Examples
    --------
    >>> "<svg" in svg(Figure(figsize=(1, 1)))
    True
    """
    buffer, root = io.StringIO(), _root(figure)
    with styled():
        _keep_layout(root)
        root.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    return buffer.getvalue()


def _root(figure: Any) -> Figure:
    root = getattr(figure, "figure", None)
    root = getattr(root, "figure", root)
    if not isinstance(root, Figure):
        raise InputError(f"{type(figure).__name__} is no figure of matplotlib; give a Figure or an Axes")
    return root


def _keep_layout(figure: Figure) -> None:
    """Compute the layout once and keep it, since the constrained layout moves a little at each drawing."""
    if not isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine | None):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
