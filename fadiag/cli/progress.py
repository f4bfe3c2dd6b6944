"""Draw progress bars with the time left on stderr, if it is a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fadiag.cli.terminal import plain

__all__ = ["Countdown", "Move", "bar", "duration"]


class Move(Protocol):
    """The type of the function that moves a bar."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show that `done` of `total` are done."""


def duration(seconds: float) -> str:
    """Return a time in words that fit a line.

    >>> duration(0.4), duration(75), duration(3700), duration(200_000)
    ('0 s', '1 min 15 s', '1 h 1 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    for large, name, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= large:
            return f"{whole // large} {name} {whole % large // small} {rest}"
    return f"{whole} s"


class Countdown:
    """The time left of some work, from the speed since its first report.

    Work that goes on from an earlier state reports what was done before. That is not part of the speed.

    >>> left = Countdown(clock=iter([0.0, 10.0, 12.0]).__next__)
    >>> left.move(50, 100), left.move(60, 100), left.seconds()
    (None, None, 38.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._end: float | None = None

    def move(self, done: int, total: int) -> None:
        """Say how much is done."""
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        elif done > self._first[1]:
            self._end = now + (now - self._first[0]) / (done - self._first[1]) * (total - done)

    def seconds(self) -> float | None:
        """Return the time left; None if it is not known yet."""
        return None if self._end is None else max(0.0, self._end - self._clock())


@contextmanager
def bar(what: str) -> Iterator[Move]:
    """Draw a bar while the block runs, and yield a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    left = Countdown()

    class Left(ProgressColumn):
        """The time that was spent, and the time left."""

        def render(self, task: Task) -> Text:
            seconds = left.seconds()
            rest = "" if seconds is None or task.finished else f", {duration(seconds)} left"
            return Text(f"{duration(task.elapsed or 0)}{rest}")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Left(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, note="")

        def move(done: int, total: int, note: str = "", /) -> None:
            left.move(done, total)
            progress.update(task, completed=done, total=total, note=plain(note))

        yield move
