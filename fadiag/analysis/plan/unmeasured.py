"""Unmeasured collects the errors of items that cannot be measured, so that the others go on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fadiag.errors import FadiagError, InputError
from fadiag.results.left_out import LeftOut

__all__ = ["Unmeasured", "reason_of"]


def reason_of(cause: Exception) -> str:
    """Return the text of an error: the message of fadiag's own errors, other errors with their type.

    Examples
    --------
    >>> reason_of(InputError("x is empty")), reason_of(ZeroDivisionError("division by zero"))
    ('cannot be measured: x is empty', 'raised ZeroDivisionError: division by zero')
    """
    if isinstance(cause, FadiagError):
        return f"cannot be measured: {cause}"
    return f"raised {type(cause).__name__}: {cause}"


class _StrictError(InputError):
    """The error under `strict`; a type of its own, so that outer blocks pass it on unchanged."""


@dataclass
class Unmeasured:
    """The records of everything left out; with `strict`, the first one is raised instead.

    An interrupt or a lack of memory is not the fault of a metric or a run, and is never caught.
    """

    strict: bool = False
    records: list[LeftOut] = field(default_factory=list)

    def add(
        self, record: LeftOut, steps: Iterable[int | None] = (None,), cause: Exception | None = None
    ) -> None:
        """Add a record for each of the steps, or raise it."""
        records = [replace(record, step=step) for step in steps]
        if self.strict:
            raise _StrictError(f"{records[0]}; analyze without strict to leave it out") from cause
        self.records += records

    @contextmanager
    def catching(self, record: LeftOut, steps: Iterable[int | None] = (None,)) -> Iterator[None]:
        """Catch an error in the block, and record it with its reason."""
        try:
            yield
        except (MemoryError, _StrictError):
            raise
        except Exception as cause:  # a metric, a reader or a store may raise anything
            self.add(replace(record, reason=reason_of(cause)), steps, cause)
