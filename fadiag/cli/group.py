"""How the command fails: exit codes, and one line for each failure."""

import signal
import warnings
from typing import Any

import click

from fadiag.errors import AnalysisWarning, FadiagError

__all__ = ["Failure", "Group"]

INTERRUPTED = 130  # what a shell reports of a process that SIGINT ended
PATIENCE = 2  # seconds from an interrupt to the next try, if the command has not ended


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
        """Run the command; a warning is one line on stderr. Several Ctrl-C in a row interrupt it once."""
        after = signal.getsignal(signal.SIGINT)
        if after is not signal.SIG_IGN:  # as a shell sets it for a job in the background
            signal.signal(signal.SIGINT, _interrupt)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", AnalysisWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            signal.alarm(0)
            after = signal.SIG_IGN  # nothing but the exit is left to interrupt
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except (FadiagError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise Failure(str(error)) from error
        finally:
            signal.signal(signal.SIGINT, after)


def _interrupt(number: int, frame: Any) -> None:
    """Interrupt the command, and ignore Ctrl-C from now on: another one would break into its cleaning up.

    Python loses an exception that is raised in a destructor or a callback, so an alarm tries again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(PATIENCE)
    raise KeyboardInterrupt
