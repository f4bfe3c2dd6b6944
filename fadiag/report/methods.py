"""Write a methods paragraph to paste into a paper, from what the results say of themselves."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xarray as xr

from fadiag.figures import label
from fadiag.report.differences import Difference
from fadiag.report.question import Question
from fadiag.results.provenance import of_these_runs
from fadiag.results.recorded import recorded
from fadiag.results.roles import roles
from fadiag.results.run_labels import entries_of

__all__ = ["methods"]

_DESIGNS = {
    "paired": "Conditions were compared by paired differences over shared seeds, with 95 % t intervals.",
    "crossed": "Conditions were compared by paired differences over crossed seeds (two-way random effects).",
    "unpaired": "Conditions were compared by Welch's t intervals of unpaired runs.",
}


def methods(results: xr.DataTree, question: Question, found: Sequence[Difference]) -> str:
    """Return the paragraph; each clause is true of every run, and holds only what the results say."""
    return " ".join([*_runs(results), *_signals(results, question), *_statistics(question, found)])


def _or(values: Iterable[str]) -> str:
    """Return values in words.

    >>> _or(["a"]), _or(["a", "b", "c"])
    ('a', 'a, b or c')
    """
    held = list(dict.fromkeys(values))
    return " or ".join([", ".join(held[:-1]), held[-1]]) if len(held) > 1 else "".join(held)


def _runs(results: xr.DataTree) -> Iterator[str]:
    labels = {
        str(run) for node in results.subtree if "run" in node.coords for run in node.coords["run"].values
    }
    models, data = entries_of(results, "model"), entries_of(results, "dataset")
    what = (f" of {_or(models)}" if models else "") + (f" on {_or(data)}" if data else "")
    names = ", ".join(map(label, roles(results).conditions))
    seeds = entries_of(results, "seed")
    over = f", with seeds {', '.join(seeds)}" if seeds else ""
    runs = f"{len(labels)} runs" if len(labels) > 1 else "one run"
    yield f"We recorded {runs}{what}, of the conditions {names}{over}."
    entries = recorded(results)
    made = {
        key: _or(own[key] for own in entries.values())
        for key in ("versions.fadiag", "versions.torch", "device")
        if entries and all(own.get(key) for own in entries.values())
    }
    parts = [f"fadiag {made['versions.fadiag']}"] if "versions.fadiag" in made else []
    parts += [f"PyTorch {made['versions.torch']}"] if "versions.torch" in made else []
    on = f" on {made['device']}" if "device" in made else ""
    if parts:
        yield f"Signals were recorded with {' and '.join(parts)}{on}."
    if versions := str(results.attrs.get("versions", "")):
        yield f"They were measured offline with {versions}."


def _signals(results: xr.DataTree, question: Question) -> Iterator[str]:
    if not question.stream:
        return
    variable = results[question.stream].to_dataset()[question.metric]
    attrs = of_these_runs(variable)
    formula = f", {attrs['formula']}" if attrs.get("formula") else ""
    source = f" ({attrs['source']})" if attrs.get("source") else ""
    where = f" at layer {question.layer}" if question.layer else ""
    yield f"The primary metric is the {question.words}{formula}{source}{where}."
    parts = []
    if attrs.get("samples"):
        parts.append(f"N = {attrs['samples']} samples".replace(", ", " or "))
    if attrs.get("split"):
        parts.append(f"the probe '{attrs['split']}'".replace(", ", "' or '"))
    if attrs.get("probe_mode"):
        parts.append(f"the network in {attrs['probe_mode']} mode".replace(", ", " or "))
    if parts:
        yield f"It was measured on {', '.join(parts)}."
    if attrs.get("matrix"):
        centered = {0: ", not centered", 1: ", with the mean row removed"}.get(attrs.get("centered", -1), "")
        yield f"Its matrix has {attrs['matrix']}{centered}."
    draws = f"{question.metric}_{{}}_draws"
    held = results[question.stream].data_vars
    for stem, words in (("gate_null", "gate null"), ("null", "null")):
        name = draws.format(stem)
        drawn = held[name].values if name in held else np.empty(0)
        counts = [str(int(n)) for n in np.unique(drawn[drawn > 0])]
        if counts:
            about = f": {held[name].attrs['null']}" if "null" in held[name].attrs else ""
            yield f"Its {words} has {_or(counts)} draws{about}."


def _statistics(question: Question, found: Sequence[Difference]) -> Iterator[str]:
    yield "The unit is the run: values are those of the last recorded step that all compared runs share."
    designs = dict.fromkeys(row.design for row in found if row.design in _DESIGNS and np.isfinite(row.low))
    yield from (_DESIGNS[design] for design in designs)
    if any(np.isfinite(row.p) for row in found):
        yield "P-values are two-sided, from sign flips over pairs, with the largest t over layers (max-T)."
    declared = "was declared before the runs" if question.is_declared else "was not declared before the runs"
    yield f"The primary metric {declared}."
