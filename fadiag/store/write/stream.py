"""How far a stream is while it is written."""

from dataclasses import dataclass, field

from fadiag.store.layout import ArraySpec
from fadiag.store.write.tree import StoreNode

__all__ = ["StreamState"]


@dataclass(eq=False)
class StreamState:
    """A stream while it is written: its arrays and how far it is.

    The caller's thread counts in `appended` the records that it gave, some of which may still wait. The
    writer's thread counts in `records` those that it wrote.
    """

    name: str
    records: int = 0
    last_step: int | None = None
    planned: int | None = None
    arrays: list[StoreNode] = field(default_factory=list)
    specs: dict[str, ArraySpec] = field(default_factory=dict)
    record_bytes: int = 0
    appended: int = field(init=False)

    def __post_init__(self) -> None:
        self.appended = self.records
