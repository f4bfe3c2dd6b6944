"""Write numbers, lists and tables of a page in Markdown."""

from collections.abc import Iterable, Sequence

__all__ = ["bullets", "number", "plain", "table"]


def number(text: str) -> str:
    """Return a number of a table with four digits, and nothing for an empty cell.

    >>> number("0.123456"), number("-12345.6"), number("")
    ('0.1235', '−12,350', '')
    """
    if not text:
        return ""
    value = float(text)
    digits = f"{float(f'{value:.4g}'):,.10g}" if abs(value) >= 1e-4 or not value else f"{value:.3g}"
    return digits.replace("-", "−")


def plain(metric: str) -> str:
    """Return the name of a metric in words."""
    return metric.replace("_", " ")


def bullets(lines: Iterable[str]) -> str:
    """Return a list, one line an item."""
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a table with a head."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
