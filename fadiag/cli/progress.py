"""Draw progress bars on stderr, if it is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Move", "bar"]


class Move(Protocol):
    """The type of the function that moves a bar."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show that `done` of `total` are done."""


@contextmanager
def bar(what: str) -> Iterator[Move]:
    """Draw a bar while the block runs, and yield a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, note="")

        def move(done: int, total: int, note: str = "", /) -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield move
