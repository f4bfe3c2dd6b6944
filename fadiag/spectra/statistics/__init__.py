"""Compute intervals, tests and nulls for numbers measured on runs."""
