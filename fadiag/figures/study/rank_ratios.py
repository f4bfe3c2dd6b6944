"""Draw by what factor a rank differs from that of its baseline, for many pairs of conditions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import layers_of, primary_layer
from fadiag.figures.base.measure import Measure, rank_measure
from fadiag.figures.base.near_names import near
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.look.text import shortened, shown
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.bounds import plain_numbers
from fadiag.figures.strokes.marks import keep_means, keep_seeds
from fadiag.figures.words.sentences import with_interval
from fadiag.results import MeanInterval, final_values, mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.layers import primary_layers
from fadiag.results.roles import roles
from fadiag.results.run_labels import conditions_of, is_missing
from fadiag.store.tools.printable import printable

__all__ = ["pairs_of", "rank_ratios"]

#: The longest name of a row, in letters.
_LETTERS = 34
#: Other definitions of the first pair's rank: words, signal and metric.
_OTHERS = (
    ("centered", "error", "effective_rank_centered"),
    ("participation ratio", "error", "participation_ratio_raw"),
    ("of the modulator", "modulator", "effective_rank_raw"),
)


@dataclass(frozen=True)
class _Row:
    """One row: its name, and the pair, the measure and the layer that it compares."""

    name: str
    pair: tuple[str, str]
    measure: Measure
    layer: str


@figure_function
def rank_ratios(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    pairs: Sequence[tuple[str, str]] | None = None,
    others: bool = True,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a row for each pair of conditions: the rank of one over that of its baseline, at the last step.

    A ratio does not depend on the scale of a rank, so that networks of different widths, and probes of
    different sizes, share one axis. Ratios are of runs with the same seed. The mean is geometric, and its
    interval is the t interval of the logarithm.

    Parameters
    ----------
    results, signal, metric, stream, ax
        As in `rank_by_depth`.
    pairs : sequence of (str, str), optional
        Conditions, each with its baseline. By default those that a study declared, else every condition with
        the condition whose rule is "bp". Each is taken at its own layer below the output.
    others : bool
        Whether to add the first pair in its other layers, and by other definitions of the rank.
    legend : bool
        Whether to update the small print; the rows have names of their own.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, metric, condition or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = rank_ratios(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    known = roles(results).conditions
    chosen = pairs_of(results) if pairs is None else list(pairs)
    for name in (one for pair in chosen for one in pair):
        if name not in known:
            raise InputError(f"pairs name {name!r}, which is no condition of the results{near(name, known)}")
    measure = rank_measure(signal, metric, results)
    names = list(dict.fromkeys(name for pair in chosen for name in pair)) or None
    with panel(results, ax, conditions=names, stream=stream, legend=legend) as here:
        if not chosen:
            raise MissingSignalError("no condition has a baseline")
        _plot(here, list(_rows(results, chosen, measure, others)))
    return here.ax


def pairs_of(results: xr.DataTree) -> list[tuple[str, str]]:
    """Return the conditions that a study declared a baseline for, with it; else all with the only baseline.

    Examples
    --------
    >>> coords = {"run": ["a", "b"], "condition": ("run", ["fa", "bp"]), "baseline": ("run", ["bp", ""])}
    >>> pairs_of(xr.DataTree.from_dict({"/log": xr.Dataset(coords=coords)}))
    [('fa', 'bp')]
    """
    declared: dict[str, str] = {}
    for node in results.children.values():
        if "baseline" in node.coords:
            runs = node.to_dataset()
            for condition, baseline in zip(conditions_of(runs) or [], runs["baseline"].values, strict=False):
                if baseline and not is_missing(baseline):
                    declared.setdefault(str(condition), str(baseline))
    played = roles(results)
    if not declared and len(played.baselines) == 1:
        (baseline,) = played.baselines
        declared = {name: baseline for name in played.conditions if name != baseline}
    return [(name, declared[name]) for name in played.conditions if name in declared]


def _rows(
    results: xr.DataTree, pairs: Sequence[tuple[str, str]], measure: Measure, others: bool
) -> Iterator[_Row]:
    """Yield the pairs, each at its own layer, and the first of them in other layers and by other ranks."""
    first, layer = pairs[0], _layer_of(results, pairs[0])
    for pair in pairs:
        baseline = "" if pair[1] == first[1] else f" / {label(pair[1])}"
        name = label(pair[0]) if pair[0] != label(pair[0]) else f"{pair[0]}{baseline}"
        yield _Row(name, pair, measure, _layer_of(results, pair))
        if pair != first or not others:
            continue
        hidden = layers_of(results)[: layers_of(results).index(layer)] if layer in layers_of(results) else []
        for other in hidden:
            yield _Row(f"{name}, at {printable(other)}", pair, measure, other)
        for words, signal, metric in _OTHERS:
            if any(f"{signal}_{metric}" in node.data_vars for node in results.children.values()):
                found = rank_measure(signal, metric, results)
                if found.name != measure.name:
                    yield _Row(f"{name}, {words}", pair, found, layer)


def _layer_of(results: xr.DataTree, pair: Sequence[str]) -> str:
    """Return the primary layer of a pair's own runs: networks of other depths have others."""
    held = primary_layers(results, pair)
    return held[0] if len(held) == 1 else primary_layer(results)


