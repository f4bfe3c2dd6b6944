"""What a command left out: said on stderr, or an error under ``--strict``."""

from collections.abc import Sequence

import click

from fadiag.errors import InputError

__all__ = ["say_left_out", "strict_option"]

strict_option = click.option(
    "--strict", is_flag=True, help="Fail where something is left out, rather than say so."
)


def say_left_out(lines: Sequence[str], *, strict: bool) -> None:
    """Print one warning of what was left out.

    Raises
    ------
    InputError
        Under `strict`, if there is anything.
    """
    if not lines:
        return
    told = f"left out: {'; '.join(lines)}"
    if strict:
        raise InputError(told)
    click.echo(f"warning: {told}", err=True)
