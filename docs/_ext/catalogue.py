"""Make the lists of all metrics and signals from the tables of the code, with the directive `catalogue`."""

import re
from collections.abc import Iterable, Iterator

from docutils.nodes import Node
from fadiag.analysis.metrics.alignment import ALIGNMENT_METRICS
from fadiag.analysis.metrics.conservation import CONSERVATION_METRICS
from fadiag.analysis.metrics.metric import LAYERS, OF_ZEROS, Metric
from fadiag.analysis.metrics.paths import PATH_METRICS
from fadiag.analysis.metrics.rank import RANK_METRICS
from fadiag.analysis.metrics.subspaces import SUBSPACE_METRICS
from fadiag.analysis.metrics.table import TABLE
from fadiag.analysis.metrics.trajectory import TRAJECTORY_METRICS
from fadiag.analysis.metrics.weights import WEIGHT_METRICS
from fadiag.results.null_values import NULL_WORDS
from fadiag.signals import NULL_STATISTICS, NULLS, PARTS, SIGNALS, nulls_of
from sphinx.util.docutils import SphinxDirective

_FAMILIES: dict[str, tuple[Metric, ...]] = {
    "rank": RANK_METRICS,
    "alignment": tuple(
        metric for metric in ALIGNMENT_METRICS if metric not in SUBSPACE_METRICS
    ),
    "subspaces": SUBSPACE_METRICS,
    "weights": (*WEIGHT_METRICS, *CONSERVATION_METRICS),
    "paths": PATH_METRICS,
    "trajectory": TRAJECTORY_METRICS,
}
assert sum(map(len, _FAMILIES.values())) == len(TABLE), (
    "a family of metrics is not in the catalogue"
)
#: The end of a rank's name in words: raw and centered forms share an entry.
_FORM = re.compile(r", (raw|centered)$")
_SHAPES = {"sample": "one number per sample", "scalar": "one number"}


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _pattern(metric: Metric) -> tuple[str, str, str]:
    """Return name, words and formula with the signal as a placeholder, the same for all signals."""
    signal = metric.signals[0]
    if not metric.name.startswith(f"{signal}_") or metric.layers != "all":
        return metric.name, metric.long_name, metric.formula
    words = metric.long_name.replace(f"{signal}_bp", "<signal>_bp").replace(
        signal, "<signal>"
    )
    name = metric.name.replace(signal, "<signal>", 1)
    return name, words.replace("<signal>_bp", "its twin"), metric.formula


def _nulls(metric: Metric) -> str:
    if metric.null is None:
        return ""
    if metric.null_definition:
        return "`null_`"
    own = {
        null
        for statistic in NULL_STATISTICS
        for null, array in nulls_of(metric.signals[0], statistic).items()
        if array in metric.null_signals
    }
    return _code(f"{NULLS[null].prefix}null_" for null in NULLS if null in own)


def _metrics(family: str) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Metric]] = {}
    for metric in _FAMILIES[family]:
        _, words, formula = _pattern(metric)
        groups.setdefault((_FORM.sub("", words), formula), []).append(metric)
    for (words, formula), metrics in groups.items():
        first, signals = (
            metrics[0],
            dict.fromkeys(metric.signals[0] for metric in metrics),
        )
        alone = len(signals) == 1
        yield _code(dict.fromkeys(m.name if alone else _pattern(m)[0] for m in metrics))
        said = (
            _FORM.sub("", first.long_name)
            if alone
            else words.replace("<signal>", "signal")
        )
        yield f": {said}".replace("*", r"\*")
        yield f": `{formula.removesuffix(OF_ZEROS)}`"
        facts = [] if alone else [f"**Signals**: {_code(signals)}"]
        facts += [
            f"**Streams**: {', '.join(dict.fromkeys(k for m in metrics for k in m.kinds))}"
        ]
        facts += (
            [f"**Layers**: {LAYERS[first.layers]}"] if first.layers in LAYERS else []
        )
        facts += [f"**Unit**: {first.units}"] if first.units != "1" else []
        facts += [f"**Bound**: `{first.bound_formula}`"] if first.bound_formula else []
        with_null = [m for m in metrics if m.null is not None]
        if with_null:
            some = dict.fromkeys(m.signals[0] for m in with_null)
            facts += [
                f"**Nulls**: {_nulls(with_null[0])}"
                + ("" if alone else f" (of {_code(some)})")
            ]
        undefined = (
            first.undefined
            if alone
            else first.undefined.replace(f"{first.signals[0]}_bp", "the twin")
        )
        facts += [f"**NaN**: {undefined}"] if undefined else []
        facts += [f"**Source**: {first.source}"] if first.source != "definition" else []
        yield f": {'. '.join(facts)}."
        yield ""


def _signals() -> Iterator[str]:
    for signal in SIGNALS.values():
        yield f"`{signal.name}`"
        yield f": {signal.definition}".replace("*", r"\*").replace("_", r"\_")
        facts = [
            f"**Taken at**: {signal.taken_at}",
            f"**Streams**: {', '.join(signal.streams)}",
        ]
        facts += [
            f"**Shape**: {_SHAPES.get(signal.shape, f'that of the {signal.shape}')}"
        ]
        facts += [f"**Exact twin**: `{signal.twin}`"] if signal.twin else []
        facts += ["**Needs** a known gate"] if signal.needs_gate else []
        facts += ["**Needs** the optimizer"] if signal.needs_optimizer else []
        facts += ["**On request** only"] if signal.optional else []
        yield f": {'. '.join(facts)}."
        yield ""


def _parts() -> Iterator[str]:
    yield "| array | what it holds |\n|---|---|"
    for part in PARTS.values():
        yield f"| `<signal>_{part.name}` | {part.definition.replace('|', chr(92) + '|')} |"


def _null_arrays() -> Iterator[str]:
    for null in NULLS.values():
        yield f"`{null.name}_...`\n: {null.definition}\n"
        yield "  | array | what it holds, of each draw |\n  |---|---|"
        for statistic in null.statistics:
            words = NULL_STATISTICS[statistic].replace("|", r"\|")
            yield f"  | `{null.name}_{statistic}` | {words} |"
        yield ""


def _null_words() -> Iterator[str]:
    yield "| suffix | what it holds |\n|---|---|"
    for name, words in NULL_WORDS.items():
        yield f"| `_{name}` | {words} |"


_LISTS = {
    "signals": _signals,
    "parts": _parts,
    "null-arrays": _null_arrays,
    "null-words": _null_words,
}


class Catalogue(SphinxDirective):
    """The entries of one list: a family of metrics, signals, parts, null-arrays or null-words."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return the parsed entries."""
        (asked,) = self.arguments
        lines = _LISTS[asked]() if asked in _LISTS else _metrics(asked)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app):
    """Add the directive."""
    app.add_directive("catalogue", Catalogue)
    return {"parallel_read_safe": True}
