"""List what makes the numbers of a report doubtful, from a table of rules."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.figures import label
from fadiag.report.question import Question
from fadiag.results.error_check import FAILED, UNCHECKED, doubts
from fadiag.results.left_out import left_out, told_by_run
from fadiag.results.null_values import AT_CEILING
from fadiag.results.recorded import recorded
from fadiag.results.roles import roles
from fadiag.results.run_labels import conditions_of, seeds_of
from fadiag.spectra.statistics.sign_flip import FEWEST

__all__ = ["RULES", "Alert", "Rule", "alerts"]

#: The signals whose ranks show a dead layer, and the ranks that are 0 of zeros.
_CREDIT = ("error", "modulator", "gradient", "update", "activation")
_RANKS = ("participation_ratio_raw", "effective_rank_raw", "stable_rank_raw", "effective_rank_energy_raw")
#: A rank within this share of classes - 1 is at it; norms may lift it beyond.
_NEAR = 0.01
#: From this share of N_eff on, a participation ratio is limited by it.
_NEAR_SAMPLES = 0.9
#: At most so many runs or layers are named; the others are counted.
_NAMED = 4
_BAD_ENDS = ("killed", "diverged", "unfinished", "recording")


@dataclass(frozen=True)
class Alert:
    """One doubt: what is the case, where, and what to do."""

    what: str
    where: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.advice}" if self.where else f"{self.what}: {self.advice}"


@dataclass(frozen=True)
class Rule:
    """A rule: its name, and a function that yields places (what, where) if it applies; and the advice."""

    name: str
    find: Callable[[xr.DataTree, Question], Iterable[tuple[str, str]]]
    advice: str


def alerts(results: xr.DataTree, question: Question) -> list[Alert]:
    """Return the alerts of all rules."""
    return [Alert(what, where, rule.advice) for rule in RULES for what, where in rule.find(results, question)]


def _few(names: Iterable[str]) -> str:
    """Return names without repeats, and how many more there are.

    >>> _few("aabcdef")
    'a, b, c, d and 2 more'
    """
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
    return ", ".join(unique[:_NAMED]) + more


def _streams(results: xr.DataTree) -> Iterator[xr.Dataset]:
    yield from (node.to_dataset() for node in results.children.values() if "run" in node.coords)


def _at_end(array: xr.DataArray) -> NDArray[np.float64]:
    """Return the last finite value of each run and layer, NaN where there is none."""
    values = array.transpose("run", "layer", "step").values
    finite = np.isfinite(values)
    last = finite.shape[-1] - 1 - finite[..., ::-1].argmax(axis=-1)
    ends: NDArray[np.float64] = np.take_along_axis(values, last[..., None], axis=-1)[..., 0]
    return np.where(finite.any(axis=-1), ends, np.nan)


def _where(stream: xr.Dataset, hit: NDArray[np.bool_]) -> str:
    """Return the runs and layers of a mask (run, layer) in words."""
    runs = [str(run) for run in stream["run"].values[hit.any(axis=1)]]
    layers = [str(layer) for layer in stream["layer"].values[hit.any(axis=0)]]
    noun = "run" if len(runs) == 1 else "runs"
    whose = "all runs" if len(runs) == stream.sizes["run"] else f"{noun} {_few(runs)}"
    return f"layer{'s' * (len(layers) != 1)} {_few(layers)}; {whose}"


def _variable(stream: xr.Dataset, name: str) -> xr.DataArray | None:
    return stream[name] if name in stream and set(stream[name].dims) == {"run", "layer", "step"} else None


def _dead(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    for stream in _streams(results):
        for signal in _CREDIT:
            found = (_variable(stream, f"{signal}_{rank}") for rank in _RANKS)
            array = next((one for one in found if one is not None), None)
            if array is not None and (hit := _at_end(array) == 0).any():
                yield f"The {signal} is zero at the last step", _where(stream, hit)


def _ceiling(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    for stream in _streams(results):
        for name in map(str, stream.data_vars):
            # The rank of a weight is bounded by its width, and no number of samples can raise it.
            sampled = name.endswith(AT_CEILING) and "samples" in stream[name].attrs
            array = _variable(stream, name) if sampled else None
            if array is not None and (hit := _at_end(array) == 1).any():
                rank = name.removesuffix(f"_{AT_CEILING}")
                words = stream[rank].attrs.get("long_name", rank) if rank in stream else rank
                yield f"The {words}, is within 1 % of min(N, width), its largest value", _where(stream, hit)


def _classes(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    """Find modulators at classes - 1, which bounds their rank, below the output layer."""
    if results.attrs.get("k") != "classes - 1":
        return
    for stream in _streams(results):
        bounds = {array.attrs["k"] for array in stream.data_vars.values() if "k" in array.attrs}
        array = _variable(stream, "modulator_effective_rank_raw")
        if array is None or len(bounds) != 1 or not isinstance(bound := bounds.pop(), int | np.integer):
            continue
        if (hit := abs(_at_end(array) - bound) <= _NEAR * bound).any():
            yield f"The modulator's effective rank is at classes - 1 = {bound}", _where(stream, hit)


def _samples(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    for stream in _streams(results):
        for signal in ("error", "modulator"):
            rank, bound = (
                _variable(stream, f"{signal}_{name}")
                for name in ("participation_ratio_raw", "effective_samples")
            )
            if rank is None or bound is None:
                continue
            if (hit := (ends := _at_end(rank)) > _NEAR_SAMPLES * _at_end(bound)).any() and ends.any():
                words = (
                    f"The {signal}'s participation ratio is near N_eff, the number of samples that carry it"
                )
                yield words, _where(stream, hit & (ends > 0))


def _rounding(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    for stream in _streams(results):
        array = _variable(stream, "update_trustworthy")
        if array is not None and (hit := _at_end(array) == 0).any():
            yield "Updates are below the rounding floor of the weights", _where(stream, hit)


def _status(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    ends: dict[str, list[str]] = {}
    for run, entries in recorded(results).items():
        ends.setdefault(entries.get("status", ""), []).append(run)
    for stream in _streams(results):
        if "status" in stream.coords and stream["status"].dims == ("run",):
            for run, status in zip(stream["run"].values, stream["status"].values, strict=True):
                ends.setdefault(str(status), []).append(str(run))
    for status in _BAD_ENDS:
        if status in ends:
            words = "is still being recorded" if status == "recording" else f"ended as {status}"
            yield f"A run {words}", f"runs {_few(ends[status])}"


def _left_out(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    if records := left_out(results):
        yield "The analysis left something out", "; ".join(told_by_run(records))


def _short(results: xr.DataTree, question: Question) -> Iterator[tuple[str, str]]:
    """Find runs without a value of the primary metric at the last step of the others."""
    if not question.stream:
        return
    array = results[question.stream].to_dataset()[question.metric]
    here = array.sel(layer=question.layer) if "layer" in array.dims else array
    known = np.isfinite(here.transpose("run", "step").values)
    if not known.any():
        return
    last = int(np.flatnonzero(known.any(axis=0))[-1])
    gone = [str(run) for run, held in zip(here["run"].values, known[:, last], strict=True) if not held]
    if gone:
        step = int(here["step"].values[last])
        yield f"Runs have no value of the primary metric at step {step}, where others have one", _few(gone)


def _edges(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    names = [
        name
        for stream in _streams(results)
        if "rate_at_edge" in stream.coords
        for name, edge in zip(conditions_of(stream), stream["rate_at_edge"].values, strict=True)
        if edge == "yes"
    ]
    if names:
        yield "The best learning rate is at the edge of the search", f"conditions {_few(map(label, names))}"


def _seeds(results: xr.DataTree, question: Question) -> Iterator[tuple[str, str]]:
    seeds: dict[str, set[str]] = {name: set() for name in roles(results).conditions}
    for stream in _streams(results):
        names = conditions_of(stream) or [str(run) for run in stream["run"].values]
        for name, seed in zip(names, seeds_of(stream), strict=True):
            seeds.setdefault(name, set()).add(str(seed))
    compared = [*question.treated, question.baseline] if question.treated else list(seeds)
    few = [f"{label(name)}: {len(seeds[name])}" for name in compared if len(seeds[name]) < FEWEST]
    if few:
        yield f"There are fewer than {FEWEST} seeds, too few for a p-value", f"seeds of {_few(few)}"


def _unchecked(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    yield from _checks(results, lambda verdict: verdict in ("off", UNCHECKED))


def _unclear(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    yield from _checks(results, lambda verdict: verdict not in ("off", UNCHECKED, FAILED))


def _failed(results: xr.DataTree, _: Question) -> Iterator[tuple[str, str]]:
    yield from _checks(results, lambda verdict: verdict == FAILED)


def _checks(results: xr.DataTree, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    runs: dict[tuple[str, str], list[str]] = {}
    for run, stream, verdict, words in doubts(results):
        if wanted(verdict):
            runs.setdefault((stream, words), []).append(run)
    for (stream, words), names in runs.items():
        yield words, f"runs {_few(names)}; stream {stream}"


def _unlike(results: xr.DataTree, question: Question) -> Iterator[tuple[str, str]]:
    for name in ("kept_samples", "probe_mode", "split"):
        stream = results[question.stream].to_dataset() if question.stream else xr.Dataset()
        if name not in stream.coords:
            continue
        values = list(dict.fromkeys(map(str, stream[name].values)))
        if len(values) > 1:
            yield f"Runs differ in {name.replace('_', ' ')}", _few(values)


RULES: tuple[Rule, ...] = (
    Rule("dead", _dead, "a dead layer has no direction, so leave its cosines and ranks out of any claim"),
    Rule("ceiling", _ceiling, "the true rank may be higher; record more samples or compare another rank"),
    Rule("classes", _classes, "the bound hides differences between conditions; compare the error's rank too"),
    Rule("samples", _samples, "few samples carry the error; compare the row-normalized rank too"),
    Rule("rounding", _rounding, "rounding adds rank, so draw no conclusion from the rank of these updates"),
    Rule("status", _status, "its last step is not the end of training; resume it, or leave it out"),
    Rule("left out", _left_out, "the reasons are in the table of what was left out; record these runs again"),
    Rule("short", _short, "a missing value may itself be an effect; compare what the runs did before"),
    Rule("edges", _edges, "a better rate may lie outside; make the search wider"),
    Rule("seeds", _seeds, "an interval over few seeds is wide; record more seeds"),
    Rule("unchecked", _unchecked, "comparisons with error_bp may be wrong; record again with check='attach'"),
    Rule("unclear", _unclear, "comparisons with error_bp may be wrong; check one step in float64"),
    Rule(
        "failed", _failed, "comparisons with error_bp were left out; read the check's error and mend the loss"
    ),
    Rule("unlike", _unlike, "such numbers are not comparable; analyze runs of one kind together"),
)
