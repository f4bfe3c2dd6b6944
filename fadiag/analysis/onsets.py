"""Find the step at which a signal becomes aligned, for each run and layer, and the median over runs."""

import numpy as np
import xarray as xr

from fadiag import spectra
from fadiag.errors import InputError, MissingSignalError

__all__ = ["alignment_onset", "onset_median"]

_ALPHA = 0.05
#: The fewest records that `fadiag.spectra.onset` accepts.
_FEWEST = 5


def alignment_onset(
    results: xr.DataTree, variable: str = "error_cosine", *, stream: str | None = None
) -> xr.Dataset:
    """Return the first step from which a statistic exceeds its null for max(5, 5 % of T) records in a row.

    T is the number of records of a run. At each of these records the p-value must be at most 0.05 / T: the
    statistic must reach the (1 - 0.05/T) quantile of the draws. The p-value is that of the upper tail. For an
    angle it is that of the lower tail, since alignment makes an angle smaller. A run without an onset is
    censored at its last record. So is a run or layer with fewer than five records, if any other has five or
    more.

    Parameters
    ----------
    results : DataTree
        From `fadiag.analysis.analyze`.
    variable : str
        A variable with a null, such as ``error_cosine``, ``error_overlap`` or ``weight_feedback_cosine``.
    stream : str, optional
        The stream to read. By default the first stream that holds the variable and its null; a probe comes
        before other streams.

    Returns
    -------
    xarray.Dataset
        ``step`` and ``observed`` (run, layer). For a layer without the statistic ``step`` is NaN; the
        attribute ``not_a_number`` gives the reason.

    Raises
    ------
    MissingSignalError
        There is no such variable or stream, or the variable has no null.
    InputError
        Every run has fewer than five records, or a record has fewer than T / 0.05 - 1 draws. Then no p-value
        can be small enough.

    Examples
    --------
    >>> p = [1.0] * 2 + [0.001] * 8
    >>> dims = ("run", "layer", "step")
    >>> group = xr.Dataset({"x": (dims, [[p]]), "x_null_p": (dims, [[p]])},
    ...                    {"run": ["fa"], "layer": ["fc"], "step": range(10)})
    >>> found = alignment_onset(xr.DataTree.from_dict({"/probe": group}), "x")
    >>> float(found["step"].item()), bool(found["observed"].item())
    (2.0, True)
    """
    dataset = _dataset(results, variable, stream)
    tail = "null_p_low" if dataset[variable].attrs.get("units") == "degree" else "null_p"
    p = dataset[f"{variable}_{tail}"].transpose("run", "layer", "step").values
    draws = dataset.get(f"{variable}_null_draws")
    counts = None if draws is None else draws.transpose("run", "layer", "step").values
    steps = np.asarray(dataset["step"].values)
    at, observed = np.full(p.shape[:2], np.nan), np.zeros(p.shape[:2], np.bool_)
    short = (~np.isnan(p)).sum(axis=-1).max() < _FEWEST  # every run is too short for an onset
    for run, layer in np.argwhere(~np.isnan(p).all(axis=-1)):
        known = ~np.isnan(p[run, layer])
        span = slice(np.argmax(known), len(known) - np.argmax(known[::-1]))
        if np.count_nonzero(known) < _FEWEST and not short:
            at[run, layer] = steps[span][-1]  # too short for an onset: censored
            continue
        bound, where = _ALPHA / np.count_nonzero(known), f"run {dataset['run'].values[run]}, "
        where += f"layer '{dataset['layer'].values[layer]}'"
        if counts is not None:
            _check_draws(counts[run, layer][known], int(np.count_nonzero(known)), f"{variable} of {where}")
        # A p-value is a share of draws, so one that equals the bound up to rounding reaches it.
        # A record without a value between others does not reach it.
        reached = (p[run, layer][span] <= bound * (1 + 1e-9)).astype(np.float64)
        try:
            found = spectra.onset(reached, 0.5, steps[span])
        except InputError as cause:
            raise InputError(f"{variable} of {where}: {cause}") from None
        at[run, layer], observed[run, layer] = found
    attributes = {
        "long_name": f"onset of {variable}, or the last record if there is no onset",
        "units": "updates",
        "formula": f"first step of max(5, 5 %) records in a row with {tail} <= {_ALPHA} / T",
    }
    if np.isnan(at).any():
        attributes["not_a_number"] = f"a run or layer without {variable} or its null"
    onsets = xr.Dataset(
        {"step": (("run", "layer"), at, attributes), "observed": (("run", "layer"), observed)}
    )
    return onsets.assign_coords({k: v for k, v in dataset.coords.items() if "step" not in v.dims})


