"""Saying of an error inside a probe which probe it is of, and where it came from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fadiag.errors import CaptureError, FadiagError

__all__ = ["explain_errors", "name_probe"]


@contextmanager
def name_probe(name: str) -> Iterator[None]:
    """Let errors say which probe they are of."""
    try:
        yield
    except FadiagError as error:
        error.args = (f"probe {name!r}: {error}",)
        raise
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise CaptureError(
            f"not enough memory for probe {name!r} ({error}); give it a smaller batch or fewer signals"
        ) from error


def explain_errors(what: str, call: Callable[[], Any]) -> Any:
    """Return what the call returns, and say of an error that is not fadiag's own where it came from."""
    # No context manager: one would let a StopIteration pass, whatever is raised from it.
    try:
        return call()
    except Exception as error:
        if isinstance(error, FadiagError) or _is_out_of_memory(error):
            raise
        raise CaptureError(
            f"{what} raised {type(error).__name__}: {error}; give Probe a batch and a loss that fit the model"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was short; on the CPU torch has no class for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
