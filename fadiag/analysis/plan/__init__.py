"""Decide what to measure: which runs and signals there are, which metrics they allow, in which blocks."""
