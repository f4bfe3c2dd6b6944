"""Write text to a terminal, a file or a pipe: safe characters, in any encoding."""

import codecs
import io
import shutil
import sys
from collections.abc import Iterable, Sequence

__all__ = ["plain", "say", "table", "width", "write_in_any_encoding"]

#: What is written for characters that the encoding of the output lacks.
_LOOKALIKES = {
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "±": "+-",
    "·": "*",
    "†": "+",
    "²": "^2",
    "≥": ">=",
    "≤": "<=",
    "°": " deg",
}


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_LOOKALIKES.get(c) or c.encode("unicode_escape").decode() for c in text), error.end


def write_in_any_encoding() -> None:
    """Let stdout and stderr replace characters that their encoding lacks, in place of an error."""
    codecs.register_error("lookalike", _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")


def plain(text: str) -> str:
    """Return a text with control characters and the like as escapes, but for its line breaks."""
    if text.replace("\n", "").isprintable():  # do not load the store for it
        return text
    from fadiag.store import printable

    return "\n".join(map(printable, text.split("\n")))


def say(text: str = "", *, err: bool = False) -> None:
    """Print a text on stdout or stderr, without the control characters that a store may hold."""
    # click.echo would write UTF-8 where the user asked for ASCII.
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{plain(text)}\n")
    stream.flush()


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> None:
    """Print a table, folded to the width of a terminal; the columns of numbers are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 240  # do not fold lines for a file or a pipe
    shown = Table(box=None, header_style="bold", pad_edge=False)
    right = set(numbers)
    for place, name in enumerate(head):
        if place in right:
            shown.add_column(plain(name), justify="right", no_wrap=True)
        else:
            shown.add_column(plain(name), overflow="fold")
    for row in rows:
        shown.add_row(*map(plain, row))
    console.print()
    console.print(shown)


def width() -> int:
    """Return the width of a terminal; a file or a pipe has 100 columns, or those of COLUMNS."""
    return shutil.get_terminal_size((100, 24)).columns
