"""Find fonts on this machine for characters that the chosen fonts lack."""

import re
import unicodedata
from functools import lru_cache

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, fontManager, get_font

from fadiag.figures.look.settings import settings

__all__ = ["families_for", "font_with", "installed"]

#: Ships with matplotlib.
_LAST = "DejaVu Sans"
#: Fonts of boxes, and of mathematical symbols under the numbers of letters.
_SYMBOLS = ("Last Resort", "STIX", "cm")


def installed(families: list[str]) -> list[str]:
    """Return those of the font families that this machine has.

    Examples
    --------
    >>> installed(["No Such Font", "DejaVu Sans"])
    ['DejaVu Sans']
    """
    here = {entry.name for entry in fontManager.ttflist}
    return [family for family in families if family in here]


@lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[int]:
    return frozenset(get_font(path).get_charmap())


@lru_cache(maxsize=256)
def _path(family: str, generic: tuple[str, ...]) -> str | None:
    """Return the file of a family; `generic` are the families that a generic name such as serif means."""
    try:
        return str(fontManager.findfont(FontProperties(family=list(generic)), fallback_to_default=False))
    except ValueError:
        return None


def _chosen() -> list[str]:
    """Return the files of the families that matplotlib's settings choose."""
    families = mpl.rcParams["font.family"]
    each = [(f, tuple(installed(settings().get(f"font.{f}", [f])))) for f in families]
    return [path for family, generic in each if generic and (path := _path(family, generic))]


@lru_cache(maxsize=4096)
def font_with(character: str) -> str | None:
    r"""Return the family of an installed font that has a character; None if no font has it.

    Examples
    --------
    >>> font_with("a") is not None, font_with("\U0010fffd")
    (True, None)
    """
    entries = sorted(
        (e for e in fontManager.ttflist if not e.name.startswith(_SYMBOLS)),
        key=lambda e: (
            e.name != _LAST,
            e.style != "normal",
            abs(int(e.weight) - 400) if isinstance(e.weight, int) else 0,
            e.name,
            e.fname,
        ),
    )
    for entry in entries:
        try:
            if ord(character) in _characters(entry.fname):
                return str(entry.name)
        except (OSError, RuntimeError):  # a font that cannot be read
            continue
    return None


def _spelled(character: str) -> str:
    r"""Return a character in letters that every font has: its sound, its name, or else its code point.

    >>> [_spelled(c) for c in "テ한ｆ🚀中"]
    ['te', 'han', 'f', '[rocket]', '\\u4e2d']
    """
    plain = unicodedata.normalize("NFKC", character)
    name = unicodedata.name(character, "").lower()
    if plain.isascii():
        return plain
    if found := re.fullmatch(r".*\b(?:letter|syllable)(?: small| capital)? ([a-z]+)", name):
        return found[1]
    if name and unicodedata.category(character).startswith("S"):
        return f"[{name}]"
    return character.encode("unicode_escape").decode()


def families_for(text: str) -> tuple[list[str], str]:
    r"""Return the font families that draw a text, and the text with what no font has spelled in letters.

    Examples
    --------
    >>> families_for("fc1\U0010fffd")[1]
    'fc1\\U0010fffd'
    """
    families, shown = list(mpl.rcParams["font.family"]), text
    for character in sorted(set(text)):
        if character.isascii() or any(ord(character) in _characters(path) for path in _chosen()):
            continue
        family = font_with(character)
        if family is None:
            shown = shown.replace(character, _spelled(character))
        elif family not in families:
            families.append(family)
    return families, shown
