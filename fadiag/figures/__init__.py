"""Draw figures of results: functions for one Axes each, with their numbers, captions and venues' styles."""

from fadiag.figures.base.captions import caption, numbers, small_print
from fadiag.figures.base.furnish import legend, letters
from fadiag.figures.catalog import FIGURES, ON_REQUEST, Figure, drawable, find
from fadiag.figures.credit.alignment import alignment_over_training
from fadiag.figures.credit.cosine import credit_cosine
from fadiag.figures.credit.overlap import overlap_over_training
from fadiag.figures.look.style import size, style
from fadiag.figures.look.theme import Theme, label, theme
from fadiag.figures.maps.layer_step_heatmap import layer_step_heatmap
from fadiag.figures.maps.overlap_matrix import overlap_matrix
from fadiag.figures.panels import per_condition, per_layer, per_step
from fadiag.figures.rank.by_depth import rank_by_depth
from fadiag.figures.rank.gap import rank_gap
from fadiag.figures.rank.over_training import rank_over_training
from fadiag.figures.rank.spectrum import spectrum
from fadiag.figures.rank.update_chain import update_chain
from fadiag.figures.save import check_path, save, svg
from fadiag.figures.study.accuracy import accuracy_over_training
from fadiag.figures.study.accuracy_against_rank import accuracy_against_rank
from fadiag.figures.study.conditions import conditions
from fadiag.figures.study.rank_ratios import rank_ratios
from fadiag.figures.study.two_by_two import two_by_two

__all__ = [
    "FIGURES",
    "ON_REQUEST",
    "Figure",
    "Theme",
    "accuracy_against_rank",
    "accuracy_over_training",
    "alignment_over_training",
    "caption",
    "check_path",
    "conditions",
    "credit_cosine",
    "drawable",
    "find",
    "label",
    "layer_step_heatmap",
    "legend",
    "letters",
    "numbers",
    "overlap_matrix",
    "overlap_over_training",
    "per_condition",
    "per_layer",
    "per_step",
    "rank_by_depth",
    "rank_gap",
    "rank_over_training",
    "rank_ratios",
    "save",
    "size",
    "small_print",
    "spectrum",
    "style",
    "svg",
    "theme",
    "two_by_two",
    "update_chain",
]


def __dir__() -> list[str]:
    return sorted(__all__)
