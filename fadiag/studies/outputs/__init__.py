"""Measure the runs of a study, and write its tables, figures, page and report."""
