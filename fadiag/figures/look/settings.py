"""Read matplotlib's settings by any name."""

from typing import Any, cast

import matplotlib as mpl

__all__ = ["settings"]


def settings() -> dict[str, Any]:
    """Return matplotlib's settings by name; its own type knows literal names only."""
    return cast("dict[str, Any]", mpl.rcParams)
