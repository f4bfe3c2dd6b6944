"""Prepare texts for a figure: names as they are, in fonts that have their letters, as long as fits."""

import re
from collections.abc import Iterable
from functools import lru_cache

import matplotlib as mpl
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from fadiag.figures.look.fonts import families_for
from fadiag.store.tools.printable import printable

__all__ = ["put_fonts", "shortened", "shown", "width_of", "wrapped"]


#: Letters on whole pixels take up to so much more room than their outlines.
_HINTED = 1.1


def shown(text: str) -> str:
    r"""Return a text as matplotlib has to get it: no control characters, no empty boxes, no mathematics.

    Examples
    --------
    >>> shown("a$_b$"), shown("fc1\u202e")
    ('a\\$_b\\$', 'fc1\\u202e')
    """
    lines = [families_for(printable(line))[1] for line in text.split("\n")]
    if mpl.rcParams["text.usetex"]:
        lines = ["".join(_TEX.get(c, c) for c in line) for line in lines]
    elif mpl.rcParams["text.parse_math"]:
        lines = [line.replace("$", r"\$") for line in lines]
    return "\n".join(lines)


_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def put_fonts(texts: Iterable[Text]) -> None:
    """Add fonts to texts of a figure whose letters their own fonts lack."""
    for text in texts:
        families, _ = families_for(text.get_text())
        if len(families) > len(mpl.rcParams["font.family"]):
            text.set_fontfamily(families)


def shortened(text: str, letters: int) -> str:
    """Return a text of at most so many letters, with an ellipsis in its middle.

    Examples
    --------
    >>> shortened("encoder.layers.0.attention", 13), shortened("fc1", 13)
    ('encode…ention', 'fc1')
    """
    if len(text) <= letters:
        return text
    head = max(1, letters // 2)
    tail = max(letters - head - 1, 0)
    return f"{text[:head]}…{text[len(text) - tail :]}"


def width_of(text: str, size: float) -> float:
    """Return the most that a line may be wide, in inches, at a font size in points."""
    return _width_in(text, size, tuple(mpl.rcParams["font.family"])) if text else 0.0


@lru_cache(maxsize=8192)
def _width_in(text: str, size: float, _chosen: tuple[str, ...]) -> float:
    families, known = families_for(printable(text))
    font = FontProperties(family=families, size=size)
    return _HINTED * float(text_to_path.get_text_width_height_descent(known, font, ismath=False)[0]) / 72


def wrapped(text: str, inches: float, size: float) -> str:
    """Return a text in lines that are at most so wide; too wide a word is broken or shortened.

    Examples
    --------
    >>> wrapped("one two", 0.4, 10).splitlines()
    ['one', 'two']
    >>> wrapped("layers.0.attention", 0.8, 10).splitlines()
    ['layers.0.', 'attention']
    """
    space = width_of("n n", size) - width_of("nn", size)
    lines: list[str] = []
    for paragraph in map(printable, text.split("\n")):
        lines.append("")
        used = 0.0
        for piece in _pieces(paragraph, inches, size):
            wide, behind = width_of(piece.rstrip(), size), space * (len(piece) - len(piece.rstrip()))
            if lines[-1] and used + wide > inches:
                lines[-1] = lines[-1].rstrip()
                lines.append(piece)
                used = wide + behind
            else:
                lines[-1] += piece
                used += wide + behind
        lines[-1] = lines[-1].rstrip()
    return "\n".join(lines)


def _pieces(text: str, inches: float, size: float) -> list[str]:
    """Return words with the space behind them; too wide a word is broken after dots and underscores.

    A per cent sign stays with its number.
    """
    pieces = []
    for word in re.findall(r"\S+(?:\s+%)?\s*|\s+", text):
        parts = [word] if width_of(word.rstrip(), size) <= inches else re.findall(r"[^._]+[._]*|[._]+", word)
        for part in parts:
            short = part
            while len(short) > 3 and width_of(short.rstrip(), size) > inches:
                short = shortened(short, len(short) - max(1, len(short) // 10))
            pieces.append(short)
    return pieces
