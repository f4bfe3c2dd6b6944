"""Define frozen layers, a control in a study: they do not learn, and their backward pass is exact."""

from fadiag.rules.rule import Rule

__all__ = ["FROZEN"]

FROZEN = Rule("frozen", None, trains=False)
