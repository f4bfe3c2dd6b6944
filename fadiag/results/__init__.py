"""Load, save and select measured results, and compute final values and intervals over seeds.

`fadiag.compare`, the figures and the report all read results through this package.
"""

from fadiag.results.by_condition import by_condition
from fadiag.results.condition_table import Cell, ConditionTable, condition_table
from fadiag.results.final_values import final_values
from fadiag.results.intervals import MeanInterval, contrast, mean_interval
from fadiag.results.io import load_results, save_results, to_pandas
from fadiag.results.layers import select_layers
from fadiag.results.matched import MatchedLoss, MatchedPair, at_matched_loss
from fadiag.results.select import select

__all__ = [
    "Cell",
    "ConditionTable",
    "MatchedLoss",
    "MatchedPair",
    "MeanInterval",
    "at_matched_loss",
    "by_condition",
    "condition_table",
    "contrast",
    "final_values",
    "load_results",
    "mean_interval",
    "save_results",
    "select",
    "select_layers",
    "to_pandas",
]


def __dir__() -> list[str]:
    return sorted(__all__)
