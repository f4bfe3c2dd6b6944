"""How the command fails: exit codes, and one line for each failure."""

import warnings
from typing import Any

import click

from fadiag.errors import FadiagError

__all__ = ["Failure", "Group"]

INTERRUPTED = 130  # what a shell reports of a process that SIGINT ended


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"warning: {' '.join(str(message).split())}", err=True)


class Failure(click.ClickException):
    """A failure that the user can do something about: one line on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print ``error: <message>`` on one line, whatever line breaks a library put into it."""
        click.echo(f"error: {' '.join(self.message.split())}", err=True, file=file)


class Group(click.Group):
    """A group whose commands turn fadiag's errors into one line; any other exception is a bug, and shows."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work rather than of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a warning is one line on stderr."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except (FadiagError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise Failure(str(error)) from error
