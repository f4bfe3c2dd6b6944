"""Ranks of one recorded signal as labelled arrays."""

import numpy as np
import pytest
import xarray as xr

from fadiag import analysis
from fadiag.errors import InputError

IMAGE = ("sample", "channel", "height", "width")


def test_a_labelled_layer(make_run):
    run = make_run(0)
    error = run["probe/fc2/error"]
    rank = analysis.effective_rank(error)
    assert rank.dims == ("step",)
    assert rank.name == "error_effective_rank_raw"
    assert list(rank["step"].values) == [0, 10, 20, 30]
    results = analysis.analyze(run, metrics=["error_effective_rank_raw", "error_stable_rank_raw"])
    np.testing.assert_allclose(
        rank, results["probe/error_effective_rank_raw"].sel(layer="fc2").squeeze(), rtol=1e-12
    )
    one = analysis.stable_rank(error.isel(step=2))
    assert one.dims == ()
    expected = results["probe/error_stable_rank_raw"].sel(layer="fc2").squeeze()[2]
    assert float(one) == pytest.approx(float(expected), rel=1e-12)
    with pytest.raises(InputError, match=r"for a plain array use fadiag\.spectra\.participation_ratio"):
        analysis.participation_ratio(error.values)


def test_convolution_unfoldings_differ(make_run):
    rng = np.random.default_rng(0)
    x = xr.DataArray(rng.standard_normal((1, 8, 3, 4, 4)), dims=("step", *IMAGE), name="error")
    assert float(analysis.participation_ratio(x, unfolding="channels")[0]) < 3
    assert float(analysis.participation_ratio(x, unfolding="samples")[0]) > 3
