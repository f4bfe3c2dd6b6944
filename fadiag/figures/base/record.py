"""Record holds what a panel shows: its numbers, sentences, small print and legend entries."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

__all__ = ["COLUMNS", "Record", "attach", "axes_of", "is_silent", "missing_of", "records_of", "silent"]

_SILENT: ContextVar[bool] = ContextVar("fadiag_silent", default=False)

#: The columns of the table of numbers. ``x`` is the place along an x axis of neither layers nor steps.
COLUMNS = (
    *("panel", "kind", "variable", "condition", "layer", "step", "seed", "x"),
    *("value", "low", "high", "interval", "n", "seeds"),
)


@dataclass
class Record:
    """What one panel shows."""

    #: What is drawn, without the layer; and the layer or "".
    what: str = ""
    place: str = ""
    findings: list[str] = field(default_factory=list)
    #: Sentences at the end of the whole figure's caption.
    last: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    #: Legend entries: the full label and an artist to show.
    entries: dict[str, Artist] = field(default_factory=dict)
    artists: list[Artist] = field(default_factory=list)
    missing: str = ""

    def say(self, finding: str) -> None:
        """Add a finding to the caption."""
        if finding:
            self.findings.append(finding)

    def say_once(self, sentence: str) -> None:
        """Add a sentence to the end of the caption; a figure of several panels has it once."""
        if sentence and sentence not in self.last:
            self.last.append(sentence)

    def note(self, sentence: str) -> None:
        """Add a sentence to the small print."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)


@contextmanager
def silent(quiet: bool = True) -> Iterator[None]:
    """Draw panels inside the block without findings, for those that a caption does not speak of."""
    token = _SILENT.set(quiet)
    try:
        yield
    finally:
        _SILENT.reset(token)


def is_silent() -> bool:
    """Return whether panels are drawn without findings."""
    return _SILENT.get()


def attach(ax: Axes, record: Record) -> None:
    """Keep a record with its Axes."""
    vars(ax).setdefault("_fadiag_records", []).append(record)


def records_of(axes: Iterable[Axes]) -> list[Record]:
    """Return the records of Axes; a record whose drawing was cleared is left out."""
    return [
        record
        for ax in axes
        for record in vars(ax).get("_fadiag_records", [])
        if any(artist.axes is ax for artist in record.artists)
    ]


def missing_of(target: Any) -> str:
    """Return why no panel is drawn, each reason once; "" if one is drawn."""
    reasons = [record.missing for record in records_of(axes_of(target))]
    return "; ".join(dict.fromkeys(reasons)) if all(reasons) else ""


def axes_of(target: Any) -> list[Axes]:
    """Return the Axes of an Axes, a figure, or a collection of Axes such as that of a mosaic."""
    if isinstance(target, Axes):
        return [target]
    if hasattr(target, "get_axes") and not isinstance(target, Artist):
        return list(target.get_axes())
    if hasattr(target, "axes") and isinstance(target.axes, list):
        return list(target.axes)
    each = target.values() if isinstance(target, dict) else target
    return [ax for one in each for ax in ([one] if isinstance(one, Axes) else axes_of(one))]