def onset_median(onsets: xr.Dataset) -> xr.Dataset:
    """Return the Kaplan-Meier median of the onset over runs, by layer; runs without an onset are censored.

    Parameters
    ----------
    onsets : xarray.Dataset
        From `alignment_onset`. Select the runs of one condition first:
        ``onsets.isel(run=onsets["condition"].values == "fa")``.

    Returns
    -------
    xarray.Dataset
        ``median`` (layer), which is infinite if fewer than half the runs have an onset. ``runs`` and
        ``observed`` are the number of runs, and of those with an onset.

    Examples
    --------
    >>> dims = ("run", "layer")
    >>> step, observed = [[10.0], [20.0], [90.0]], [[True], [True], [False]]
    >>> found = xr.Dataset({"step": (dims, step), "observed": (dims, observed)})
    >>> float(onset_median(found)["median"].item())
    20.0
    """
    steps, seen = (onsets[name].transpose("run", "layer").values for name in ("step", "observed"))
    known = ~np.isnan(steps)
    medians = np.full(steps.shape[1], np.nan)
    for layer in np.flatnonzero(known.any(axis=0)):
        here = known[:, layer]
        medians[layer] = spectra.kaplan_meier(steps[here, layer], seen[here, layer]).median
    attributes = {"long_name": "Kaplan-Meier median of the onset", "units": "updates"}
    if np.isnan(medians).any():
        attributes["not_a_number"] = "a layer without the statistic or its null in any run"
    return xr.Dataset(
        {
            "median": ("layer", medians, attributes),
            "runs": ("layer", known.sum(axis=0)),
            "observed": ("layer", (seen & known).sum(axis=0)),
        },
        {"layer": onsets["layer"]} if "layer" in onsets.coords else None,
    )


def _dataset(results: xr.DataTree, variable: str, stream: str | None) -> xr.Dataset:
    """Return the group that holds the variable and its null, a probe first."""
    if stream is not None and stream not in results.children:
        raise MissingSignalError(
            f"no stream {stream!r} in the results; there are {', '.join(map(str, results.children))}"
        )
    nodes = [results.children[stream]] if stream is not None else list(results.children.values())
    holding = [node for node in nodes if variable in node.data_vars]
    if not holding:
        where = "the results" if stream is None else f"stream {stream!r} of the results"
        raise MissingSignalError(f"no variable {variable!r} in {where}; analyze the runs with it")
    with_null = [node for node in holding if f"{variable}_null_p" in node.data_vars]
    if not with_null:
        raise MissingSignalError(
            f"{variable} has no null in these results: record redraws (Probe(redraws=...)), "
            "or take a variable that has a null, such as weight_feedback_cosine"
        )
    return min(with_null, key=lambda node: node.attrs.get("kind", node.name) != "probe").to_dataset()


def _check_draws(counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]], steps: int, what: str) -> None:
    needed = round(steps / _ALPHA) - 1
    if counts.min() < needed:
        raise InputError(
            f"{what} has {counts.min():.0f} draws at {steps} records; "
            f"p <= 0.05 / {steps} needs {needed} or more: redraw more often, or judge fewer steps"
        )
