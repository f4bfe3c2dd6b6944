"""Unfolding, nulls, one BLAS thread, the labelled functions."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from fadiag import analysis, spectra
from fadiag.analysis.metrics.nulls import beta_angle_null, beta_cosine_null, drawn_summary
from fadiag.analysis.metrics.unfold import center, unfold
from fadiag.analysis.metrics.view import Layer, SignalView, View
from fadiag.analysis.threads import one_blas_thread, set_blas_threads
from fadiag.errors import InputError

IMAGE = ("sample", "channel", "height", "width")


def test_unfold_of_an_image():
    x = np.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    assert np.array_equal(unfold(x, IMAGE), x.reshape(2, 3, 120))
    channels = unfold(x, IMAGE, "channels")
    assert channels.shape == (2, 90, 4)
    assert np.array_equal(channels[1, 37], x[1, 1, :, 1, 1])  # sample 1, row 1, column 1: 30 + 6 + 1


def test_unfold_of_a_sequence_has_its_channel_last():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert np.array_equal(unfold(x, ("sample", "position", "out"), "channels"), x.reshape(2, 12, 5))


def test_unfold_of_a_kernel_keeps_its_outputs():
    assert unfold(np.zeros((1, 8, 3, 5, 5)), ("out", "in", "kh", "kw"), "channels").shape == (1, 8, 75)


def test_unfold_drops_padding_of_samples_only():
    assert unfold(np.zeros((1, 8, 3)), ("sample", "out"), rows_valid=5).shape == (1, 5, 3)
    assert unfold(np.zeros((1, 8, 3)), ("out", "in"), rows_valid=5).shape == (1, 8, 3)


def test_unfold_refuses():
    with pytest.raises(InputError, match=r"a signal with the dimensions \('out',\) is no matrix"):
        unfold(np.zeros((1, 3)), ("out",))
    with pytest.raises(InputError, match="unfolding is 'rows'; it must be one of samples, channels"):
        unfold(np.zeros((1, 3, 3)), ("out", "in"), "rows")


def test_centring_a_factor_drops_its_first_row():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) + 3
    factor = np.linalg.qr(np.column_stack([np.ones(50), x]))[1][None, :, 1:]
    assert np.allclose(
        np.linalg.svd(center(factor, factor=True)[0])[1],
        np.linalg.svd(center(x[None])[0], full_matrices=False)[1],
    )


def test_equal_rows_are_nothing_once_centered():
    constant = np.full((1, 7, 3), 0.1, np.float32)
    assert not center(constant).any()


def test_drawn_null_by_hand():
    draws = np.arange(99.0)[None].repeat(2, 0)
    summary = drawn_summary(draws, np.array([97.5, -1.0]))
    assert summary["null_p"] == pytest.approx([0.02, 1.0])
    assert summary["null_mean"] == pytest.approx([49, 49])
    assert summary["null_low"] == pytest.approx(np.full(2, 2.45))


def matrix_view(weight, feedback):
    signals = {
        "weight": SignalView(weight, ("out", "in")),
        "static/feedback": SignalView(feedback[None], ("out", "in")),
    }
    layer = Layer(name="fc", order=1, feedback_kind="layerwise", classes=3, k=2)
    return View(layer, np.arange(len(weight)), signals)


def test_beta_law_holds_for_drawn_feedback():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((1, 3, 4)) ** 3  # any W
    draws = rng.standard_normal((20_000, 12))
    flat = weight.ravel()
    cosines = draws @ flat / np.linalg.norm(draws, axis=1) / np.linalg.norm(flat)
    view = matrix_view(weight, rng.standard_normal((3, 4)))
    law = beta_cosine_null(view, np.array([0.3]))
    assert np.mean((cosines > law["null_low"]) & (cosines < law["null_high"])) == pytest.approx(
        0.95, abs=0.006
    )
    assert law["null_p"][0] == pytest.approx(np.mean(cosines >= 0.3), abs=0.012)
    below = beta_cosine_null(view, np.array([-0.3]))["null_p"][0]
    assert below == pytest.approx(1 - law["null_p"][0])


def test_a_feedback_with_a_mean_is_held_against_its_entries_in_any_order():
    rng = np.random.default_rng(2)
    weight, feedback = rng.standard_normal((1, 30, 40)) + 0.2, rng.exponential(size=(30, 40))
    view = matrix_view(weight, feedback)
    cosines = spectra.permuted_cosines(weight[0], feedback, 4000, rng)
    observed = np.quantile(cosines, [0.1, 0.5, 0.9])
    law = beta_cosine_null(view, observed)
    np.testing.assert_allclose(law["null_p"], [0.9, 0.5, 0.1], atol=0.025)
    inside = (cosines > law["null_low"][0]) & (cosines < law["null_high"][0])
    assert inside.mean() == pytest.approx(0.95, abs=0.015)
    assert law["null_mean"][0] == pytest.approx(cosines.mean(), abs=2e-3)
    assert cosines.mean() > 0.1  # which the law of a Gaussian B would call alignment
    exact = beta_cosine_null(matrix_view(np.full((1, 30, 40), 0.1), feedback), np.array([0.5]))
    assert np.isnan(exact["null_p"]).all()  # every order gives the same


def test_a_feedback_of_two_entries_has_no_law():
    assert beta_cosine_null(matrix_view(np.ones((1, 1, 2)), np.ones((1, 2))), np.array([0.5])) == {}
    assert beta_angle_null(matrix_view(np.ones((1, 1, 1)), np.ones((1, 1))), np.array([0.0])) == {}


def test_beta_law_in_degrees():
    rng = np.random.default_rng(0)
    view = matrix_view(np.ones((1, 3, 4)), rng.standard_normal((3, 4)))
    angle = beta_angle_null(view, np.array([60.0]))
    cosine = beta_cosine_null(view, np.array([0.5]))
    assert angle["null_p"] == pytest.approx(cosine["null_p"])
    assert np.cos(np.radians(angle["null_low"])) == pytest.approx(cosine["null_high"])
    assert angle["null_mean"] == pytest.approx([90.0])


def test_one_sample_is_its_own_mean():
    assert not center(np.ones((2, 1, 3)), factor=True).any()


def test_blas_threads_are_put_back():
    before = set_blas_threads(2)
    assert before, "no OpenBLAS found: numpy's or scipy's build has changed"
    try:
        with one_blas_thread():
            assert set(set_blas_threads(1)) == {1}
        assert set(set_blas_threads(2)) == {2}
    finally:
        set_blas_threads(before[0])


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


def test_analysis_imports_no_torch_even_when_it_works(tmp_path):
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from fadiag.analysis import analyze\n"
        "clock = {'step': [0, 1]}\n"
        "fc = xr.Dataset({'error': (('step', 'sample', 'out'), np.random.rand(2, 8, 4))},"
        " attrs={'name': 'fc', 'order': 0})\n"
        "probe = xr.Dataset(coords=clock, attrs={'kind': 'probe'})\n"
        "tree = xr.DataTree.from_dict({'/probe': probe, '/probe/fc': fc})\n"
        f"analyze(tree, output={str(tmp_path / 'results.zarr')!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
