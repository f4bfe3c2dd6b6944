"""Check the paths that a command reads or writes before it starts to work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["STDOUT", "ExistingFile", "NewPath", "checked_path", "new_store"]

#: The path that means stdout.
STDOUT = "-"


class ExistingFile(click.Path):
    """The click type of a file that a command reads."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the absolute path of the file, or fail with an error of click."""
        return super().convert(absolute_path(value), param, ctx)


class NewPath(click.Path):
    """The click type of a path that a command writes and that cannot be stdout."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with an error of click if it is ``-``."""
        if value == STDOUT:
            self.fail("'-' is stdout, and this is written to a path; name one", param, ctx)
        return super().convert(value, param, ctx)


def checked_path(check: Callable[[str], Path], path: str, option: str = "'-o' / '--out'") -> Path:
    """Return the checked path; turn an InputError of `check` into a usage error."""
    try:
        return check(path)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def new_store(path: str) -> Path:
    """Return the path of a new store; raise InputError if it exists or its parent is a file."""
    store = absolute_path(path)
    if store.exists():
        raise InputError(f"{store} exists; take another path")
    if store.parent.exists() and not store.parent.is_dir():
        raise InputError(f"{store} cannot be made: {store.parent} is a file; take a folder")
    return store
