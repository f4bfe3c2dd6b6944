"""The tree of groups and arrays that a writer has declared, and the root document that commits it.

The root ``zarr.json`` holds the metadata of the whole tree, with the number of committed records as the
length of every array of a stream. Each node's text is kept, cut where that number stands, so that a commit
joins strings and encodes nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from fadiag.errors import InputError
from fadiag.store.layout import ArrayLayout, array_document, group_document
from fadiag.store.names import JSON

__all__ = ["Tree", "TreeNode"]


@dataclass(eq=False)
class TreeNode:
    """A group (no layout) or an array of the tree."""

    path: str
    attrs: dict[str, JSON]
    layout: ArrayLayout | None = None
    text: tuple[bytes, ...] | None = field(default=None, repr=False)

    @property
    def stream(self) -> str:
        """Name of the stream that the node belongs to."""
        return self.path.partition("/")[0]

    def document(self, records: int = 0) -> JSON:
        """Return the node's own metadata, an array's at the length given."""
        if self.layout is None:
            return group_document(self.attrs)
        document = array_document(self.layout, self.attrs)
        if self.layout.stepped:
            document["shape"][0] = records
        return document

    def pieces(self) -> tuple[bytes, ...]:
        """Return the node's line of the consolidated map, cut where its length stands if it has steps."""
        if self.text is None:
            line = f"{json.dumps(self.path)}:{json.dumps(self.document(), separators=(',', ':'))}".encode()
            if self.layout is not None and self.layout.stepped:
                # The shape is the document's first entry and starts with the 0 that stands for the length.
                head, mark, tail = line.partition(b'"shape":[0')
                self.text = (head + mark[:-1], tail)
            else:
                self.text = (line,)
        return self.text


class Tree:
    """All nodes below the root, by path."""

    def __init__(self) -> None:
        self.nodes: dict[str, TreeNode] = {}
        self._ordered: list[TreeNode] | None = None

    def add(self, node: TreeNode) -> TreeNode:
        """Add a node whose path is not taken."""
        if node.path in self.nodes:
            raise InputError(f"{node.path} is declared twice; give the layer or the signal another name")
        self.nodes[node.path] = node
        self._ordered = None
        return node

    def merge_attrs(self, path: str, attrs: Mapping[str, JSON]) -> None:
        """Merge attributes into a node's."""
        node = self.nodes.get(path)
        if node is None:
            raise InputError(f"{path!r} is not in the store; declare it before setting its attributes")
        node.attrs.update(attrs)
        node.text = None

    def root_document(self, attributes: Mapping[str, JSON], committed: Mapping[str, int]) -> bytes:
        """Return the root's zarr.json: its attributes and, inline, the metadata of every node."""
        if self._ordered is None:
            # zarr wants parents first and siblings together, so paths are compared part by part.
            self._ordered = sorted(self.nodes.values(), key=lambda node: node.path.split("/"))
        lengths = {stream: str(n).encode() for stream, n in committed.items()}
        lines = []
        for node in self._ordered:
            pieces = node.text or node.pieces()
            lines.append(pieces[0] if len(pieces) == 1 else lengths[node.stream].join(pieces))
        head = json.dumps(dict(attributes), separators=(",", ":")).encode()
        return b"".join(
            (
                b'{"zarr_format":3,"node_type":"group","attributes":',
                head,
                b',"consolidated_metadata":{"kind":"inline","must_understand":false,"metadata":{\n',
                b",\n".join(lines),
                b"\n}}}\n",
            )
        )
