"""Drawn nulls belong to values of the same subspaces and matrices; known laws hold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import nn

import fadiag
from fadiag import spectra
from fadiag.analysis.metrics.alignment import vector_cosine
from fadiag.analysis.metrics.nulls import drawn_summary, reordered_angle_null, reordered_cosine_null
from fadiag.analysis.metrics.view import Layer, SignalView, View
from fadiag.capture import Live, Probe, Recorder


def loss_of(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def record(path: Path, layers: list[str] | None = None, *, conv: bool = False, **options: int) -> Path:
    """Record two updates of a net of five matrices, or of one convolution and a matrix."""
    torch.manual_seed(0)
    deep = [f for _ in range(4) for f in (nn.Linear(16, 16), nn.ReLU())]
    image = [nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*(image if conv else deep), nn.Linear(64 if conv else 16, 5))
    model = fadiag.convert(model, rule="fa", seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batch = torch.randn(40, 16), torch.randint(5, (40,))
    probes = {"probe": Probe(batch, loss_of, null_every=1, **options)}
    with Recorder(
        model, path, optimizer=optimizer, probes=probes, every=1, layers=layers, live=Live(every=1)
    ) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    return path


def test_drawn_null_by_hand():
    draws = np.arange(99.0)[None].repeat(3, 0)
    draws[2] = np.nan  # a null that died at every draw
    summary = drawn_summary(draws, np.array([97.5, -1.0, 5.0]))
    assert summary["null_p"] == pytest.approx([0.02, 1.0, np.nan], nan_ok=True)
    assert summary["null_p_low"] == pytest.approx([0.99, 0.01, np.nan], nan_ok=True)
    assert summary["null_mean"] == pytest.approx([49, 49, np.nan], nan_ok=True)
    assert summary["null_low"] == pytest.approx([2.45, 2.45, np.nan], nan_ok=True)
    assert summary["null_draws"].tolist() == [99, 99, 0]


def matrix_view(weight, feedback):
    """Return a layer's W at each step, and one B for all steps or one for each."""
    signals = {
        "weight": SignalView(weight, ("out", "in")),
        "static/feedback": SignalView(feedback.reshape(-1, *weight.shape[1:]), ("out", "in")),
    }
    layer = Layer(name="fc", order=1, feedback_kind="layerwise", classes=3, k=2)
    return View(layer, np.arange(len(weight)), signals)


def test_any_w_beside_gaussian_feedback_has_the_beta_law():
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((1, 30, 40)) ** 3  # any W
    view = matrix_view(weight, rng.standard_normal((30, 40)))
    found = reordered_cosine_null(view, np.array([0.03]))
    law = spectra.cosine_null_quantile([0.025, 0.5, 0.975], 1200)
    assert [found[f"null_{end}"][0] for end in ("low", "mean", "high")] == pytest.approx(law, abs=3e-3)
    assert found["null_p"][0] == pytest.approx(spectra.cosine_null_p(0.03, 1200), abs=0.02)
    assert found["null_p"][0] + found["null_p_low"][0] == pytest.approx(1, abs=1e-3)
    assert found["null_draws"].tolist() == [9999]


def test_a_feedback_with_a_mean_is_held_against_its_entries_in_any_order():
    rng = np.random.default_rng(2)
    weight, feedback = rng.standard_normal((1, 30, 40)) + 0.2, rng.exponential(size=(30, 40))
    w, b = weight.ravel() / np.linalg.norm(weight), feedback.ravel() / np.linalg.norm(feedback)
    cosines = np.array([w @ rng.permutation(b) for _ in range(4000)])
    observed = np.quantile(cosines, [0.1, 0.5, 0.9])
    law = reordered_cosine_null(matrix_view(weight.repeat(3, 0), feedback), observed)
    np.testing.assert_allclose(law["null_p"], [0.9, 0.5, 0.1], atol=0.025)
    inside = (cosines > law["null_low"][0]) & (cosines < law["null_high"][0])
    assert inside.mean() == pytest.approx(0.95, abs=0.015)
    assert law["null_mean"][0] == pytest.approx(cosines.mean(), abs=2e-3)
    assert cosines.mean() > 0.1  # which the law of a Gaussian B would call alignment
    alike = matrix_view(np.full((1, 30, 40), 0.1), feedback)
    exact = reordered_cosine_null(alike, vector_cosine(alike, pair=("weight", "static/feedback")))
    assert exact["null_p"] == exact["null_p_low"] == 1  # every order gives the same


