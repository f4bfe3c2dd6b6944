"""Turn what a user says of a run into JSON, and say which values became text."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import torch

from fadiag.capture.warn import warn_user

__all__ = ["as_json"]


def as_json(**given: Any) -> dict[str, Any]:
    """Return values by name as JSON holds them; a value that JSON cannot hold becomes text.

    Numbers of numpy and torch are numbers. Keys become text, and tuples lists.

    Warns
    -----
    CaptureWarning
        Some values became text: once, with their names.

    Examples
    --------
    >>> as_json(meta={"seed": np.int64(3), "betas": (0.9, 0.99)}, config=None)
    {'meta': {'seed': 3, 'betas': [0.9, 0.99]}, 'config': None}
    """
    changed: list[str] = []
    plain = {name: _plain(value, name, changed) for name, value in given.items()}
    if changed:
        warn_user(
            f"not JSON, so written as text: {', '.join(changed)}; give numbers, text, lists or mappings "
            "to keep them as they are"
        )
    return plain


def _plain(value: Any, where: str, changed: list[str]) -> Any:
    """Return a value as JSON holds it; note where one had to become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}[{key!r}]", changed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", changed) for i, item in enumerate(value)]
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.ndim == 0:
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value)):
        return value
    changed.append(f"{where} ({type(value).__name__} {str(value)[:40]})")
    return str(value)
