"""The labelled t interval is that of spectra, run by run."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from fadiag import spectra
from fadiag.results import contrast, mean_interval


def test_interval_is_scipys_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    found = mean_interval(xr.DataArray(values, dims=("layer", "seed")))
    low, high = stats.t.interval(0.95, 6, values.mean(1), stats.sem(values, axis=1))
    np.testing.assert_allclose(found.low, low, rtol=1e-12)
    np.testing.assert_allclose(found.high, high, rtol=1e-12)


def test_interval_leaves_missing_runs_out_of_n() -> None:
    whole = mean_interval(xr.DataArray([1.0, 2.0, 4.0], dims="seed"))
    gap = mean_interval(xr.DataArray([1.0, np.nan, 2.0, 4.0], dims="seed"))
    assert int(gap.n) == 3
    assert float(gap.high) == pytest.approx(float(whole.high), rel=1e-15)


@pytest.mark.parametrize("values", [[2.0], [2.0, np.nan]])
def test_one_run_has_a_mean_and_no_interval(values: list[float]) -> None:
    found = mean_interval(xr.DataArray(values, dims="seed"))
    assert float(found.mean) == 2.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_no_run_has_nothing() -> None:
    found = mean_interval(xr.DataArray([np.nan, np.nan], dims="seed"))
    assert np.isnan(found.mean)
    assert int(found.n) == 0


def test_contrast_is_paired() -> None:
    # The seeds differ by 100, the conditions by 1 and 2: unpaired, the interval would be hundreds wide.
    values = xr.DataArray(
        [[0.0, 100.0, 200.0], [1.0, 102.0, 201.0]],
        dims=("condition", "seed"),
        coords={"condition": ["bp", "fa"], "seed": [0, 1, 2]},
    )
    found = contrast(values, "fa", "bp")
    want = spectra.t_interval(np.array([1.0, 2.0, 1.0]))
    assert (float(found.low), float(found.mean), float(found.high)) == (want.low, want.mean, want.high)


def test_equal_runs_have_no_interval() -> None:
    """A t interval without a width would read as certainty."""
    values = xr.DataArray([[3.62, 3.62, 3.62 + 1e-8], [3.62, 3.62, 3.63]], dims=("layer", "seed"))
    found = mean_interval(values)
    assert found.mean[0] == pytest.approx(3.62)
    assert np.isnan([found.low[0], found.high[0]]).all()
    assert found.n[0] == 3
    assert found.low[1] < found.mean[1] < found.high[1]


def test_each_cell_has_the_interval_of_the_runs_that_it_has() -> None:
    values = np.random.default_rng(1).normal(size=(5, 2, 3))
    values[1, 0, 0] = values[2, 0, 0] = values[4, 1, 1] = np.nan
    values[0, 1, 2] = np.inf
    coords = {"layer": ["fc1", "fc2"], "step": [0, 10, 20], "seed": range(5), "condition": "fa"}
    found = mean_interval(xr.DataArray(values, coords, ("seed", "layer", "step")))
    assert found.mean.dims == ("layer", "step")
    assert set(found.mean.coords) == {"layer", "step", "condition"}
    for place in np.ndindex(2, 3):
        runs = values[(slice(None), *place)]
        expected = spectra.t_interval(runs[np.isfinite(runs)])
        parts = (found.mean, found.low, found.high, found.n)
        assert [part.values[place] for part in parts] == [*map(float, expected[:3]), expected.n]


def test_no_cell_has_no_interval() -> None:
    found = mean_interval(xr.DataArray(np.empty((0, 4)), dims=("seed", "step")))
    assert found.n.values.tolist() == [0] * 4
    assert found.mean.isnull().all()


def test_the_ranks_are_the_metrics_with_a_bound() -> None:
    from fadiag.analysis import TABLE
    from fadiag.results.possible import is_rank

    for metric in TABLE:
        assert is_rank(metric.name) or not metric.bound_formula, metric.name
