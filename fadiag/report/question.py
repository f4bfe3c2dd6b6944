"""Question is what a report asks of its results: a metric, a layer and the conditions to compare."""

from dataclasses import dataclass

import xarray as xr

from fadiag.figures import label
from fadiag.figures.base.layers import primary_layer
from fadiag.results.null_values import is_companion
from fadiag.results.roles import roles
from fadiag.results.run_labels import entries_of
from fadiag.results.variables import find_variable, streams_of

__all__ = ["Question", "ask"]

#: Without a declared metric, the first of these that the results hold is the primary one.
_USUAL = ("error_effective_rank_raw", "error_participation_ratio_raw", "error_cosine", "test_accuracy")


@dataclass(frozen=True)
class Question:
    """The question of a report, as it can be asked of its results.

    ``stream`` is "" if the results do not hold the metric. ``treated`` are the conditions to compare with the
    baseline; if it is empty, ``alone`` says why. ``tail`` is the expected side of the difference: ``lower``,
    ``upper`` or ``both``.
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
    tail: str

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs (condition, baseline)."""
        return tuple((name, self.baseline) for name in self.treated)


def ask(results: xr.DataTree) -> Question:
    """Return the question that the runs' meta declares, else one of the first usual metric.

    A study writes its question, metric, layer, contrast and tail into its results, as entries of each run:
    ``question``, ``primary_metric``, ``primary_layer``, ``primary_condition``, ``primary_baseline`` and
    ``primary_tail``. Without a contrast, every condition is compared with the one whose rule is "bp".
    """
    metric = _only(results, "primary_metric")
    is_declared = bool(metric)
    metric = metric or _usual(results)
    found = find_variable(results, metric, streams_of(results, [metric]))
    layer, words = "", metric.replace("_", " ")
    if found is not None:
        words = str(found[1].attrs.get("long_name", words))
        if "layer" in found[1].dims:
            held = [str(name) for name in found[1]["layer"].values]
            layer = own if (own := primary_layer(results)) in held else held[-1]
    treated, baseline, alone = _sides(results)
    where = f", at layer {layer}," if layer else ""
    text = f"What is the {words}{where.rstrip(',')}?"
    if treated:
        text = f"Does the {words}{where} differ from that of {label(baseline)} under "
        text += f"{', '.join(map(label, treated))}?"
    return Question(
        *(_only(results, "question") or text, metric, words, "" if found is None else found[0], layer),
        *(treated, baseline, alone, is_declared, _only(results, "primary_tail") or "both"),
    )


def _only(results: xr.DataTree, name: str) -> str:
    """Return the entry that all runs with one share; "" if there is none or several."""
    held = entries_of(results, name)
    return held[0] if len(held) == 1 else ""


def _usual(results: xr.DataTree) -> str:
    held = [str(name) for node in results.children.values() for name in node.data_vars]
    others = [name for name in held if not is_companion(name)]
    return next((name for name in (*_USUAL, *others) if name in held), _USUAL[0])


def _sides(results: xr.DataTree) -> tuple[tuple[str, ...], str, str]:
    """Return the conditions to compare, their baseline, and why there are none."""
    found = roles(results)
    treated, baseline = (_only(results, f"primary_{side}") for side in ("condition", "baseline"))
    if treated and baseline:
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
