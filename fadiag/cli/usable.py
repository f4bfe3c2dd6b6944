"""Where a command shall write, checked before it works."""

from collections.abc import Callable
from pathlib import Path

import click

from fadiag.errors import InputError

__all__ = ["usable"]


def usable(check: Callable[[str], Path], path: str, option: str = "'-o' / '--out'") -> Path:
    """Return the path, or refuse one that `check` refuses as an error of usage."""
    try:
        return check(path)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
