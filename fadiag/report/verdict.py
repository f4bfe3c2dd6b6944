"""Verdict is the box at the top of a report: the question, the answer, and what does not follow from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import label
from fadiag.figures.words.glossary import defined
from fadiag.figures.words.nulls import beyond_null
from fadiag.figures.words.sentences import each, number
from fadiag.figures.words.shared import plain
from fadiag.report.differences import Difference
from fadiag.report.question import Question
from fadiag.results import by_condition, final_values
from fadiag.results.left_out import left_out
from fadiag.results.roles import roles
from fadiag.results.run_labels import entries_of
from fadiag.spectra.statistics.sign_flip import FEWEST

__all__ = ["Verdict", "answer", "verdict"]

_EXPECTED = {"lower": "lower", "upper": "higher"}
_NULLS = {"gate_null": "gate null", "null": "null"}


@dataclass(frozen=True)
class Verdict:
    """What the box says: the question, facts as (name, text), the numbers, one answer, and its limits."""

    question: str
    facts: tuple[tuple[str, str], ...]
    numbers: tuple[str, ...]
    nulls: tuple[str, ...]
    answer: str
    limits: tuple[str, ...]


def verdict(results: xr.DataTree, question: Question, found: Sequence[Difference]) -> Verdict:
    """Return the verdict on results, from their primary differences."""
    primary = [row for row in found if (row.variable, row.layer) == (question.metric, question.layer)]
    known = {(row.treated, row.baseline) for row in primary}
    lost = [pair for pair in question.contrasts if pair not in known]
    primary += [
        Difference(*pair, question.metric, question.layer, note=_why(found, pair, question)) for pair in lost
    ]
    values = _values(results, question)
    # Said once, if it is true of all.
    common = primary[0].note if len(primary) > 1 and len({row.note for row in primary}) == 1 else ""
    numbers = tuple(_difference(row, common) for row in primary) or _means(values, question)
    numbers += (f"Of all: {common}.",) if common else ()
    return Verdict(
        question.text,
        tuple(_facts(results, question)),
        numbers,
        tuple(_nulls(results, question, values)),
        # A run that could not be measured at all may belong to any condition.
        answer(question, primary, lost=any(not record.name for record in left_out(results))),
        tuple(_limits(results, question, primary)),
    )


def _why(found: Sequence[Difference], pair: tuple[str, str], question: Question) -> str:
    own = [
        row.note for row in found if (row.treated, row.baseline) == pair and row.variable == question.metric
    ]
    return next(filter(None, own), "there is no value to compare")


def _facts(results: xr.DataTree, question: Question) -> Iterator[tuple[str, str]]:
    data = ", ".join(entries_of(results, "dataset")) or "not stated by the runs"
    held = [results[question.stream][question.metric].attrs] if question.stream else []
    for attrs in held:
        data += f", probe '{attrs['split']}'" if attrs.get("split") else ""
        data += f", N = {attrs['samples']}" if "samples" in attrs else ""
    yield "Data", data
    norms = entries_of(results, "norm")
    model = ", ".join(entries_of(results, "model")) or "not stated by the runs"
    yield "Model", f"{model}; norm: {' or '.join(norms)}" if set(norms) - {"none"} else model
    runs = {str(run) for node in results.subtree if "run" in node.coords for run in node.coords["run"].values}
    names, seeds = roles(results).conditions, entries_of(results, "seed")
    kinds = f"{len(names)} condition{'s' * (len(names) != 1)}"
    yield "Runs", f"n = {len(runs)}: {kinds}, {len(seeds) or 'no known'} seed{'s' * (len(seeds) != 1)}"
    where = f" at layer {question.layer}" if question.layer else ""
    by = "declared before the runs" if question.is_declared else "chosen by this report, not declared"
    yield "Primary metric", f"{question.words}{where} ({by})"


def _difference(row: Difference, common: str) -> str:
    """Return a difference in one line, with interval, p-value, pairs and the note that only it has."""
    note = f" ({row.note})" if row.note not in ("", common) else ""
    pair = f"{label(row.treated)} − {label(row.baseline)}"
    if not np.isfinite(row.difference):
        return f"{pair}: no value{note}"
    text = f"{pair} = {number(row.difference)}"
    text += f", 95 % interval [{number(row.low)}, {number(row.high)}]" if np.isfinite(row.low) else ""
    text += f", p = {number(row.p)}" if np.isfinite(row.p) else ""
    unit = {"paired": "paired seed", "crossed": "pair"}.get(row.design, "run")
    return f"{text}, {row.runs} {unit}{'s' * (row.runs != 1)}{note}"


def _values(results: xr.DataTree, question: Question) -> xr.DataArray | None:
    if not question.stream:
        return None
    try:
        return by_condition(results, question.metric, stream=question.stream)
    except FadiagError:  # several runs of one condition and seed
        return None


def _means(values: xr.DataArray | None, question: Question) -> tuple[str, ...]:
    """Return the mean of each condition, if there is nothing to compare."""
    if values is None:
        return ()
    at_end = final_values(values)
    here = at_end.sel(layer=question.layer) if "layer" in at_end.dims else at_end
    return (plain(each(here, [str(name) for name in here["condition"].values])),)


def _nulls(results: xr.DataTree, question: Question, values: xr.DataArray | None) -> Iterator[str]:
    """Yield for each recorded null how many runs are beyond it."""
    if values is None or "layer" not in values.dims:
        return
    names = [str(name) for name in values["condition"].values]
    known = False
    for stem, usual in _NULLS.items():
        ends = [f"{question.metric}_{stem}_{end}" for end in ("low", "high")]
        if not all(end in results[question.stream].data_vars for end in ends):
            continue
        low, high = (by_condition(results, end, stream=question.stream).reindex_like(values) for end in ends)
        redrawn = stem == "null" and str(low.attrs.get("draws_of", "")).startswith("error_null")
        words = "null of redrawn feedback" if redrawn else usual
        if text := beyond_null(values, low, high, words, names, layer=question.layer):
            known = True
            meaning = defined([words]) or "The counts are outside of its central 95 %."
            yield f"{plain(text)}. {meaning.removesuffix('.')}"
    if not known:
        yield "No null of the primary metric was recorded, so the level of chance is unknown"


def answer(question: Question, primary: Sequence[Difference], *, lost: bool = False) -> str:
    """Return the answer to the question in one sentence; if a run was `lost`, nothing is found."""
    if not question.stream:
        return f"There is no answer: the results hold no {question.metric}."
    if not primary:
        return f"Nothing is compared: {question.alone}."
    groups: dict[str, list[str]] = {}
    for row in primary:
        groups.setdefault(_side(row, lost), []).append(label(row.treated))
    where = f", at layer {question.layer}," if question.layer else ""
    expected = _EXPECTED.get(question.tail, "")
    parts = []
    for side, names in groups.items():
        asked = ""
        if expected and side in _EXPECTED.values():
            asked = ", as expected" if side == expected else ", against the expectation"
        parts.append(f"{side} under {_listed(names)}{asked}")
    return (
        f"Compared with {label(question.baseline)}, the {question.words}{where} is {'; it is '.join(parts)}."
    )


def _side(row: Difference, lost: bool) -> str:
    if not np.isfinite(row.difference):
        return "unknown"
    if not np.isfinite(row.low):
        return "not shown to differ, since there is no interval,"
    if row.spans_zero:
        return "not detectably different"
    if lost or not row.differs:
        return "unclear, since runs are missing,"
    return "lower" if row.high < 0 else "higher"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _limits(results: xr.DataTree, question: Question, primary: Sequence[Difference]) -> Iterator[str]:
    """Yield what cannot be concluded."""
    if not question.is_declared:
        yield "No metric was declared before the runs, so this is an exploration and not a test."
    if any(row.spans_zero for row in primary):
        yield "An interval that holds zero does not show that there is no difference."
    pairs = [row.runs for row in primary]
    if pairs and min(pairs) < FEWEST:
        yield f"With fewer than {FEWEST} pairs there is no p-value; a difference may exist and not be seen."
    if len(primary) > 1:
        yield f"Each interval holds its 95 % alone; with {len(primary)} contrasts one may miss by chance."
    if left_out(results):
        yield "Something was left out of the results, and it may not be missing at random."
    if question.layer:
        yield "The answer is of one metric at one layer and one step; others may differ."
    yield (
        f"The runs are of {_few(results, 'dataset', 'data set')} and {_few(results, 'model', 'model')}; "
        "others may give another answer."
    )


def _few(results: xr.DataTree, name: str, words: str) -> str:
    return ", ".join(entries_of(results, name)) or f"one {words} that they do not name"
