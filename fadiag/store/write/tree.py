"""Tree builds the root document that commits the groups and arrays of a store.

The root ``zarr.json`` holds the metadata of the whole tree. In it, the length of every array is the number of
committed records of its stream. A node's metadata are encoded once and split at the place of the length, so a
commit only joins bytes.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping

from fadiag.errors import InputError
from fadiag.store.layout import ArrayLayout, array_document, group_document
from fadiag.store.values import JSON

__all__ = ["StoreNode", "Tree"]


class StoreNode:
    """Hold the metadata of an array, or of a group (``layout`` is None)."""

    def __init__(self, path: str, attrs: dict[str, JSON], layout: ArrayLayout | None = None) -> None:
        self.path, self.attrs, self.layout = path, attrs, layout
        self.stream = path.partition("/")[0]
        self._entry: tuple[bytes, ...] = ()

    def entry(self, records: bytes) -> bytes:
        """Return the node's entry in the root document; `records` is an array's length in decimal digits."""
        return records.join(self._entry or self._encode())

    def document(self, records: int) -> bytes:
        """Return the node's own zarr.json: its entry without the path."""
        return self.entry(b"%d" % records)[len(self.path) + 3 :]

    def merge_attrs(self, attrs: Mapping[str, JSON]) -> None:
        """Merge attributes into those of the node."""
        self.attrs.update(attrs)
        self._entry = ()

    def _encode(self) -> tuple[bytes, ...]:
        if self.layout is None:
            document = group_document(self.attrs)
        else:
            document = array_document(self.layout, self.attrs)
        entry = f"{json.dumps(self.path)}:{json.dumps(document, separators=(',', ':'))}".encode()
        if self.layout is not None and self.layout.stepped:
            # The shape is the document's first entry. It starts with a 0, which the length replaces.
            head, mark, tail = entry.partition(b'"shape":[0')
            self._entry = (head + mark[:-1], tail)
        else:
            self._entry = (entry,)
        return self._entry


class Tree:
    """Hold all nodes below the root, by path."""

    def __init__(self) -> None:
        self.nodes: dict[str, StoreNode] = {}
        self._ordered: list[StoreNode] | None = None
        # Maps (group, dimension) to its lengths, each with the path of one array that has this length. The
        # group ``<stream>/*`` collects the lengths from all layers of a stream.
        self._lengths: defaultdict[tuple[str, str], dict[int, str]] = defaultdict(dict)

    def add(self, node: StoreNode) -> StoreNode:
        """Add a node at an unused path."""
        assert node.path not in self.nodes
        self.nodes[node.path] = node
        self._ordered = None
        if node.layout is not None:
            group = node.path.rpartition("/")[0]
            above = group.rpartition("/")[0]
            for dim, length in _lengths(node.layout):
                for place in (group, f"{above}/*") if above else (group,):
                    self._lengths[place, dim].setdefault(length, node.path)
        return node

    def check_dims(self, path: str, layout: ArrayLayout) -> None:
        """Raise `InputError` if a new array has a dimension whose length differs from that of another array.

        xarray requires one length per dimension within a group and its parent groups.
        """
        group = path.rpartition("/")[0]
        above = group.rpartition("/")[0]
        for dim, length in _lengths(layout):
            for place in (group, above or f"{group}/*"):
                for known, other in self._lengths.get((place, dim), {}).items():
                    if known != length:
                        raise InputError(
                            f"{path}: dimension {dim!r} has length {length}, in {other} it has {known};"
                            " give it another name"
                        )

    def merge_attrs(self, path: str, attrs: Mapping[str, JSON]) -> None:
        """Merge attributes into those of the node at a path."""
        if path not in self.nodes:
            raise InputError(f"{path!r} is not in the store; declare it before setting its attributes")
        self.nodes[path].merge_attrs(attrs)

    def root_document(self, attributes: Mapping[str, JSON], committed: Mapping[str, int]) -> bytes:
        """Return the root's zarr.json, with its attributes and the metadata of every node."""
        if self._ordered is None:
            # zarr requires parents first and siblings together, so paths are compared part by part.
            self._ordered = sorted(self.nodes.values(), key=lambda node: node.path.split("/"))
        records = {stream: b"%d" % n for stream, n in committed.items()}
        entries = [node.entry(records.get(node.stream, b"0")) for node in self._ordered]
        return b"".join(
            (
                b'{"zarr_format":3,"node_type":"group","attributes":',
                json.dumps(dict(attributes), separators=(",", ":")).encode(),
                b',"consolidated_metadata":{"kind":"inline","must_understand":false,"metadata":{\n',
                b",\n".join(entries),
                b"\n}}}\n",
            )
        )


def _lengths(layout: ArrayLayout) -> Iterator[tuple[str, int]]:
    return zip(layout.dims[1:] if layout.stepped else layout.dims, layout.record_shape, strict=True)
