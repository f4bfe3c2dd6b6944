"""Draw figures of results: functions for one Axes each, with their numbers, captions and venues' styles."""

from fadiag.figures.base.captions import caption, numbers, small_print
from fadiag.figures.base.furnish import legend, letters
from fadiag.figures.catalog import FIGURES, Figure, find
from fadiag.figures.credit.alignment import alignment_over_training
from fadiag.figures.credit.cosine import credit_cosine
from fadiag.figures.credit.overlap import overlap_over_training
from fadiag.figures.look.style import size, style
from fadiag.figures.look.theme import Theme, label, theme
from fadiag.figures.per_layer import per_layer
from fadiag.figures.rank.by_depth import rank_by_depth
from fadiag.figures.rank.gap import rank_gap
from fadiag.figures.rank.over_training import rank_over_training
from fadiag.figures.save import check_path, save, svg
from fadiag.figures.study.accuracy import accuracy_over_training
from fadiag.figures.study.conditions import conditions

__all__ = [
    "FIGURES",
    "Figure",
    "Theme",
    "accuracy_over_training",
    "alignment_over_training",
    "caption",
    "check_path",
    "conditions",
    "credit_cosine",
    "find",
    "label",
    "legend",
    "letters",
    "numbers",
    "overlap_over_training",
    "per_layer",
    "rank_by_depth",
    "rank_gap",
    "rank_over_training",
    "save",
    "size",
    "small_print",
    "style",
    "svg",
    "theme",
]


def __dir__() -> list[str]:
    return sorted(__all__)
