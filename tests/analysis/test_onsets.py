"""Onsets of alignment: simulated runs whose truth is known, censoring, refusals."""

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import alignment_onset, analyze, onset_median
from fadiag.errors import InputError, MissingSignalError
from fadiag.spectra import onset, onset_threshold

DIMS = ("run", "layer", "step")
STEPS = np.arange(10) * 100


def results(values, draws, *, name="error_cosine"):
    """Return results of values (run, layer, step) beside draws (run, layer, step, draw)."""
    values = np.asarray(values, np.float64)
    above = (draws >= values[..., None]).sum(axis=-1)
    p = np.where(np.isnan(values), np.nan, (1 + above) / (draws.shape[-1] + 1))
    probe = xr.Dataset(
        {
            name: (DIMS, values),
            f"{name}_null_p": (DIMS, p),
            f"{name}_null_draws": (DIMS, np.full(values.shape, draws.shape[-1])),
        },
        {
            "run": [f"r{i}" for i in range(values.shape[0])],
            "layer": [f"fc{i}" for i in range(values.shape[1])],
            "step": STEPS[: values.shape[2]],
            "condition": ("run", ["fa"] * values.shape[0]),
        },
    )
    return xr.DataTree.from_dict({"/probe": probe})


def simulated(runs, *, begins, seed=0, draws=199):
    """Return runs whose cosine leaves the null at record `begins` (one a layer; None: never)."""
    rng = np.random.default_rng(seed)
    null = rng.standard_normal((runs, len(begins), len(STEPS), draws))
    values = rng.standard_normal((runs, len(begins), len(STEPS)))
    for layer, begin in enumerate(begins):
        if begin is not None:
            values[:, layer, begin:] += 100
    return values, null


def test_the_onset_is_where_it_was_put():
    found = alignment_onset(results(*simulated(4, begins=(3, None, 0))))
    assert (found["step"].sel(layer="fc0") == 300).all()
    assert (found["step"].sel(layer="fc1") == 900).all()
    assert (found["step"].sel(layer="fc2") == 0).all()
    assert found["observed"].values.tolist() == [[True, False, True]] * 4
    assert list(found["condition"].values) == ["fa"] * 4
    medians = onset_median(found)
    assert medians["median"].values.tolist() == [300, np.inf, 0]
    assert medians["observed"].values.tolist() == [4, 0, 4]


def test_it_is_the_threshold_of_the_draws():
    values, null = simulated(1, begins=(2,), seed=3)
    values[0, 0] = np.sort(null[0, 0], axis=-1)[:, -1] + np.linspace(-0.5, 0.5, 10)
    found = alignment_onset(results(values, null))
    expected = onset(values[0, 0], onset_threshold(null[0, 0]), STEPS)
    assert (found["step"].item(), found["observed"].item()) == expected


def test_under_the_null_an_onset_is_rare():
    rng = np.random.default_rng(4)
    null = rng.standard_normal((500, 1, 10, 199))
    found = alignment_onset(results(rng.standard_normal((500, 1, 10)), null))
    assert found["observed"].mean() < 0.01  # five records in a row, each with probability 0.005


def test_a_run_that_never_came_is_not_dropped():
    values, null = simulated(4, begins=(3,))
    values[2:] = -1000
    medians = onset_median(alignment_onset(results(values, null)))
    assert medians["median"].item() == 300  # two of four reached half
    values[1:] = -1000
    assert onset_median(alignment_onset(results(values, null)))["median"].item() == np.inf


def test_a_layer_without_the_statistic_says_so():
    values, null = simulated(2, begins=(3, 3))
    values[:, 1] = np.nan
    found = alignment_onset(results(values, null))
    assert found["step"].sel(layer="fc1").isnull().all()
    assert found["step"].attrs["not_a_number"] == "a run or layer without error_cosine or its null"
    assert np.isnan(onset_median(found)["median"].values[1])


def test_a_short_run_is_censored_beside_others():
    values, null = simulated(3, begins=(3,))
    values[0, :, 4:] = np.nan
    found = alignment_onset(results(values, null))
    assert found["step"].values[:, 0].tolist() == [300, 300, 300]
    assert found["observed"].values[:, 0].tolist() == [False, True, True]


def test_a_gap_is_no_part_of_a_row():
    values, null = simulated(1, begins=(2,))
    values[0, 0, 5] = np.nan  # 2, 3, 4 and 6, 7, 8, 9 are above: never five in a row
    found = alignment_onset(results(values, null))
    assert (found["step"].item(), found["observed"].item()) == (900, False)


def test_refusals():
    values, null = simulated(1, begins=(3,), draws=99)
    with pytest.raises(
        InputError, match="error_cosine of run r0, layer 'fc0' has 99 draws at 10 records; p <= 0"
    ):
        alignment_onset(results(values, null))
    with pytest.raises(
        InputError, match=r"layer 'fc0': values holds 4 recordings; an onset needs at least 5"
    ):
        alignment_onset(results(values[..., :4], null[..., :4, :]))
    with pytest.raises(MissingSignalError, match="no variable 'x' in the results"):
        alignment_onset(results(values, null), "x")
    tree = results(values, null)
    tree["probe"] = xr.DataTree(tree["probe"].to_dataset().drop_vars("error_cosine_null_p"))
    with pytest.raises(MissingSignalError, match="error_cosine has no null in these results: record redraws"):
        alignment_onset(tree)


def test_of_measured_runs(make_run):
    tree = make_run(0, steps=tuple(range(8)))
    state = tree["state/fc2"].to_dataset(inherit=False)
    state["weight"].values[3:] = tree["static/fc2/feedback"].values
    tree["state/fc2"] = xr.DataTree(state)
    found = alignment_onset(analyze(tree, metrics=["weight_feedback_cosine"]), "weight_feedback_cosine")
    assert found["step"].sel(layer="fc2").item() == 3
    assert not found["observed"].sel(layer="out").item()
    with pytest.raises(InputError, match="has 19 draws at 8 records"):
        alignment_onset(analyze(tree, metrics=["error_cosine"]))


def test_the_stream_can_be_named_and_a_probe_comes_first() -> None:
    def group(kind: str, start: int) -> xr.Dataset:
        p = [1.0] * start + [0.001] * (10 - start)
        coords = {"run": ["fa"], "layer": ["fc"], "step": range(10)}
        dims = ("run", "layer", "step")
        return xr.Dataset({"x": (dims, [[p]]), "x_null_p": (dims, [[p]])}, coords, {"kind": kind})

    live = group("live", 0)
    results = xr.DataTree.from_dict({"/live": live, "/probe": group("probe", 2), "/test": group("probe", 3)})
    assert alignment_onset(results, "x")["step"].item() == 2
    assert alignment_onset(results, "x", stream="test")["step"].item() == 3
    bare = xr.DataTree.from_dict({"/live": live.drop_vars("x_null_p"), "/test": group("probe", 3)})
    assert alignment_onset(bare, "x")["step"].item() == 3
    with pytest.raises(MissingSignalError, match="no stream 'train' in the results; there are live, probe"):
        alignment_onset(results, "x", stream="train")
