"""Convert the user's metadata to JSON, and warn about values that become text."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import torch

from fadiag.capture.warn import warn_user

__all__ = ["as_json"]


def as_json(**given: Any) -> dict[str, Any]:
    """Return values that JSON can hold; any other value becomes text.

    Scalars of numpy and torch become numbers, keys become text, and tuples become lists.

    Warns
    -----
    CaptureWarning
        Names the values that became text.

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
    """Return a value that JSON can hold, and add each value that became text to ``changed``."""
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
