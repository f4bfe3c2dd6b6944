"""The report: results told in one HTML file that needs nothing else."""

from fadiag.report.write import check_report, render, write_report

__all__ = ["check_report", "render", "write_report"]
