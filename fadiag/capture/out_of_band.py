"""Whether what a model runs now is a probe's, and none of its training's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["is_out_of_band", "out_of_band"]

_INSIDE: ContextVar[bool] = ContextVar("_INSIDE", default=False)


@contextmanager
def out_of_band() -> Iterator[None]:
    """Mark the passes made inside, for whoever hears the training: another recorder of the same model, too.

    Examples
    --------
    >>> with out_of_band():
    ...     is_out_of_band()
    True
    >>> is_out_of_band()
    False
    """
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def is_out_of_band() -> bool:
    """Tell whether the pass that runs now is none of the training's."""
    return _INSIDE.get()
