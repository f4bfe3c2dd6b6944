"""Write text to a terminal, a file or a pipe: safe characters, in any encoding."""

import codecs
import io
import re
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


#: The first column is not made narrower than this.
_NARROWEST = 16


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
    """Print a table, folded to the width of a terminal between the words of names, the first column first.

    The columns of `numbers` are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 240  # do not fold lines for a file or a pipe
    lines = [tuple(map(plain, line)) for line in (head, *rows)]
    widths = _fitted(lines, console.width)
    lines = [tuple(map(_broken, line, widths)) for line in lines]
    shown = Table(box=None, header_style="bold", pad_edge=False)
    right = set(numbers)
    for place, name in enumerate(lines[0]):
        shown.add_column(name, justify="right" if place in right else "left", overflow="fold")
    for line in lines[1:]:
        shown.add_row(*line)
    console.print()
    console.print(shown)


def _fitted(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return widths of columns with which a table fits, if its words allow it.

    >>> _fitted([("error_effective_rank_raw", "fc1, fc2, out")], 24)
    [16, 6]
    """
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(part.rstrip()) for cell in column for part in _words(cell)) for column in columns]
    least[0] = max(least[0], min(widths[0], _NARROWEST))
    while sum(widths) + 2 * (len(widths) - 1) > width:
        wide = [i for i, (now, fewest) in enumerate(zip(widths, least, strict=True)) if now > fewest]
        if not wide:
            break
        widths[0 if 0 in wide else max(wide, key=lambda i: widths[i])] -= 1
    return widths


def _words(name: str) -> list[str]:
    return re.findall(r"[^_ ]*[_ ]?", name)


def _broken(name: str, longest: int) -> str:
    r"""Return a name in lines of some length, broken behind underscores.

    >>> _broken("error_effective_rank_raw", 12)
    'error_\neffective_\nrank_raw'
    """
    lines = [""]
    for part in _words(name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > longest:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def width() -> int:
    """Return the width of a terminal; a file or a pipe has 100 columns, or those of COLUMNS."""
    return shutil.get_terminal_size((100, 24)).columns