def test_a_dead_weight_has_no_null_and_other_steps_have_theirs():
    rng = np.random.default_rng(3)
    weight, feedback = rng.standard_normal((3, 4, 5)), rng.standard_normal((4, 5))
    whole = reordered_cosine_null(matrix_view(weight, feedback), np.array([0.1, 0.2, 0.3]))
    weight[1] = 0
    found = reordered_cosine_null(matrix_view(weight, feedback), np.array([0.1, np.nan, 0.3]))
    for name, values in found.items():
        assert np.isnan(values[1])
        assert (values[[0, 2]] == whole[name][[0, 2]]).all()


def test_the_angle_is_held_against_the_same_orders():
    rng = np.random.default_rng(0)
    view = matrix_view(rng.standard_normal((1, 3, 4)), rng.standard_normal((3, 4)))
    angle = reordered_angle_null(view, np.array([60.0]))
    cosine = reordered_cosine_null(view, np.array([0.5]))
    assert angle["null_p_low"] == pytest.approx(cosine["null_p"])
    assert angle["null_p"] == pytest.approx(cosine["null_p_low"])
    assert np.cos(np.radians(angle["null_low"])) == pytest.approx(cosine["null_high"], abs=1e-3)


def _kaiming(rng: np.random.Generator, out: int, inputs: int) -> np.ndarray:
    return rng.uniform(-1, 1, (out, inputs)) / np.sqrt(inputs)


def feedback_beside(weight: np.ndarray, law: str, rng: np.random.Generator) -> np.ndarray:
    if law == "gaussian":
        return rng.standard_normal(weight.shape)
    if law == "uniform":
        return _kaiming(rng, *weight.shape)
    if law == "biased":
        return _kaiming(rng, *weight.shape) + 4.0 / np.sqrt(3 * weight.size * weight.shape[1])
    return rng.permutation(weight.ravel()).reshape(weight.shape)


LAWS = ("gaussian", "uniform", "biased", "permuted")


def p_values(law: str, shape: tuple[int, int], nets: int, shift: float) -> np.ndarray:
    """Return p of untrained nets; their weights have a mean of so many standard errors."""
    rng = np.random.default_rng([LAWS.index(law), *shape])
    weights, feedbacks = np.empty((2, nets, *shape))
    for net in range(nets):
        weight = _kaiming(rng, *shape)
        weights[net] = weight + shift * weight.std() / np.sqrt(weight.size) - weight.mean()
        feedbacks[net] = feedback_beside(weights[net], law, rng)
    view = matrix_view(weights, feedbacks)  # a net a step: measured at once, which is many times as fast
    return reordered_cosine_null(view, vector_cosine(view, pair=("weight", "static/feedback")))["null_p"]


@pytest.mark.parametrize("law", LAWS)
def test_the_null_of_the_cosine_is_calibrated(law: str) -> None:
    p = p_values(law, (10, 36), 100, 4.0)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(p <= 0.05) <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 2.0, 4.9, 8.0])
@pytest.mark.parametrize("shape", [(3, 4), (10, 36), (36, 40)])
@pytest.mark.parametrize("law", LAWS)
def test_the_null_of_the_cosine_is_calibrated_on_many_nets(
    law: str, shape: tuple[int, int], shift: float
) -> None:
    p = p_values(law, shape, 1500, shift)
    assert stats.kstest(p, "uniform").pvalue > 0.01 / 48
    assert stats.binomtest(int((p <= 0.05).sum()), len(p), 0.05).pvalue > 0.01 / 48


def test_converted_nets_are_calibrated_too(tmp_path: Path) -> None:
    p = []
    for seed in range(30):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4))
        with torch.no_grad():
            model[2].weight.add_(0.2)
        fadiag.convert(model, seed=seed, feedback="permuted")
        with Recorder(model, tmp_path / f"{seed}.zarr", state=("weight",), layers=["2"]):
            pass
        results = fadiag.analyze(tmp_path / f"{seed}.zarr", metrics=["weight_feedback_cosine"])
        p.append(float(results["state/weight_feedback_cosine_null_p"].sel(layer="2").squeeze()))
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert np.mean(np.array(p) <= 0.05) < 0.2


