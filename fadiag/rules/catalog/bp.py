"""Backpropagation: the layers stay as they are, so that one line serves all arms of a study."""

from fadiag.rules.rule import Rule

__all__ = ["BP"]

BP = Rule("bp", None)
