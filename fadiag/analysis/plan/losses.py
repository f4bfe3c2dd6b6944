"""What could not be measured, collected while the rest goes on."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fadiag.errors import FadiagError, InputError
from fadiag.results.left_out import LeftOut

__all__ = ["Losses", "reason_of"]


def reason_of(cause: Exception) -> str:
    """Say what was raised: a message of fadiag as it is, any other with its type.

    Examples
    --------
    >>> reason_of(InputError("x is empty")), reason_of(ZeroDivisionError("division by zero"))
    ('cannot be measured: x is empty', 'raised ZeroDivisionError: division by zero')
    """
    if isinstance(cause, FadiagError):
        return f"cannot be measured: {cause}"
    return f"raised {type(cause).__name__}: {cause}"


class _StrictError(InputError):
    """What strict losses raise: told once, however many blocks it passes through."""


@dataclass
class Losses:
    """The records of what was left out; with `strict`, the first one is raised instead.

    An interrupt and a lack of memory are no property of a metric or a run, and are never caught.
    """

    strict: bool = False
    records: list[LeftOut] = field(default_factory=list)

    def add(
        self, record: LeftOut, steps: Iterable[int | None] = (None,), cause: Exception | None = None
    ) -> None:
        """Keep a record for each of the steps, or raise it."""
        records = [replace(record, step=step) for step in steps]
        if self.strict:
            raise _StrictError(f"{records[0]}; analyze without strict to leave it out") from cause
        self.records += records

    @contextmanager
    def catching(self, record: LeftOut, steps: Iterable[int | None] = (None,)) -> Iterator[None]:
        """Leave out what the block raises, as a record with its reason."""
        try:
            yield
        except (MemoryError, _StrictError):
            raise
        except Exception as cause:  # whatever a metric, a reader or a store raises
            self.add(replace(record, reason=reason_of(cause)), steps, cause)
