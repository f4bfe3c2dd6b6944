"""Callbacks that record the runs of other training frameworks; each module needs its framework."""
