"""Compare a metric of two conditions at the training loss that both runs of a pair reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.results.by_condition import by_condition, of_condition
from fadiag.results.select import select
from fadiag.results.without_value import runs_of
from fadiag.spectra import Interval, paired_t_interval

__all__ = ["MatchedLoss", "MatchedPair", "at_matched_loss"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MatchedPair:
    """The two runs of a seed at one training loss: the step at which each reaches it, and the metric there.

    Steps are interpolated between records, so they need not be whole.

    Examples
    --------
    >>> MatchedPair(0, level=0.5, step=30.0, baseline_step=10.0, value=7.0, baseline_value=9.0).difference
    -2.0
    """

    seed: int | str
    level: float
    step: float
    baseline_step: float
    value: float
    baseline_value: float

    @property
    def difference(self) -> float:
        """The metric of the condition less that of the baseline."""
        return self.value - self.baseline_value


@dataclass(frozen=True)
class MatchedLoss:
    """A comparison at matched training loss, from `at_matched_loss`.

    Attributes
    ----------
    pairs : tuple of MatchedPair
        One for each seed whose runs have a common loss.
    left_out : mapping
        Why a seed has no pair.
    interval : Interval, optional
        The mean difference with its 95 % t interval over the pairs; None below two pairs.

    Examples
    --------
    >>> MatchedLoss(pairs=(), left_out={0: "fa has no run of this seed"}, interval=None).left_out[0]
    'fa has no run of this seed'
    """

    pairs: tuple[MatchedPair, ...]
    left_out: Mapping[int | str, str]
    interval: Interval | None


@dataclass(frozen=True)
class _Curve:
    """The records of a run at which the metric has a value, and the smoothed training loss of each."""

    steps: Floats
    losses: Floats
    values: Floats

    def first_at(self, level: float) -> tuple[float, float] | None:
        """Return the step and the value of the first crossing; None if all of the curve is below."""
        after = int(np.argmax(self.losses <= level))
        if after == 0:
            at_start = bool(self.losses[0] == level)
            return (float(self.steps[0]), float(self.values[0])) if at_start else None
        before = after - 1
        fall = self.losses[before] - self.losses[after]
        share = (self.losses[before] - level) / fall
        step, value = (
            float((1 - share) * of[before] + share * of[after]) for of in (self.steps, self.values)
        )
        return step, value


def at_matched_loss(
    results: xr.DataTree,
    metric: str,
    condition: str,
    baseline: str,
    *,
    layer: str | None = None,
    loss: str = "loss",
) -> MatchedLoss:
    """Compare a metric of two conditions at equal training loss, in pairs of runs of one seed.

    Two conditions that learn at different speed differ at their last step for that reason alone. This
    comparison takes each pair at the lowest loss that both of its runs reach.

    - The loss of a record is the mean of the losses logged since the record before: those of the batches at
      steps p to r - 1, if p and r are the two records. So it lags by half their distance, in both runs alike.
      The first record has the loss that was logged at its own step.
    - The level of a pair is the larger one of the two lowest losses of its runs. For losses that fall all the
      time, it is the larger one of the two last losses.
    - A run is taken at its first crossing of the level. Between two records step and metric are linear in the
      loss, which holds for any loss, also one of zero. The run whose lowest loss is the level is taken at a
      record.

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`, of runs that logged their loss at every step.
    metric : str
        Name of a variable, such as ``error_effective_rank_raw``.
    condition, baseline : str
        Differences are condition - baseline.
    layer : str, optional
        The layer of the metric; a logged value has none.
    loss : str
        Name of the logged training loss.

    Returns
    -------
    MatchedLoss

    Raises
    ------
    MissingSignalError
        The results hold no such metric or no such loss.
    InputError
        A condition or layer is unknown, two runs share condition and seed, or the numbers of samples differ.

    Examples
    --------
    >>> runs = {"run": ["bp-0", "fa-0"], "condition": ("run", ["bp", "fa"]), "seed": ("run", [0, 0])}
    >>> log = xr.Dataset({"loss": (("run", "step"), [[2.0, 1.0, 0.5], [2.0, 1.8, 1.0]])})
    >>> probe = xr.Dataset({"rank": (("run", "step"), [[8.0, 7.0, 4.0], [8.0, 6.0, 5.0]])})
    >>> streams = {"/log": log.assign_coords(**runs, step=[0, 1, 2])}
    >>> streams["/probe"] = probe.assign_coords(**runs, step=[1, 2, 3]).assign_attrs(kind="probe")
    >>> found = at_matched_loss(xr.DataTree.from_dict(streams), "rank", "fa", "bp").pairs[0]
    >>> found.level, found.step, found.baseline_step, found.difference
    (1.0, 3.0, 1.0, -3.0)
    """
    chosen = select(results, condition=[condition, baseline])
    values = _at_layer(by_condition(chosen, metric), layer)
    _check_samples(values, (condition, baseline))
    losses = by_condition(chosen, loss)
    pairs, left_out = [], {}
    for seed in values["seed"].values.tolist():
        found = _pair(values, losses, seed, (condition, baseline))
        if isinstance(found, str):
            left_out[seed] = found
        else:
            pairs.append(found)
    interval = None
    if len(pairs) > 1:
        interval = paired_t_interval([p.value for p in pairs], [p.baseline_value for p in pairs])
    return MatchedLoss(tuple(pairs), left_out, interval)


def _at_layer(values: xr.DataArray, layer: str | None) -> xr.DataArray:
    if "layer" not in values.dims:
        return values
    names = [str(name) for name in values["layer"].values]
    if layer not in names:
        given = "is None" if layer is None else f"{layer!r} has no {values.name}"
        raise InputError(f"layer {given}; give one of {', '.join(names)}")
    return values.isel(layer=names.index(layer))


def _check_samples(values: xr.DataArray, conditions: Sequence[str]) -> None:
    """Raise InputError if ranks of different numbers of samples would be compared."""
    of = values.attrs.get("samples_of", {})
    counts = [", ".join(of.get(name, ())) for name in conditions]
    if counts[0] != counts[1]:
        said = " and ".join(f"{n} in {name}" for n, name in zip(counts, conditions, strict=True))
        raise InputError(
            f"{values.name} is of different numbers of samples: {said}, so it "
            "cannot be compared; record equal numbers"
        )


def _pair(
    values: xr.DataArray, losses: xr.DataArray, seed: int | str, conditions: Sequence[str]
) -> MatchedPair | str:
    """Return the pair of a seed, or why there is none."""
    curves = []
    for name in conditions:
        if seed not in runs_of(values, name):
            return f"{name} has no run of this seed"
        own = of_condition(values, name).sel(seed=seed)
        if not np.isfinite(own.values).any():
            return f"{runs_of(values, name)[seed]} has no value of {values.name}"
        curve = None
        if seed in losses["seed"].values:
            curve = _curve(own, of_condition(losses, name).sel(seed=seed))
        if curve is None:
            return f"{runs_of(values, name)[seed]} logged no {losses.name} before a record of {values.name}"
        curves.append(curve)
    lowest = [float(curve.losses.min()) for curve in curves]
    level = max(lowest)
    crossings = [curve.first_at(level) for curve in curves]
    for i, crossing in enumerate(crossings):
        if crossing is None:
            return (
                f"no common loss: {conditions[i]} begins at {curves[i].losses[0]:.4g}, and "
                f"{conditions[1 - i]} does not go below {lowest[1 - i]:.4g}"
            )
    (step, value), (baseline_step, baseline_value) = (c for c in crossings if c is not None)
    return MatchedPair(seed, level, step, baseline_step, value, baseline_value)


def _curve(values: xr.DataArray, losses: xr.DataArray) -> _Curve | None:
    """Return the curve of a run; None if no record has a loss."""
    known = np.isfinite(values.values)
    steps = values["step"].values[known]
    logged = np.isfinite(losses.values)
    at, all_losses = losses["step"].values[logged], losses.values[logged]
    begins = np.concatenate([steps[:1], steps[:-1]])
    ends = np.concatenate([steps[:1] + 1, steps[1:]])
    within = [
        all_losses[a:b] for a, b in zip(np.searchsorted(at, begins), np.searchsorted(at, ends), strict=True)
    ]
    has = np.array([part.size > 0 for part in within])
    if not has.any():
        return None
    means = np.array([part.mean() for part in within if part.size])
    return _Curve(steps[has].astype(np.float64), means, values.values[known][has])
