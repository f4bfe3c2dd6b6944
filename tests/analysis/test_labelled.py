"""Ranks of one recorded signal as labelled arrays."""

import numpy as np
import pytest
import torch
import xarray as xr

import fadiag
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


def test_a_plain_matrix_or_tensor(make_run):
    error = make_run(0)["probe/fc2/error"].isel(step=2)
    expected = float(fadiag.effective_rank(error))
    assert fadiag.effective_rank(error.values) == pytest.approx(expected, rel=1e-12)
    tensor = torch.tensor(error.values, requires_grad=True)
    assert fadiag.effective_rank(tensor) == pytest.approx(expected, rel=1e-12)
    half = tensor.bfloat16()
    assert fadiag.stable_rank(half) == pytest.approx(fadiag.stable_rank(half.double().detach().numpy()))
    for name in ("effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank"):
        assert getattr(fadiag, name)(np.eye(3)) == pytest.approx(3.0)
        message = rf"not an array of shape \(2, 4, 3\); .* fadiag\.spectra\.{name} for a stack"
        with pytest.raises(InputError, match=message):
            getattr(fadiag, name)(np.ones((2, 4, 3)))


def test_convolution_unfoldings_differ(make_run):
    rng = np.random.default_rng(0)
    x = xr.DataArray(rng.standard_normal((1, 8, 3, 4, 4)), dims=("step", *IMAGE), name="error")
    assert float(analysis.participation_ratio(x, unfolding="channels")[0]) < 3
    assert float(analysis.participation_ratio(x, unfolding="samples")[0]) > 3


def test_axes_that_are_no_rows_are_refused(make_run):
    error = make_run(0)["probe/fc2/error"]
    both = xr.concat([error, error], dim="seed")
    with pytest.raises(InputError, match=r"not \('seed', 'step', 'sample', 'out'\); select one"):
        fadiag.effective_rank(both)
    one = both.isel(seed=0).rename(None)
    assert fadiag.effective_rank(one).name == "effective_rank_raw"
    np.testing.assert_array_equal(fadiag.effective_rank(one), fadiag.effective_rank(error))
    with pytest.raises(InputError, match="unfolding is 'zzz'; it is one of 'samples', 'channels'"):
        fadiag.effective_rank(np.eye(3), unfolding="zzz")
    with pytest.raises(InputError, match=r"not \(\); select one"):
        fadiag.effective_rank(xr.DataArray(1.0))
