"""Frozen layers, the control of a study: they pass the error on exactly and do not learn."""

from fadiag.rules.rule import Rule

__all__ = ["FROZEN"]

FROZEN = Rule("frozen", None, trains=False)