def test_the_overlap_of_another_k_has_no_null(tmp_path: Path) -> None:
    path = record(tmp_path / "run.zarr", redraws=5)
    own = fadiag.analyze(path)["probe"].to_dataset()
    assert np.isfinite(own["error_overlap_null_p"].sel(layer="4")).all()
    assert "null_left_out" not in own["error_overlap"].attrs
    xr.testing.assert_identical(own, fadiag.analyze(path, k=4)["probe"].to_dataset())
    other = fadiag.analyze(path, k=2)["probe"].to_dataset()
    assert not [name for name in other.data_vars if str(name).startswith("error_overlap_null")]
    assert other["error_overlap"].attrs["null_left_out"] == "the null was recorded with k = 4, not 2"
    xr.testing.assert_equal(own["error_cosine_null_p"], other["error_cosine_null_p"])


def test_draws_of_other_samples_are_no_null(make_run: Callable[..., xr.DataTree]) -> None:
    for attrs, why in (
        ({"samples": 64}, "the null was recorded on 64 samples, not 16"),
        ({}, "the store does not say how many samples the null was recorded on: record again"),
    ):
        run = make_run()
        for layer in run["probe"].children.values():
            for name in [str(name) for name in layer.data_vars if "_null_" in str(name)]:
                layer[name].attrs = attrs
        found = fadiag.analyze(run)["probe"].to_dataset()
        assert not [name for name in found.data_vars if "_null" in str(name)]
        for name in ("error_cosine", "error_overlap", "error_effective_rank_raw"):
            assert found[name].attrs["null_left_out"] == why


def test_the_rank_of_another_unfolding_has_no_null(tmp_path: Path) -> None:
    path = record(tmp_path / "run.zarr", conv=True, redraws=5, gate_draws=5)
    name = "error_participation_ratio_raw"
    samples = fadiag.analyze(path)["probe"].to_dataset()
    channels = fadiag.analyze(path, unfolding="channels")["probe"].to_dataset()
    for null in (f"{name}_null_p", f"{name}_gate_null_low", "error_overlap_null_p"):
        if null in channels:  # of the last layer, whose signals have no positions
            assert channels[null].sel(layer="1").isnull().all()
    assert np.isfinite(samples[f"{name}_null_p"].sel(layer="1")).all()
    assert np.isfinite(samples[f"{name}_gate_null_low"].sel(layer="1")).all()
    xr.testing.assert_equal(
        samples["error_overlap_null_mean"].sel(layer="4"), channels["error_overlap_null_mean"].sel(layer="4")
    )
    told = "the null was recorded with the unfolding 'samples', not 'channels'"
    told += "; gate_null of layer '4': no layer reads its output"
    assert channels[name].attrs["null_left_out"] == told


def test_a_store_that_does_not_tell_is_of_all_classes_less_one(make_run: Callable[..., xr.DataTree]) -> None:
    run = make_run()  # three layers, four outputs; its draws say neither k nor unfolding
    assert "error_overlap_null_p" in fadiag.analyze(run)["probe"]
    assert "error_overlap_null_p" in fadiag.analyze(run, k=3)["probe"]
    assert "error_overlap_null_p" not in fadiag.analyze(run, k=2)["probe"]


def test_a_null_that_nothing_of_it_depends_on_is_a_tie_in_raw_signals_and_factors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = fadiag.convert(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    batch = torch.randn(16, 6), torch.randint(3, (16,))
    probes = {
        kind: Probe(batch, loss_of, redraws=9, null_every=1, reduction=kind) for kind in ("raw", "factor")
    }
    path = tmp_path / "run.zarr"
    with Recorder(model, path, optimizer=optimizer, probes=probes, every=1) as recorder:
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    results = fadiag.analyze(path)
    raw, factored = (results[kind].isel(run=0) for kind in ("raw", "factor"))
    for name in ("participation_ratio_raw", "effective_rank_raw", "cosine", "overlap"):
        p = f"error_{name}_null_p"
        # No B stands between the loss and the output layer's error.
        assert (raw[p].sel(layer="4") == 1).all()
        np.testing.assert_array_equal(factored[p].values, raw[p].values)
        assert (raw[p].sel(layer="0") < 1).any()
