"""StreamState holds the arrays and the record counts of a stream that is being written."""

from dataclasses import dataclass, field

from fadiag.store.layout import ArraySpec
from fadiag.store.write.tree import StoreNode

__all__ = ["StreamState"]


@dataclass(eq=False)
class StreamState:
    """Hold the arrays and the record counts of a stream that is being written.

    The caller's thread counts appended records in `appended`; some of them may still wait. The writer's
    thread counts written records in `records`.
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
