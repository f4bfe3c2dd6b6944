"""Declare the streams, layers and arrays of a store that is being written.

A resumed store has them already. The caller declares each one again, once, with the same layout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.store.layout import ArrayLayout, ArraySpec, plan_array
from fadiag.store.names import COORDINATES, check_name, layer_key, signal_path
from fadiag.store.values import JSON, clean_json
from fadiag.store.write.recording import Recording
from fadiag.store.write.stream import StreamState
from fadiag.store.write.tree import StoreNode

__all__ = ["declare_signal", "declare_static", "declare_stream"]

_STREAM_COORDINATES = "wall_time epoch rows_valid"


def declare_stream(recording: Recording, name: str, attrs: Mapping[str, JSON], planned: int | None) -> None:
    """Add a stream with its coordinates."""
    check_name("stream", name)
    if planned is not None and planned < 1:
        raise InputError(f"stream {name!r}: planned is {planned}, give the number of records, at least 1")
    clean = clean_json(f"attributes of stream {name!r}", attrs)
    if name in recording.streams:
        _inherit(recording, name, clean)
        recording.streams[name].planned = planned
        return
    if name == "static" or name in recording.tree.nodes:
        raise InputError(f"{name!r} cannot be a stream; give it another name")
    recording.add(StoreNode(name, {**clean, "coordinates": _STREAM_COORDINATES}))
    stream = recording.streams[name] = StreamState(name, planned=planned)
    for coordinate, dtype in COORDINATES.items():
        layout = plan_array(ArraySpec((), (), dtype), stepped=True)
        stream.arrays.append(recording.add(StoreNode(f"{name}/{coordinate}", {}, layout)))


def declare_signal(
    recording: Recording,
    stream: str,
    layer: str,
    signal: str,
    spec: ArraySpec,
    *,
    layer_attrs: Mapping[str, JSON],
) -> None:
    """Add an array with steps to a stream; earlier records hold its fill value."""
    home = recording.stream(stream)
    path, layout, attrs = _planned(stream, layer, signal, spec, planned=home.planned)
    known = recording.tree.nodes.get(path)
    if known is not None:
        _check_same(known, layout)
        _inherit(recording, path, attrs)
    else:
        recording.tree.check_dims(path, layout)
        _declare_layer(recording, stream, layer, layer_attrs)
        node = recording.add(StoreNode(path, attrs, layout))
        home.arrays.append(node)
        if home.appended:
            recording.backfill(node, home.records)
            # Queued records will be written with the fill value, so they count too.
            node.merge_attrs({"declared_at": home.appended})
    home.specs[path] = spec
    home.record_bytes += spec.nbytes


def declare_static(
    recording: Recording,
    layer: str,
    signal: str,
    array: NDArray[Any],
    *,
    dims: Sequence[str],
    attrs: Mapping[str, JSON],
) -> None:
    """Write an array without steps, unless a resumed store already has it."""
    if not dims:
        raise InputError(f"static {signal!r} of layer {layer!r} is one number; make it an attribute")
    spec = ArraySpec(tuple(dims), array.shape, array.dtype.name, attrs)
    path, layout, clean = _planned("static", layer, signal, spec, stepped=False)
    if "static" not in recording.tree.nodes:
        recording.add(StoreNode("static", {"kind": "static"}))
    known = recording.tree.nodes.get(path)
    if known is not None:
        _check_same(known, layout)
        _inherit(recording, path, {})
        return
    recording.tree.check_dims(path, layout)
    _declare_layer(recording, "static", layer, {})
    recording.add(StoreNode(path, clean, layout), np.ascontiguousarray(array))


def _planned(
    stream: str,
    layer: str,
    signal: str,
    spec: ArraySpec,
    *,
    stepped: bool = True,
    planned: int | None = None,
) -> tuple[str, ArrayLayout, dict[str, JSON]]:
    """Return the path, layout and attributes of an array to declare."""
    check_name("signal", signal)
    if signal in COORDINATES or signal in spec.dims:
        raise InputError(f"signal name {signal!r} is a coordinate or a dimension; give it another name")
    path = signal_path(stream, layer, signal)
    attrs = clean_json(f"attributes of {path}", {**spec.attrs, "signal": signal})
    return path, plan_array(spec, stepped=stepped, planned=planned), attrs


def _declare_layer(recording: Recording, stream: str, layer: str, attrs: Mapping[str, JSON]) -> None:
    if not layer:
        return
    path = f"{stream}/{layer_key(layer)}"
    known = recording.tree.nodes.get(path)
    if known is not None and known.layout is not None:
        raise InputError(f"layer {layer!r} has the name of a scalar of stream {stream!r}; rename the scalar")
    if known is not None and not attrs:
        return
    name = "" if layer == "(root)" else layer
    clean = clean_json(f"attributes of layer {layer!r}", {"name": name, **attrs})
    if known is None:
        recording.add(StoreNode(path, clean))
    else:
        known.merge_attrs(clean)


def _check_same(known: StoreNode, layout: ArrayLayout) -> None:
    stored = known.layout
    if stored is None or (stored.dims, stored.record_shape, stored.dtype) != (
        layout.dims,
        layout.record_shape,
        layout.dtype,
    ):
        if stored is None:
            raise InputError(f"{known.path} is a layer; give the signal another name")
        shown = f"{stored.dtype} {stored.record_shape} {stored.dims}"
        raise InputError(
            f"{known.path} is stored as {shown}, declared now as {layout.dtype} {layout.record_shape}"
            f" {layout.dims}; record into another store"
        )


def _inherit(recording: Recording, path: str, attrs: Mapping[str, JSON]) -> None:
    """Accept the repeated declaration of a node that a resumed store has, once."""
    if path not in recording.inherited:
        raise InputError(f"{path} is declared twice; declare it once")
    recording.inherited.discard(path)
    recording.tree.merge_attrs(path, attrs)
