"""Convert the user's metadata to JSON, and warn about values that become text."""

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import torch

from fadiag.capture.warn import warn_user
from fadiag.errors import InputError

__all__ = ["as_json"]

#: Deeper values become text; a value that holds itself has no end.
_DEEPEST = 50


def as_json(**given: Any) -> dict[str, Any]:
    """Return values that JSON can hold; any other value becomes text.

    Scalars of numpy and torch become numbers, keys become text, and tuples become lists.

    Raises
    ------
    InputError
        Two keys of one mapping are the same as text.

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


def _plain(value: Any, where: str, changed: list[str], depth: int = 0) -> Any:
    """Return a value that JSON can hold, and add each value that became text to ``changed``."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        plain = {str(k): _plain(v, f"{where}[{k!r}]", changed, depth + 1) for k, v in value.items()}
        if len(plain) < len(value):
            twice = next(k for k, count in Counter(map(str, value)).items() if count > 1)
            raise InputError(f"{where} has two keys that are {twice!r} as text; rename one of them")
        return plain
    if isinstance(value, (list, tuple)) and depth < _DEEPEST:
        return [_plain(item, f"{where}[{i}]", changed, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.ndim == 0:
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value)):
        return value
    try:
        text = str(value)
    except Exception:  # any error of the user's own __str__
        text = f"<{type(value).__name__}>"
    place = where if len(where) <= 80 else f"{where[:80]}..."
    changed.append(f"{place} ({type(value).__name__} {text[:40]})")
    return text
