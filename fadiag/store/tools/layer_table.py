"""Lay out the layers of a run as a table of text, with alike layers in a row on one line."""

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fadiag.store.tools.printable import printable

__all__ = ["layer_table"]

_HEAD = ("layer", "type", "weight", "feedback", "B", "norm", "gate")
#: The fewest alike layers, and the fewest alike blocks of layers, that are folded. A small net stays whole.
_FEWEST_LAYERS, _FEWEST_BLOCKS = 4, 3
_LARGEST_BLOCK = 32
_WIDTH = 100

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
    check: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of its line."""
        own = (self.name, self.type, self.weight, self.feedback, self.source, self.norm, self.gate)
        return (*own, *self.signals, self.check)

    @property
    def alike(self) -> tuple[str, ...]:
        """What layers on one line have in common: all but their names and the sizes of their weights."""
        own = (self.type, self.feedback, self.norm, self.gate, *self.signals, self.check)
        return (*own, _relative(self.source, self.name), str(self.weight.count("×")))

    @property
    def alike_in_block(self) -> tuple[str, ...]:
        """What layers in the same place of alike blocks have in common."""
        return (*self.alike, re.sub(r"\d+", "#", self.name))


def layer_table(streams: Mapping[str, _Layers]) -> str:
    """Return the table of a run's layers, and below it the signals of each stream.

    The table has how many signals a stream has of each layer, in a column of the stream's name.

    Parameters
    ----------
    streams : mapping
        Pairs of attributes and signals, one a layer, by the stream's name. A layer that no stream has may be
        given under the name ``""``, without signals.

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
        text += textwrap.wrap(legend, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
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
            _verdict(checks.get(name, {})),
        )
        for name, own in sorted(attrs.items(), key=lambda item: _order(item[1]))
    ]


def _order(attrs: Mapping[str, Any]) -> float:
    order = attrs.get("order")
    return order if isinstance(order, (int, float)) else float("inf")


def _text(attrs: Mapping[str, Any], key: str) -> str:
    return str(attrs.get(key, ""))


def _shape(shape: Any) -> str:
    return "×".join(map(str, shape)) if isinstance(shape, (list, tuple)) else ""


def _verdict(checks: Mapping[str, str]) -> str:
    """Return the verdict of the streams, which are named if they differ."""
    if len(set(checks.values())) < 2:
        return next(iter(checks.values()), "")
    return ", ".join(f"{stream} {verdict}" for stream, verdict in checks.items())


def _folded(rows: Sequence[_Row]) -> Iterable[tuple[str, ...]]:
    """Yield the cells of each line: of a layer, or of all layers in the same place of alike blocks."""
    start = 0
    while start < len(rows):
        size, times = _repeats(rows[start:])
        for place in range(start, start + size):
            alike = rows[place : start + size * times : size]
            yield (alike[0] if times == 1 else _one_line(alike)).cells
        start += size * times


def _repeats(rows: Sequence[_Row]) -> tuple[int, int]:
    """Return the size of the block that the rows begin with, and how often it comes; (1, 1) if only once."""
    best = 1, 1
    for size in range(1, min(_LARGEST_BLOCK, len(rows) // 2) + 1):
        keys = [row.alike if size == 1 else row.alike_in_block for row in rows]
        times = 1
        while keys[size * times : size * (times + 1)] == keys[:size]:
            times += 1
        enough = times >= (_FEWEST_LAYERS if size == 1 else _FEWEST_BLOCKS)
        if enough and size * times > best[0] * best[1]:
            best = size, times
    return best


def _one_line(rows: Sequence[_Row]) -> _Row:
    first, last = rows[0], rows[-1]
    weight = first.weight
    if any(row.weight != weight for row in rows):
        weight = f"{first.weight} ... {last.weight}"
    name = f"{_from_to(first.name, last.name)}  ({len(rows)})"
    return replace(first, name=name, weight=weight, source=_relative(first.source, first.name))


def _from_to(first: str, last: str) -> str:
    """Return two names as one, with the parts that they share only once.

    Examples
    --------
    >>> _from_to("conv1", "conv17"), _from_to("h.0.mlp.c_fc", "h.11.mlp.c_fc")
    ('conv1 ... conv17', 'h.{0 ... 11}.mlp.c_fc')
    """
    one, other = first.split("."), last.split(".")
    shortest = min(len(one), len(other)) - 1
    head = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    tail = next((i for i in range(shortest - head) if one[-1 - i] != other[-1 - i]), shortest - head)
    if not head and not tail:
        return f"{first} ... {last}"
    middle = (".".join(parts[head : len(parts) - tail]) for parts in (one, other))
    return ".".join([*one[:head], f"{{{' ... '.join(middle)}}}", *one[len(one) - tail :]])


def _relative(source: str, name: str) -> str:
    """Return where B was found, without the layer's name; ``*`` is in its place."""
    return f"*{source.removeprefix(name)}" if source.startswith(f"{name}.") else source
