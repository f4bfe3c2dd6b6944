"""Saying of an error inside a probe which probe it is of, and where it came from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch

from fadiag.errors import CaptureError, FadiagError

__all__ = ["explain_errors", "is_out_of_memory", "name_probe"]


@contextmanager
def name_probe(name: str) -> Iterator[None]:
    """Let errors say which probe they are of."""
    try:
        yield
    except FadiagError as error:
        error.args = (f"probe {name!r}: {error}",)
        raise
    except Exception as error:
        if not is_out_of_memory(error):
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
        if isinstance(error, FadiagError) or is_out_of_memory(error):
            raise
        told = f"raised {type(error).__name__}: {error}"
        if hook := _backward_hook_of(error):
            raise CaptureError(
                f"the backward hook {hook} {told}, in a probe's pass; let it pass where "
                "fadiag.capture.is_out_of_band() is true, or remove it before the model is recorded"
            ) from error
        raise CaptureError(f"{what} {told}; give Probe a batch and a loss that fit the model") from error


def _backward_hook_of(error: BaseException) -> str:
    """Return the name of the module's backward hook that raised an error, "" if none did."""
    caller = ""
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        if caller.endswith("torch/utils/hooks.py") and "/torch/" not in code.co_filename:
            return f"{frame.f_globals.get('__name__')}.{code.co_qualname}"
        caller = code.co_filename
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory was short; on the CPU torch has no class for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
