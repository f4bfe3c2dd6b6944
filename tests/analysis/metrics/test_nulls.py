"""Drawn nulls belong to values of the same subspaces and matrices; known laws hold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fadiag
from fadiag import spectra
from fadiag.analysis.metrics.nulls import beta_angle_null, beta_cosine_null, drawn_summary
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
        ({"samples": 64}, "the null was recorded of 64 samples, not 16"),
        ({}, "the store does not tell of how many samples the null was recorded: record again"),
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
    told = "the null was recorded of the unfolding 'samples', not 'channels'"
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
