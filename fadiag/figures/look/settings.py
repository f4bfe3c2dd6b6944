"""Read matplotlib's settings by any name, and say which of them the user has set."""

from typing import Any, cast

import matplotlib as mpl

__all__ = ["left_alone", "settings"]


def settings() -> dict[str, Any]:
    """Return matplotlib's settings by name; its own type knows literal names only."""
    return cast("dict[str, Any]", mpl.rcParams)


def left_alone(name: str, value: Any) -> bool:
    """Return whether a setting was never set: a number that was set is not the default's object.

    So a number counts as set even if it equals the default. Nobody can tell this of a switch or a word.

    Examples
    --------
    >>> left_alone("font.size", mpl.rcParamsDefault["font.size"]), left_alone("font.size", float("10"))
    (True, False)
    >>> left_alone("axes.grid", False), left_alone("axes.grid", True)
    (True, False)
    """
    return _same(value, cast("dict[str, Any]", mpl.rcParamsDefault)[name])


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, list | tuple) and isinstance(default, list | tuple) and len(value) == len(default):
        return all(_same(one, other) for one, other in zip(value, default, strict=True))
    return value is default if isinstance(value, float) else bool(value == default)
