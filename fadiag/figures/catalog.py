"""List the figures that the command and the report draw, each composed of the figure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.errors import InputError
from fadiag.figures.base.captions import caption
from fadiag.figures.base.furnish import furnish, letters
from fadiag.figures.base.layers import output_layer
from fadiag.figures.base.near_names import near
from fadiag.figures.compositions import (
    METRICS,
    accuracies_against_ranks,
    heat_maps,
    rows_high,
    side_by_side,
    spectra,
    two_by_twos,
    update_chains,
    wide,
)
from fadiag.figures.credit.alignment import alignment_over_training
from fadiag.figures.credit.cosine import credit_cosine
from fadiag.figures.credit.overlap import overlap_over_training
from fadiag.figures.look.style import styled
from fadiag.figures.panels import per_layer
from fadiag.figures.rank.by_depth import rank_by_depth
from fadiag.figures.rank.gap import rank_gap
from fadiag.figures.rank.over_training import rank_over_training
from fadiag.figures.study.accuracy import accuracy_over_training
from fadiag.figures.study.conditions import conditions
from fadiag.figures.study.rank_ratios import rank_ratios
from fadiag.results.left_out import left_out_of, told_by_run
from fadiag.store.tools.printable import printable

__all__ = ["FIGURES", "ON_REQUEST", "Figure", "drawable", "find"]


@dataclass(frozen=True)
class Figure:
    """One figure of the command and of the report.

    Parameters
    ----------
    name, title : str
        The name in commands, and the title for readers.
    needs : tuple of str
        The variables that it draws.
    plot : callable
        Takes the results and an empty matplotlib figure, and draws; a baseline too, if it compares.
    by_name : bool
        Whether it is drawn only if a command or a study names it.
    compares : bool
        Whether it compares conditions with a baseline.

    Examples
    --------
    >>> found = find("rank_gap")
    >>> isinstance(found, Figure), found.needs[0]
    (True, 'error_effective_rank_raw')
    """

    name: str
    title: str
    needs: tuple[str, ...]
    plot: Callable[..., None]
    by_name: bool = False
    compares: bool = False

    def draw(self, results: xr.DataTree, baseline: str | None = None) -> Canvas:
        """Return the drawing as a matplotlib figure unknown to pyplot; what is missing is a text in it.

        The baseline is the only condition with the rule "bp", if none is named.
        """
        with styled():
            canvas = Canvas(layout="constrained")
            self.plot(results, canvas, **({"baseline": baseline} if self.compares else {}))
            furnish(canvas)
        return canvas

    def caption(self, results: xr.DataTree) -> str:
        """Return the caption of the drawing."""
        return caption(self.draw(results))

    def missing(self, results: xr.DataTree) -> list[str]:
        """Return the variables that it needs and the results lack."""
        held = {str(name) for node in results.children.values() for name in node.data_vars}
        return [name for name in self.needs if name not in held]

    def left_out(self, results: xr.DataTree) -> list[str]:
        """Return what is missing from the figure, one line per run, see `fadiag.results.left_out`."""
        gone = self.missing(results)
        absent = [f"{', '.join(gone)} (not in the results)"] if gone else []
        return [printable(line) for line in (*told_by_run(left_out_of(results, self.needs)), *absent)]


def find(name: str) -> Figure:
    """Return the figure with a name.

    Raises
    ------
    InputError
        There is no such figure. The error lists the names.

    Examples
    --------
    >>> find("accuracy_over_training").title
    'Accuracy over training'
    """
    for figure in (*FIGURES, *ON_REQUEST):
        if figure.name == name:
            return figure
    known = [figure.name for figure in (*FIGURES, *ON_REQUEST)]
    raise InputError(f"no figure is called {name!r}{near(name, known)}; there are {', '.join(known)}")


def drawable(results: xr.DataTree) -> tuple[Figure, ...]:
    """Return the figures of a report: `FIGURES`, and what it can draw of `ON_REQUEST` without a name.

    Examples
    --------
    >>> drawable(xr.DataTree()) == FIGURES
    True
    """
    asked = (figure for figure in ON_REQUEST if not figure.by_name)
    return (*FIGURES, *(figure for figure in asked if not figure.missing(results)))


def _rank_by_depth(results: xr.DataTree, canvas: Canvas, baseline: str | None) -> None:
    wide(canvas, 0.66)
    axs = canvas.subplots(2, 2, sharex="col", sharey="col")
    for row, signal in enumerate(("error", "modulator")):
        for ax, metric in zip(axs[row], METRICS, strict=True):
            rank_by_depth(results, signal=signal, metric=metric, baseline=baseline, ax=ax, legend=False)
            ax.set_title(signal)
            if not row:
                ax.set_xlabel("")
    letters(axs)


def _rank_over_training(results: xr.DataTree, canvas: Canvas, baseline: str | None) -> None:
    wide(canvas, 0.4)
    parts = canvas.subfigures(len(METRICS), 1, squeeze=False)[:, 0]
    for part, metric in zip(parts, METRICS, strict=True):
        per_layer(rank_over_training, results, figure=part, metric=metric, baseline=baseline)
    rows_high(canvas, 0.13)


def _rank_gap(results: xr.DataTree, canvas: Canvas, baseline: str | None) -> None:
    draws = [partial(rank_gap, results, metric=metric, baseline=baseline) for metric in METRICS]
    side_by_side(canvas, 0.34, draws)


def _alignment(results: xr.DataTree, canvas: Canvas) -> None:
    wide(canvas, 0.2)  # about right, so that texts are fitted; the number of rows is not known yet
    # The first layer has no value: its B carries no credit.
    draw = partial(per_layer, alignment_over_training, results, figure=canvas)
    draw(having="weight_feedback_cosine", caption_layer=output_layer(results))
    rows_high(canvas, 0.14)


def _credit(results: xr.DataTree, canvas: Canvas) -> None:
    side_by_side(canvas, 0.34, [partial(credit_cosine, results, degrees=which) for which in (False, True)])


def _cosine_over_training(results: xr.DataTree, canvas: Canvas) -> None:
    wide(canvas, 0.2)
    per_layer(credit_cosine, results, figure=canvas, over="training")
    rows_high(canvas, 0.14)


def _overlap(results: xr.DataTree, canvas: Canvas) -> None:
    wide(canvas, 0.2)
    per_layer(overlap_over_training, results, figure=canvas)
    rows_high(canvas, 0.14)


def _accuracy(results: xr.DataTree, canvas: Canvas, baseline: str | None) -> None:
    wide(canvas, 0.42)
    accuracy_over_training(results, baseline=baseline, ax=canvas.add_subplot(), legend=False)


def _conditions(results: xr.DataTree, canvas: Canvas, baseline: str | None) -> None:
    wide(canvas, 0.5)
    axs = canvas.subplots(2, 3, sharey="row")
    for row, difference in enumerate((False, True)):
        draw = partial(conditions, results, difference=difference, baseline=baseline, legend=False)
        draw(ax=axs[row, 0])
        for ax, metric in zip(axs[row, 1:], METRICS, strict=True):
            draw(signal="error", metric=metric, ax=ax)
            ax.tick_params(labelleft=False)
    wide(canvas, 0.22 + 0.04 * sum(len(ax.get_yticks()) for ax in axs[:, 0]))
    letters(axs)


def _rank_ratios(results: xr.DataTree, canvas: Canvas) -> None:
    wide(canvas, 0.5)
    ax = rank_ratios(results, ax=canvas.add_subplot(), legend=False)
    wide(canvas, 0.16 + 0.032 * len(ax.get_yticks()))


_RANKS = ("error_effective_rank_raw", "error_participation_ratio_raw")
_CHAIN = tuple(f"{signal}_effective_rank_raw" for signal in ("gradient", "momentum", "update"))
_MODULATOR = ("modulator_effective_rank_raw", "modulator_participation_ratio_raw")

FIGURES: tuple[Figure, ...] = (
    Figure(
        "rank_by_depth",
        "Rank of error and modulator by depth",
        (*_RANKS, *_MODULATOR),
        _rank_by_depth,
        compares=True,
    ),
    Figure("rank_gap", "Rank: difference to the baseline", _RANKS, _rank_gap, compares=True),
    Figure(
        "rank_over_training", "Rank of the error over training", _RANKS, _rank_over_training, compares=True
    ),
    Figure(
        "conditions",
        "All conditions at the end of training",
        ("test_accuracy", *_RANKS),
        _conditions,
        compares=True,
    ),
    Figure("accuracy_over_training", "Accuracy over training", ("test_accuracy",), _accuracy, compares=True),
    Figure("credit_cosine", "Alignment of the error with the exact one", ("error_cosine",), _credit),
    Figure(
        "alignment_over_training",
        "Alignment of weights and feedback",
        ("weight_feedback_cosine",),
        _alignment,
    ),
    Figure("overlap_over_training", "Overlap of the error with the exact one", ("error_overlap",), _overlap),
    Figure(
        "accuracy_against_rank",
        "Accuracy against rank",
        ("test_accuracy", *_RANKS, *_MODULATOR),
        accuracies_against_ranks,
    ),
)

#: Figures of what is recorded or kept on request only, and large ones, which are drawn by name.
ON_REQUEST: tuple[Figure, ...] = (
    Figure(
        "layer_step_heatmap", "Rank of the error, all layers and steps", _RANKS[:1], heat_maps, by_name=True
    ),
    Figure("update_chain", "Rank from the gradient to the update", _CHAIN, update_chains, by_name=True),
    Figure(
        "cosine_over_training",
        "Alignment of the error with the exact one over training",
        ("error_cosine",),
        _cosine_over_training,
        by_name=True,
    ),
    Figure("rank_ratios", "Rank over that of the baseline", _RANKS[:1], _rank_ratios, by_name=True),
    Figure("spectrum", "Spectrum of the error", ("error_spectrum_raw",), spectra),
    Figure(
        "two_by_two",
        "Rank by weights and backward matrices",
        (*_RANKS, "error_bp_effective_rank_raw", "error_fa_effective_rank_raw"),
        two_by_twos,
    ),
)
