"""Give warnings that point at the user's own line of code, from any part of fadiag."""

import contextlib
import sys
import warnings
from pathlib import Path

import torch

from fadiag.errors import CaptureWarning

__all__ = ["warn_user"]

#: Files in these folders are not the user's.
_NOT_THE_USERS = (str(Path(__file__).parent.parent), str(Path(torch.__file__).parent), contextlib.__file__)


def warn_user(message: str, category: type[Warning] = CaptureWarning) -> None:
    """Warn at the user's line that called fadiag; Python shows each text once per line."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
