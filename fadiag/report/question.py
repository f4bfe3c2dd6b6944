"""Question is what a report asks of its results: a metric, a layer and the conditions to compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import xarray as xr

from fadiag.errors import InputError
from fadiag.figures import label
from fadiag.figures.base.layers import primary_layer
from fadiag.results.null_values import is_companion
from fadiag.results.roles import roles
from fadiag.results.run_labels import as_text, is_missing
from fadiag.results.variables import find_variable, streams_of

__all__ = ["Declared", "Question", "ask", "declared_of", "entries_of"]

#: Without a declared metric, the first of these that the results hold is the primary one.
_USUAL = ("error_effective_rank_raw", "error_participation_ratio_raw", "error_cosine", "test_accuracy")


@dataclass(frozen=True)
class Declared:
    """What a study declared before its runs, and how it was started.

    Parameters
    ----------
    question : str
        The question in words.
    metric, layer : str
        The primary metric and layer; "" takes those in the meta of the runs.
    contrast : (str, str), optional
        The condition and its baseline.
    tail : str
        The expected sign of the difference: ``lower``, ``upper`` or ``both``.
    edges : sequence of str
        The conditions whose best learning rate is at the edge of the search.
    command, commit : str
        The command that made the runs or the report, and the commit of the code.

    Examples
    --------
    >>> Declared(metric="error_cosine", contrast=("fa", "bp")).tail
    'both'
    """

    question: str = ""
    metric: str = ""
    layer: str = ""
    contrast: tuple[str, str] | None = None
    tail: str = "both"
    edges: Sequence[str] = ()
    command: str = ""
    commit: str = ""


def declared_of(entries: Mapping[str, Any] | None) -> Declared:
    """Return a declaration from its entries.

    Raises
    ------
    InputError
        An entry has no place in a declaration.
    """
    known = [field.name for field in fields(Declared)]
    if unknown := [str(key) for key in entries or {} if key not in known]:
        raise InputError(f"a report declares no {unknown[0]!r}; there are {', '.join(known)}")
    return Declared(**(entries or {}))


@dataclass(frozen=True)
class Question:
    """The question of a report, as it can be asked of its results.

    ``stream`` is "" if the results do not hold the metric. ``treated`` are the conditions to compare with the
    baseline; if it is empty, ``alone`` says why.
    """

    text: str
    metric: str
    words: str
    stream: str
    layer: str
    treated: tuple[str, ...]
    baseline: str
    alone: str
    is_declared: bool
    declared: Declared

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs (condition, baseline)."""
        return tuple((name, self.baseline) for name in self.treated)


def entries_of(results: xr.DataTree, name: str) -> list[str]:
    """Return the distinct entries of the runs under a name, as texts; runs without one are left out."""
    return list(
        dict.fromkeys(
            as_text(value)
            for node in results.children.values()
            if name in node.coords and node.coords[name].dims == ("run",)
            for value in node.coords[name].values
            if not is_missing(value)
        )
    )


def ask(results: xr.DataTree, declared: Declared) -> Question:
    """Return the question: the declared one, else that of the runs' meta, else of the first usual metric."""
    of_meta = entries_of(results, "primary_metric")
    metric = declared.metric or (of_meta[0] if len(of_meta) == 1 else "")
    is_declared = bool(metric)
    metric = metric or _usual(results)
    found = find_variable(results, metric, streams_of(results, [metric]))
    layer, words = "", metric.replace("_", " ")
    if found is not None:
        words = str(found[1].attrs.get("long_name", words))
        if "layer" in found[1].dims:
            held = [str(name) for name in found[1]["layer"].values]
            layer = next((n for n in (declared.layer, primary_layer(results)) if n in held), held[-1])
    treated, baseline, alone = _sides(results, declared)
    where = f", at layer {layer}," if layer else ""
    text = f"What is the {words}{where.rstrip(',')}?"
    if treated:
        text = f"Does the {words}{where} differ from that of {label(baseline)} under "
        text += f"{', '.join(map(label, treated))}?"
    return Question(
        *(declared.question or text, metric, words, "" if found is None else found[0], layer),
        *(treated, baseline, alone, is_declared, declared),
    )


def _usual(results: xr.DataTree) -> str:
    held = [str(name) for node in results.children.values() for name in node.data_vars]
    others = [name for name in held if not is_companion(name)]
    return next((name for name in (*_USUAL, *others) if name in held), _USUAL[0])


def _sides(results: xr.DataTree, declared: Declared) -> tuple[tuple[str, ...], str, str]:
    """Return the conditions to compare, their baseline, and why there are none."""
    found = roles(results)
    if declared.contrast is not None:
        treated, baseline = declared.contrast
        gone = [label(name) for name in (treated, baseline) if name not in found.conditions]
        why = f"the results hold no run of {' and '.join(gone)}" if gone else ""
        return ((), "", why) if gone else ((treated,), baseline, "")
    if len(found.conditions) < 2:
        return (), "", "there is one condition"
    if not found.baselines:
        return (), "", "no condition has the rule 'bp', so none is the baseline"
    if len(found.baselines) > 1:
        names = ", ".join(map(label, found.baselines))
        return (), "", f"several conditions have the rule 'bp' ({names}), so none is the baseline"
    return tuple(name for name in found.conditions if name != found.baselines[0]), found.baselines[0], ""
