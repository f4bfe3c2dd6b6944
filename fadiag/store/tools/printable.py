"""Escape characters of a store that a terminal would obey instead of showing."""

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""Return a text on one line, with control characters and the like as escapes.

    Names and attributes of a store may come from anybody. An escape sequence could clear the screen, and a
    mark for writing from right to left could hide a part of the line.

    Examples
    --------
    >>> print(printable("fc1\x1b[2J\u202e"))
    fc1\x1b[2J\u202e
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
