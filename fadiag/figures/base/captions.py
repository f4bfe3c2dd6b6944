"""Return the caption, the small print and the numbers of what was drawn."""

from typing import Any

import pandas as pd

from fadiag.figures.base.furnish import small_print_of
from fadiag.figures.base.record import COLUMNS, Record, axes_of, records_of
from fadiag.figures.words.glossary import defined
from fadiag.figures.words.shared import Shared, is_placed, share

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
        ``x`` is the place along an x axis of neither layers nor steps.

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
    table["seed"] = table["seed"].convert_dtypes()  # a number or a text
    return table


def caption(target: Any) -> str:
    """Return what is drawn and what it shows, computed from the numbers.

    Panels of the same variable share a sentence. It says what each condition in the panel shows, and what was
    left out. What all panels share is said once: a layer and a step first, seeds and definitions last.

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
    findings = [finding for _, record in found for finding in dict.fromkeys(record.findings)]
    shared = share(findings)
    tail, places = _tail(list(groups)), {_places(group) for group in groups.values()}
    drawn_at = places.pop() if len(places) == 1 and len(groups) > 1 else ""
    lead = f"{tail}{f' at {drawn_at}' if drawn_at and drawn_at != shared.layer else ''}"
    lead = "; ".join(filter(None, [lead.strip(), f"numbers of {shared.place}" if shared.place else ""]))
    said: set[str] = set()
    known = {drawn_at, shared.layer}
    sentences = [
        _sentences(what.removesuffix(f", {tail}"), group, said, shared, known)
        for what, group in groups.items()
    ]
    last = dict.fromkeys(sentence for _, record in found for sentence in record.last)
    nulls = {str(row["variable"]) for _, record in found for row in record.rows if row["kind"] == "null"}
    ends = [shared.brackets, defined([*groups, *findings, *nulls])]
    return " ".join(filter(None, [_sentence(f"{lead[:1].upper()}{lead[1:]}"), *sentences, *ends, *last]))


def _tail(whats: list[str]) -> str:
    """Return the words after a comma that all kinds of panels end with; "" if there is one kind."""
    parts = [what.split(", ") for what in whats]
    shared: list[str] = []
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        shared.insert(0, parts[0][-1])
        parts = [each[:-1] for each in parts]
    return ", ".join(shared)


def _places(group: list[tuple[str, Record]]) -> str:
    return _listed([record.place for _, record in group if record.place and not record.missing])


def _sentences(
    what: str, group: list[tuple[str, Record]], said: set[str], shared: Shared, known: set[str]
) -> str:
    """Return the caption of panels of one kind; `said` collects findings, which are not repeated."""
    letters = ", ".join(letter for letter, _ in group if letter)
    places = _places(group)
    reasons = [
        f"Not drawn{f' at {record.place}' if record.place else ''}: {record.missing}"
        for _, record in group
        if record.missing
    ]
    found = dict.fromkeys(finding for _, record in group for finding in record.findings)
    # Two panels may find the same number; it is said of each.
    new = [each for each in found if each not in said or is_placed(each)]
    said.update(new)
    body = [shared.written(each) for each in new]
    where = f" at {places}" if places and places not in known else ""
    head = f"{f'({letters}) ' if letters else ''}{what}{where}"
    if body and head and not body[0].startswith("At "):
        head, body = f"{head}: {body[0]}", body[1:]
    return " ".join(filter(None, map(_sentence, [head, *body, *dict.fromkeys(reasons)])))


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
