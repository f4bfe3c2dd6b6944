"""Write sizes for readers."""

__all__ = ["size"]


def size(count: float) -> str:
    """Return a number of bytes with its unit.

    >>> size(96), size(2_640_000)
    ('96 B', '2.6 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
