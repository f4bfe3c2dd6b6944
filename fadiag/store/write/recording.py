"""The state of a store while it is written: streams, arrays, rows written and rows committed.

Everything here is synchronous and belongs to one thread at a time; `RunWriter` puts a thread around it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.store.layout import ArrayLayout, ArraySpec, plan_array
from fadiag.store.lock import StoreLock
from fadiag.store.names import COORDINATES, JSON, check_name, clean_json, layer_key
from fadiag.store.read.snapshot import RootAttributes, Snapshot
from fadiag.store.write.files import replace_file, write_record, write_run
from fadiag.store.write.small_records import SmallRecords
from fadiag.store.write.tree import Tree, TreeNode

__all__ = ["Record", "Recording", "WrittenStream"]

_STREAM_COORDINATES = "wall_time epoch rows_valid"


@dataclass(frozen=True)
class Record:
    """One record: a stream, its coordinates, and records by path."""

    stream: str
    coordinates: Mapping[str, float]
    values: Mapping[str, NDArray[Any]]


@dataclass(eq=False)
class WrittenStream:
    """One step axis and the arrays that hang on it."""

    name: str
    planned: int | None
    rows: int = 0
    arrays: list[TreeNode] = field(default_factory=list)
    slots: dict[str, ArraySpec] = field(default_factory=dict)


class Recording:
    """An open store: declare, write rows, commit, close.

    Files are named by the store's path, so before each is written the path must still lead to this store: one
    that was moved away would go on in whatever stands there now.
    """

    def __init__(self, path: Path, lock: StoreLock, attributes: RootAttributes) -> None:
        self.path = path
        self.attributes = attributes
        self.tree = Tree()
        self.streams: dict[str, WrittenStream] = {}
        self._lock = lock
        self._created: dict[str, int] = {}
        self._small = SmallRecords(partial(self._put, write_run))
        self._resumed: set[str] = set()

    # -- declaring ----------------------------------------------------------------------------------------

    def declare_stream(self, name: str, attrs: Mapping[str, JSON], planned: int | None) -> None:
        """Add a stream with its coordinates, or take up the one that a resumed store has."""
        check_name("stream", name)
        if planned is not None and planned < 1:
            raise InputError(f"stream {name!r}: planned is {planned}, give the number of records, at least 1")
        clean = clean_json(f"attributes of stream {name!r}", attrs)
        if name in self.streams:
            self._take_up(name, clean)
            self.streams[name].planned = planned
            return
        if name == "static" or name in self.tree.nodes:
            raise InputError(f"{name!r} cannot be a stream; give it another name")
        self._add(TreeNode(name, {**clean, "coordinates": _STREAM_COORDINATES}))
        self.streams[name] = WrittenStream(name, planned)
        self.attributes.committed[name] = 0
        for coordinate, dtype in COORDINATES.items():
            layout = plan_array(ArraySpec((), (), dtype), stepped=True)
            node = self._add(TreeNode(f"{name}/{coordinate}", {}, layout))
            self.streams[name].arrays.append(node)

    def declare(
        self,
        stream: str,
        layer: str,
        signal: str,
        spec: ArraySpec,
        layer_attrs: Mapping[str, JSON],
        *,
        appended: int = 0,
    ) -> str:
        """Add an array and return its path, or take up the one that a resumed store has.

        ``appended`` records of the stream, some of which may wait to be written, were taken without it.
        """
        if stream not in self.streams:
            raise InputError(f"stream {stream!r} is not declared; the streams are {sorted(self.streams)}")
        home = self.streams[stream]
        path = self._signal_path(stream, layer, signal, spec)
        attrs = clean_json(f"attributes of {path}", {**spec.attrs, "signal": signal})
        layout = plan_array(spec, stepped=True, planned=home.planned)
        known = self.tree.nodes.get(path)
        if known is not None:
            self._check_same(known, layout)
            self._take_up(path, attrs)
        else:
            self._check_dims(path, spec)
            self._declare_layer(stream, layer, layer_attrs)
            node = self._add(TreeNode(path, attrs, layout))
            home.arrays.append(node)
            if appended or home.rows:
                self.declare_at(node, home.rows)
                node.attrs["declared_at"] = max(appended, home.rows)
        home.slots[path] = spec
        return path

    def put_static(
        self, layer: str, signal: str, array: NDArray[Any], dims: Sequence[str], attrs: Mapping[str, JSON]
    ) -> None:
        """Write an array without steps; what a resumed store holds already is kept."""
        data = np.ascontiguousarray(array)
        if not dims:
            raise InputError(f"static {signal!r} of layer {layer!r} is one number; make it an attribute")
        spec = ArraySpec(tuple(dims), array.shape, array.dtype.name, attrs)
        if "static" not in self.tree.nodes:
            self._add(TreeNode("static", {"kind": "static"}))
        path = self._signal_path("static", layer, signal, spec)
        layout = plan_array(spec, stepped=False)
        clean = clean_json(f"attributes of {path}", {**attrs, "signal": signal})
        if path in self.tree.nodes:
            self._check_same(self.tree.nodes[path], layout)
            self._take_up(path, {})
            return
        self._check_dims(path, spec)
        self._declare_layer("static", layer, {})
        node = TreeNode(path, clean, layout)
        self._make(node)
        write_record(str(self.path / path), layout, 0, _bytes_of(data), create=True)
        self.tree.add(node)

    @staticmethod
    def path_of(stream: str, layer: str, signal: str) -> str:
        """Return the path of a signal in the store."""
        return "/".join((stream, layer_key(layer), signal) if layer else (stream, signal))

    def _signal_path(self, stream: str, layer: str, signal: str, spec: ArraySpec) -> str:
        check_name("signal", signal)
        if signal in COORDINATES or signal in spec.dims:
            raise InputError(
                f"signal name {signal!r} is that of a coordinate or a dimension; give it another"
            )
        return self.path_of(stream, layer, signal)

    def _declare_layer(self, stream: str, layer: str, attrs: Mapping[str, JSON]) -> None:
        if not layer:
            return
        path = f"{stream}/{layer_key(layer)}"
        name = "" if layer == "(root)" else layer
        clean = clean_json(f"attributes of layer {layer!r}", {"name": name, **attrs})
        known = self.tree.nodes.get(path)
        if known is None:
            self._add(TreeNode(path, clean))
        elif known.layout is not None:
            raise InputError(
                f"layer {layer!r} has the name of a scalar of stream {stream!r}; rename the scalar"
            )
        elif attrs:
            self.tree.merge_attrs(path, clean)

    def _check_same(self, known: TreeNode, layout: ArrayLayout) -> None:
        have = known.layout
        if have is None or (have.dims, have.record_shape, have.dtype) != (
            layout.dims,
            layout.record_shape,
            layout.dtype,
        ):
            told = "a layer" if have is None else f"{have.dtype} {have.record_shape} {have.dims}"
            raise InputError(
                f"{known.path} is stored as {told}, declared now as {layout.dtype} {layout.record_shape}"
                f" {layout.dims}; record into another store"
            )

    def _check_dims(self, path: str, spec: ArraySpec) -> None:
        lengths = dict(zip(spec.dims, spec.shape, strict=True))
        stream, *rest = path.split("/")
        for node in self.tree.nodes.values():
            if node.layout is None or not node.path.startswith(f"{stream}/"):
                continue
            parts = node.path.split("/")
            # xarray wants one length a dimension in a group and in the groups above it.
            if len(parts) == 2 or len(rest) == 1 or parts[1] == rest[0]:
                own = node.layout.dims[1:] if node.layout.stepped else node.layout.dims
                for dim, length in zip(own, node.layout.record_shape, strict=True):
                    if lengths.get(dim, length) != length:
                        raise InputError(
                            f"{path}: dimension {dim!r} has length {lengths[dim]}, in {node.path} it has"
                            f" {length}; give it another name"
                        )

    def _take_up(self, path: str, attrs: Mapping[str, JSON]) -> None:
        if path not in self._resumed:
            raise InputError(f"{path} is declared twice; declare it once")
        self._resumed.discard(path)
        self.tree.merge_attrs(path, attrs)

    def _add(self, node: TreeNode) -> TreeNode:
        self._make(node)
        return self.tree.add(node)

    def _make(self, node: TreeNode) -> None:
        if node.path in self.tree.nodes:
            raise InputError(f"{node.path} is declared twice; give the layer or the signal another name")
        self._lock.check_place(self.path)
        folder = self.path / node.path
        folder.mkdir(exist_ok=True)
        _write_document(folder, node.document())

    def declare_at(self, node: TreeNode, rows: int) -> None:
        """Say that an array's first `rows` records were taken without it, and fill up its open chunk."""
        assert node.layout is not None
        self.tree.merge_attrs(node.path, {"declared_at": rows})
        # Chunks wholly before stay missing, which reads as the fill value.
        for record in range(rows - rows % node.layout.chunk[0], rows):
            self._write(node.path, node.layout, record, None)

    # -- writing ------------------------------------------------------------------------------------------

    def write_record_of_stream(self, row: Record) -> None:
        """Write one record behind the last; it is seen from the next commit on."""
        stream = self.streams[row.stream]
        prefix = f"{row.stream}/"
        for node in stream.arrays:
            assert node.layout is not None
            data = row.values.get(node.path)
            if data is None and node.path.count("/") == 1:
                value = row.coordinates.get(node.path.removeprefix(prefix))
                if value is not None:
                    data = np.asarray(value, node.layout.dtype)
            self._write(node.path, node.layout, stream.rows, None if data is None else _bytes_of(data))
        stream.rows += 1

    def _write(self, path: str, layout: ArrayLayout, record: int, data: memoryview | None) -> None:
        if self._small.takes(layout):
            self._small.add(path, layout, record, data)
        else:
            self._put(write_record, path, layout, record, data or memoryview(b""))

    def _put(
        self, write: Callable[..., None], path: str, layout: ArrayLayout, record: int, data: memoryview
    ) -> None:
        """Write from a record on, into a chunk file that is made with its first record."""
        chunk, within = divmod(record, layout.chunk[0])
        create = within == 0 and self._created.get(path) != chunk
        self._lock.check_place(self.path)
        write(f"{self.path}/{path}", layout, record, data, create=create)
        self._created[path] = chunk

    # -- committing ---------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make every row that was written the store's state, by one rename."""
        self._lock.check_place(self.path)
        self._small.write()
        self.attributes.updated = time.time()
        for stream in self.streams.values():
            self.attributes.committed[stream.name] = stream.rows
        attributes = msgspec.to_builtins(self.attributes)
        replace_file(self.path / "zarr.json", self.tree.root_document(attributes, self.attributes.committed))

    def finish(self, status: str) -> None:
        """Commit for the last time, under a status, and bring every node's own file up to date."""
        self.attributes.status = status
        self.commit()
        self.write_nodes()

    def write_nodes(self) -> None:
        """Write the file of every node at the committed length."""
        for node in self.tree.nodes.values():
            records = self.attributes.committed.get(node.stream, 0)
            _write_document(self.path / node.path, node.document(records))

    def reset_nodes(self) -> None:
        """Write the file of every node at length 0: while recording only the root tells a length."""
        for node in self.tree.nodes.values():
            _write_document(self.path / node.path, node.document())

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def steps(self, stream: str) -> NDArray[np.int64]:
        """Read the steps written to a stream."""
        node = self.tree.nodes[f"{stream}/step"]
        assert node.layout is not None
        rows, size = self.streams[stream].rows, node.layout.chunk[0]
        pieces = [
            np.fromfile(self.path / node.path / node.layout.key(index), "<i8")
            for index in range(-(-rows // size))
        ]
        return np.concatenate([*pieces, np.empty(0, "<i8")])[:rows].astype(np.int64)

    def restore(self, snapshot: Snapshot) -> None:
        """Take up the tree and the lengths of a store that is there."""
        for path, attrs in snapshot.groups.items():
            self.tree.add(TreeNode(path, dict(attrs)))
        for path, array in snapshot.arrays.items():
            record = (0, *array.layout.record_shape) if array.layout.stepped else array.layout.shape
            layout = ArrayLayout(
                array.layout.dims,
                record,
                array.layout.chunk,
                array.layout.dtype,
                stepped=array.layout.stepped,
            )
            self.tree.add(TreeNode(path, dict(array.attrs), layout))
        for name, rows in snapshot.attributes.committed.items():
            arrays = [n for n in self.tree.nodes.values() if n.stream == name and n.layout is not None]
            coordinates = [n for n in arrays if n.path.removeprefix(f"{name}/") in COORDINATES]
            others = [n for n in arrays if n not in coordinates]
            self.streams[name] = WrittenStream(name, None, rows, [*coordinates, *others])
        self._resumed = set(self.tree.nodes)


def _write_document(folder: Path, document: JSON) -> None:
    replace_file(folder / "zarr.json", msgspec.json.encode(document))


def _bytes_of(array: NDArray[Any]) -> memoryview:
    dtype = array.dtype.newbyteorder("<")
    plain = np.ascontiguousarray(array, dtype)
    return plain.reshape(-1).view(np.uint8).data
