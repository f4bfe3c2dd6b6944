"""The report: results told in one HTML file that needs nothing else."""

from fadiag.report.write import render, write_report

__all__ = ["render", "write_report"]
