"""Return the caption, the small print and the numbers of what was drawn."""

from typing import Any

import pandas as pd

from fadiag.figures.base.furnish import small_print_of
from fadiag.figures.base.record import COLUMNS, Record, axes_of, records_of

__all__ = ["caption", "numbers", "small_print"]


def numbers(target: Any) -> pd.DataFrame:
    """Return the numbers that are drawn in Axes or in a figure, as a table with a row for each mark.

    Parameters
    ----------
    target : Axes, Figure, dict or list of Axes
        What a figure function returned, or a figure of several.

    Returns
    -------
    DataFrame
        ``kind`` is ``mean``, ``difference``, ``seed``, ``null`` or ``bound``. A mean has ``value``, the ends
        ``low`` and ``high`` of its ``interval``, ``n`` and ``seeds``. ``panel`` is the letter of the panel.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> len(numbers(Figure()))
    0
    """
    rows = [
        {"panel": _letter(ax), **row}
        for ax in axes_of(target)
        for record in records_of([ax])
        for row in record.rows
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("step", "n"):
        table[name] = table[name].astype("Int64")
    return table


def caption(target: Any) -> str:
    """Return what is drawn and what it shows, computed from the numbers.

    Panels of the same variable share a sentence. It says what each condition in the panel shows, and what was
    left out.

    Parameters
    ----------
    target : Axes, Figure, dict or list of Axes
        What a figure function returned, or a figure of several.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> caption(Figure())
    ''
    """
    found = [(_letter(ax), record) for ax in axes_of(target) for record in records_of([ax])]
    groups: dict[str, list[tuple[str, Record]]] = {}
    for letter, record in found:
        groups.setdefault(record.what, []).append((letter, record))
    said: set[str] = set()
    sentences = [_sentences(what, group, said) for what, group in groups.items()]
    last = dict.fromkeys(sentence for _, record in found for sentence in record.last)
    return " ".join([*filter(None, sentences), *last])


def _sentences(what: str, group: list[tuple[str, Record]], said: set[str]) -> str:
    """Return the caption of panels of one kind; `said` collects findings, which are not repeated."""
    letters = ", ".join(letter for letter, _ in group if letter)
    places = _listed([record.place for _, record in group if record.place and not record.missing])
    reasons = [
        f"Not drawn{f' at {record.place}' if record.place else ''}: {record.missing}"
        for _, record in group
        if record.missing
    ]
    findings = [finding for _, record in group for finding in record.findings]
    head = f"{f'({letters}) ' if letters else ''}{what}{f' at {places}' if places else ''}"
    body = [_sentence(each) for each in dict.fromkeys([*findings, *reasons]) if each not in said]
    said.update(findings)
    return " ".join(filter(None, [_sentence(head), *body]))


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."


def _listed(words: list[str]) -> str:
    unique = list(dict.fromkeys(words))
    return ", ".join(unique[:-1]) + " and " + unique[-1] if len(unique) > 1 else "".join(unique)


def small_print(target: Any) -> str:
    """Return how the numbers were measured: N, data, definition, seeds, intervals, nulls and bounds.

    Parameters
    ----------
    target : Axes, Figure, dict or list of Axes
        What a figure function returned, or a figure of several.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> small_print(Figure())
    ''
    """
    return small_print_of(target)


def _letter(ax: Any) -> str:
    return str(vars(ax).get("_fadiag_letter", ""))
