"""Add the name of the probe, and the origin, to an error raised inside a probe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch

from fadiag.errors import CaptureError, FadiagError

__all__ = ["explain_errors", "is_out_of_memory", "name_probe"]


@contextmanager
def name_probe(name: str) -> Iterator[None]:
    """Add the name of the probe to the errors raised inside."""
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
    """Return the result of a call, and add the origin to an error that is not fadiag's own."""
    # Not a context manager: it would let a StopIteration through unchanged.
    try:
        return call()
    except Exception as error:
        if isinstance(error, FadiagError) or is_out_of_memory(error):
            raise
        raised = f"raised {type(error).__name__}: {error}"
        if hook := _backward_hook_of(error):
            raise CaptureError(
                f"the backward hook {hook} {raised}, in a probe's pass; let it pass where "
                "fadiag.capture.is_out_of_band() is true, or remove it before the model is recorded"
            ) from error
        raise CaptureError(f"{what} {raised}; give Probe a batch and a loss that fit the model") from error


def _backward_hook_of(error: BaseException) -> str:
    """Return the name of the backward hook that raised an error; "" if no hook raised it."""
    caller = ""
    for frame, _ in walk_tb(error.__traceback__):
        code = frame.f_code
        if caller.endswith("torch/utils/hooks.py") and "/torch/" not in code.co_filename:
            return f"{frame.f_globals.get('__name__')}.{code.co_qualname}"
        caller = code.co_filename
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory; on the CPU torch has no class for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
