"""Write a report of results as one self-contained HTML file."""

from fadiag.report.pictures import not_drawn
from fadiag.report.write import check_report, render, write_report

__all__ = ["check_report", "not_drawn", "render", "write_report"]


def __dir__() -> list[str]:
    return sorted(__all__)
