"""Lay out the layers of a run as a table of text, with alike layers in a row on one line."""

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fadiag.store.tools.fold_layers import fold_layers, names_as_one
from fadiag.store.tools.printable import printable

__all__ = ["WIDTH", "forward_order", "layer_table"]

_HEAD = ("layer", "type", "weight", "feedback", "B", "norm", "gate")
#: What a layer lacks, by the attribute that holds the reason.
_LEFT_OUT = {"no_modulator": "modulator", "no_error_null": "error_null"}
#: The width of the lines that list signals.
WIDTH = 100

#: The layers of one stream: the attributes of each, and its signals.
_Layers = Sequence[tuple[Mapping[str, Any], Collection[str]]]


@dataclass(frozen=True)
class _Row:
    name: str
    type: str
    weight: str
    feedback: str
    source: str
    norm: str
    gate: str
    signals: tuple[str, ...]
    checks: tuple[Mapping[str, str], ...]  # the verdicts by stream, of each layer on the line

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of its line."""
        own = (self.name, self.type, self.weight, self.feedback, self.source, self.norm, self.gate)
        return (*own, *self.signals, _verdicts(self.checks))

    @property
    def alike(self) -> tuple[str, ...]:
        """What layers on one line have in common: all but names, sizes of weights and verdicts."""
        own = (self.type, self.feedback, self.norm, self.gate, *self.signals)
        return (*own, _relative(self.source, self.name), str(self.weight.count("×")))


def layer_table(streams: Mapping[str, _Layers], width: int = WIDTH) -> str:
    """Return the table of a run's layers, and below it the signals of each stream.

    The table has how many signals a stream has of each layer, in a column of the stream's name. Last come
    the reasons why layers have no modulator or redrawn error.

    Parameters
    ----------
    streams : mapping
        Pairs of attributes and signals, one a layer, by the stream's name. A layer that no stream has may be
        given under the name ``""``, without signals.
    width : int
        The width of the lines that list signals.

    Examples
    --------
    >>> attrs = {"name": "fc1", "order": 0, "type": "FeedbackLinear", "weight_shape": [3, 4]}
    >>> attrs |= {"feedback_kind": "layerwise", "feedback_from": "fc1.feedback", "gate": "relu"}
    >>> print(layer_table({"probe": [(attrs, ["error", "activation"])]}))
    layer  type            weight  feedback   B             norm  gate  probe  check
    fc1    FeedbackLinear  3×4     layerwise  fc1.feedback        relu  2
    probe: activation, error
    """
    shown = [name for name, layers in streams.items() if any(signals for _, signals in layers)]
    lines = [(*_HEAD, *shown, "check"), *_folded(_rows(streams, shown))]
    cells = [tuple(map(printable, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = ["  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True)).rstrip() for line in cells]
    for stream in shown:
        names = sorted({name for _, signals in streams[stream] for name in signals})
        legend = printable(f"{stream}: {', '.join(names)}")
        text += textwrap.wrap(legend, width, subsequent_indent="  ", break_on_hyphens=False)
    for note in _notes(streams):
        text += textwrap.wrap(printable(note), width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(text)


def _rows(streams: Mapping[str, _Layers], shown: Sequence[str]) -> list[_Row]:
    attrs: dict[str, dict[str, Any]] = {}
    counts: dict[tuple[str, str], str] = {}
    checks: dict[str, dict[str, str]] = {}
    for stream, layers in streams.items():
        for own, recorded in layers:
            name = str(own.get("name", "")) or "(root)"
            attrs[name] = {**own, **attrs.get(name, {})}
            if recorded:
                counts[name, stream] = str(len(recorded))
            if check := own.get("error_bp_check"):
                checks.setdefault(name, {})[stream] = str(check)
    return [
        _Row(
            name,
            _text(own, "type"),
            _shape(own.get("weight_shape")),
            _text(own, "feedback_kind"),
            _text(own, "feedback_from"),
            _text(own, "norm"),
            _text(own, "gate"),
            tuple(counts.get((name, stream), "") for stream in shown),
            (checks.get(name, {}),),
        )
        for name, own in sorted(attrs.items(), key=lambda item: forward_order(item[1]))
    ]


def _notes(streams: Mapping[str, _Layers]) -> list[str]:
    """Return a line for each reason why layers have no modulator or no draws of a null."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for layers in streams.values():
        for own, _ in layers:
            for key, what in _LEFT_OUT.items():
                if key in own:
                    name = str(own.get("name", "")) or "(root)"
                    found.setdefault((what, str(own[key])), {})[name] = None
    return [f"no {what} of {', '.join(names)}: {why}" for (what, why), names in found.items()]


def forward_order(attrs: Mapping[str, Any]) -> float:
    """Return the place of a layer in the forward order, by its attributes; infinity if they lack it."""
    order = attrs.get("order")
    return order if isinstance(order, (int, float)) else float("inf")


def _text(attrs: Mapping[str, Any], key: str) -> str:
    return str(attrs.get(key, ""))


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape)) if isinstance(shape, (list, tuple)) else ""


def _verdicts(checks: Sequence[Mapping[str, str]]) -> str:
    """Return the verdicts on the layers of a line: with counts if they differ, by stream if those differ."""
    found: dict[str, Counter[str]] = {}
    for own in checks:
        for stream, verdict in own.items():
            found.setdefault(stream, Counter())[verdict] += 1
    texts = {
        stream: ", ".join(
            verdict if count == len(checks) else f"{verdict} {count}"
            for verdict, count in counter.most_common()
        )
        for stream, counter in found.items()
    }
    if len(set(texts.values())) < 2:
        return next(iter(texts.values()), "")
    between = "; " if any(len(counter) > 1 for counter in found.values()) else ", "
    return between.join(f"{stream} {text}" for stream, text in texts.items())


def _folded(rows: Sequence[_Row]) -> Iterable[tuple[str, ...]]:
    """Yield the cells of each line."""
    for line in fold_layers([row.name for row in rows], [row.alike for row in rows]):
        alike = rows[line]
        yield (alike[0] if len(alike) == 1 else _one_line(alike)).cells


def _one_line(rows: Sequence[_Row]) -> _Row:
    first, last = rows[0], rows[-1]
    weight = first.weight
    if any(row.weight != weight for row in rows):
        weight = f"{first.weight} ... {last.weight}"
    return replace(
        first,
        name=names_as_one([row.name for row in rows]),
        weight=weight,
        source=_relative(first.source, first.name),
        checks=tuple(check for row in rows for check in row.checks),
    )


def _relative(source: str, name: str) -> str:
    """Return where B was found, without the layer's name; ``*`` is in its place."""
    return f"*{source.removeprefix(name)}" if source.startswith(f"{name}.") else source