def _plot(here: Panel, rows: Sequence[_Row]) -> None:
    words = rows[0].measure.words
    here.record.what = f"{words[:1].upper()}{words[1:]}, over that of the baseline with the same seed"
    read = {row.measure.name: here.values(row.measure) for row in reversed(rows)}
    drawn = [
        (row, found) for row in rows if (found := _ratios(here, row, read[row.measure.name])) is not None
    ]
    if not drawn:
        raise MissingSignalError(f"no pair of runs has the {words}")
    here.ax.axvline(1, color="#555555", linewidth=0.6, zorder=0.5)
    size, said = mpl.rcParams["lines.markersize"], []
    for place, (row, ratios) in enumerate(drawn):
        color = "#1a1a1a" if row.measure.name == rows[0].measure.name else "#6f6f6f"
        of_log = mean_interval(ratios.copy(data=np.log(ratios.values)))
        mean, low, high = (xr.DataArray(np.exp(end)) for end in (of_log.mean, of_log.low, of_log.high))
        over = MeanInterval(mean, low, high, of_log.n)
        here.ax.hlines(place, over.low, over.high, color=color, alpha=0.55, linewidth=1.6)
        here.add(
            here.ax.plot(over.mean, place, "|", color=color, markersize=2.4 * size, markeredgewidth=1.6)[0]
        )
        heights = place + np.linspace(-0.18, 0.18, ratios.size) * (ratios.size > 1)
        here.ax.plot(ratios, heights, "o", color=color, markersize=0.6 * size)
        at = {"condition": row.pair[0], "layer": printable(row.layer), "step": int(ratios.attrs["last"])}
        plain = replace(row.measure, floor=-np.inf, roof=np.inf)
        before = len(here.record.rows)
        keep_means(here, over, ratios, plain, kind=f"ratio to {printable(row.pair[1])}", **at)
        for kept in here.record.rows[before:]:
            kept["interval"] = "95 % t of the logarithm" if kept["n"] > 1 else ""
        keep_seeds(here, ratios, plain, **at)
        said.append(f"{row.name} {with_interval(over)}")
    here.ax.set_yticks(range(len(drawn)), [shown(shortened(row.name, _LETTERS)) for row, _ in drawn])
    here.ax.set_ylim(len(drawn) - 0.5, -0.5)
    here.ax.set_xscale("log")
    plain_numbers(here.ax.xaxis)
    here.ax.set_xlabel("rank, ratio to the baseline")
    here.record.say(
        f"At the last step, at each network's layer below the output: {'; '.join(said)}. "
        "Geometric mean of the ratio to the baseline, over paired seeds"
    )


def _ratios(here: Panel, row: _Row, values: xr.DataArray) -> xr.DataArray | None:
    """Return the ratio of each seed; note why a row has none."""
    if row.layer in values["layer"].values:
        at_layer = values.sel(layer=row.layer, condition=list(row.pair))
        at_end = final_values(at_layer)
        both = [of_condition(at_end, name) for name in row.pair]
        found = (both[0] / both[1]).where((both[0] > 0) & (both[1] > 0)).dropna("seed")
        if found.size:
            return found.assign_attrs(last=int(at_end["step"]))
    here.record.note(f"No ratio: {row.name} ({printable(row.layer)}).")
    return None
