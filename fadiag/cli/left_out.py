"""Warn on stderr about what a command left out, or fail under ``--strict``."""

from collections.abc import Sequence

import click

from fadiag.cli.terminal import say
from fadiag.errors import InputError

__all__ = ["say_left_out", "strict_option"]

strict_option = click.option(
    "--strict", is_flag=True, help="Fail if anything is left out, instead of a warning."
)


def say_left_out(lines: Sequence[str], *, strict: bool) -> None:
    """Print one warning that lists what was left out.

    Raises
    ------
    InputError
        Under `strict`, if anything was left out.
    """
    if not lines:
        return
    message = f"left out: {'; '.join(lines)}"
    if strict:
        raise InputError(message)
    say(f"warning: {message}", err=True)
