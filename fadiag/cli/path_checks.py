"""Where a command shall write, checked before it works."""

from collections.abc import Callable
from pathlib import Path

import click

from fadiag.errors import InputError

__all__ = ["checked_path", "new_store"]


def checked_path(check: Callable[[str], Path], path: str, option: str = "'-o' / '--out'") -> Path:
    """Return the path, or refuse one that `check` refuses as an error of usage."""
    try:
        return check(path)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def new_store(path: str) -> Path:
    """Return the path of a store to make, or refuse one that is taken or lies in a file."""
    store = Path(path)
    if store.exists():
        raise InputError(f"{store} exists; take another path")
    if store.parent.exists() and not store.parent.is_dir():
        raise InputError(f"{store} cannot be made: {store.parent} is a file; take a folder")
    return store
