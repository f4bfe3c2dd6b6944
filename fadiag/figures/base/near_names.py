"""Say which names are near a misspelt one, for errors."""

from collections.abc import Iterable
from difflib import get_close_matches

from fadiag.store.tools.printable import printable

__all__ = ["near"]

#: An error lists at most so many names.
_LISTED = 12


def near(name: object, names: Iterable[str]) -> str:
    """Return the names near a wrong one in brackets; all names, or the first of them, if none is near.

    Examples
    --------
    >>> near("rnak", ["rank", "cosine"]), near("x", ["rank", "cosine"])
    (' (near: rank)', ' (there are rank, cosine)')
    """
    known = [printable(each) for each in names]
    found = get_close_matches(str(name), known, n=3)
    if found:
        return f" (near: {', '.join(found)})"
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f" (there are {', '.join(known[:_LISTED])}{more})" if known else " (there are none)"
