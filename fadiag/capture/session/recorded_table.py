"""Lay out what a recorder records as a table of its layers."""

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from fadiag.capture.layers.attributes import layer_attrs
from fadiag.capture.layers.recorded_layer import in_order
from fadiag.capture.session.attached import AttachedModel
from fadiag.capture.session.readers import Readers
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.store import layer_table

__all__ = ["as_html", "recorded_table"]

_Layers = list[tuple[Mapping[str, Any], Collection[str]]]


def recorded_table(
    attached: AttachedModel, readers: Readers, streams: Mapping[str, StreamWriter], *, asked: bool
) -> str:
    """Return the table of the layers, with the signals that each stream has recorded of them.

    Parameters
    ----------
    attached : AttachedModel
    readers : Readers
    streams : mapping of str to StreamWriter
        Those of the store; none in a dry run, and where another process records.
    asked : bool
        Show the signals that were asked for, of streams without a record.
    """
    whole = in_order(attached.module, (*attached.layers, *attached.others))
    order = {layer.name: i for i, layer in enumerate(whole)}
    attrs = {x.name: layer_attrs(x, order[x.name], len(order), whole[-1]) for x in attached.layers}
    found: dict[str, _Layers] = {name: _recorded(stream) for name, stream in streams.items()}
    if asked or not streams:
        for name, others in _asked(readers, attrs).items():
            found[name] = found.get(name) or others
    return layer_table({**found, "": [(own, ()) for own in attrs.values()]})


def _recorded(stream: StreamWriter) -> _Layers:
    return [(stream.attrs_of(layer), signals) for layer, signals in stream.recorded.items()]


def _asked(readers: Readers, attrs: Mapping[str, Mapping[str, Any]]) -> dict[str, _Layers]:
    """Return the signals of each stream that a record may have, or had in a dry run."""
    found: dict[str, _Layers] = {}
    for name, probe in readers.probes.by_name.items():
        read = readers.probes.found.get(name)
        found[name] = [*read] if read else [(own, probe.signals) for own in attrs.values()]
    if readers.state is not None:
        found["state"] = [(attrs[layer], names) for layer, names in readers.state.expected().items()]
    if readers.live is not None:
        found["live"] = [(own, readers.live.asked.signals) for own in attrs.values()]
    return found


def as_html(table: str) -> str:
    """Return a table of text for a notebook, which would break the long lines of plain text.

    >>> as_html("layer  type")
    '<pre style="white-space: pre; overflow-x: auto">layer  type</pre>'
    """
    return f'<pre style="white-space: pre; overflow-x: auto">{escape(table)}</pre>'
