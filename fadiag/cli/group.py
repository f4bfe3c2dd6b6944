"""Report failures of the command with an exit code and one line on stderr."""

import signal
import sys
import traceback
import warnings
from typing import Any

import click

from fadiag.cli.terminal import plain, say, write_in_any_encoding
from fadiag.errors import AnalysisWarning, FadiagError

__all__ = ["Ended", "Failure", "Group"]

INTERRUPTED = 130  # the exit code in a shell of a process that SIGINT ended
PATIENCE = 2  # seconds until the interrupt is repeated, if the command has not ended


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {' '.join(str(message).split())}", err=True)


def _show_traceback(*raised: Any) -> None:
    say("".join(traceback.format_exception(*raised)).rstrip(), err=True)


class Ended(KeyboardInterrupt):
    """The interrupt that is the usual end of a command, so nothing is said of it."""


class Failure(click.ClickException):
    """A failure that the user can resolve: one line on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print ``error: <message>`` on one line, with line breaks of libraries removed."""
        say(f"error: {' '.join(self.message.split())}", err=True)


class Group(click.Group):
    """A group of commands that print errors of fadiag as one line; other exceptions are bugs and show."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a study, not of the alphabet."""
        return list(self.commands)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command as a program."""
        write_in_any_encoding()
        sys.excepthook = _show_traceback
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, print each warning as one line, and treat several Ctrl-C in a row as one."""
        after = signal.getsignal(signal.SIGINT)
        if after is not signal.SIG_IGN:  # a shell ignores SIGINT for a background job
            signal.signal(signal.SIGINT, _interrupt)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", AnalysisWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            signal.alarm(0)
            after = signal.SIG_IGN  # only the exit is left, so ignore further interrupts
            # The interrupt may have come before zarr awaited a coroutine.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            if not isinstance(interrupt, Ended):
                say("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe is gone
        except click.UsageError as error:
            # It may list names of the results.
            error.message = plain(error.message)  # type: ignore[misc]
            raise
        except (FadiagError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise Failure(str(error)) from error
        finally:
            signal.signal(signal.SIGINT, after)


def _interrupt(number: int, frame: Any) -> None:
    """Interrupt the command, and ignore later Ctrl-C, which would interrupt the cleanup.

    Python drops an exception raised in a destructor or callback, so an alarm repeats the interrupt.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(PATIENCE)
    raise KeyboardInterrupt
