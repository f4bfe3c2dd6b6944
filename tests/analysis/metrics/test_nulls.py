"""Draws of a null stand only beside values of the same subspaces and matrices; layers left out are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fadiag
from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError, MissingSignalError
from fadiag.store import open_run


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
    probes = {"probe": Probe(batch, loss_of, **options)}
    with Recorder(
        model, path, optimizer=optimizer, probes=probes, every=1, layers=layers, live=Live(every=1)
    ) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    return path


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
    path = record(tmp_path / "run.zarr", conv=True, redraws=5, mask_draws=5)
    name = "error_participation_ratio_raw"
    samples = fadiag.analyze(path)["probe"].to_dataset()
    channels = fadiag.analyze(path, unfolding="channels")["probe"].to_dataset()
    for null in (f"{name}_null_p", f"{name}_mask_null_low", "error_overlap_null_p"):
        if null in channels:  # of the last layer, whose signals have no positions
            assert channels[null].sel(layer="1").isnull().all()
    assert np.isfinite(samples[f"{name}_null_p"].sel(layer="1")).all()
    assert np.isfinite(samples[f"{name}_mask_null_low"].sel(layer="1")).all()
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the same training recorded whole, without layers between, and without the last."""
    base = tmp_path_factory.mktemp("layers")
    chosen = {"whole": None, "holes": ["0", "4", "8"], "headless": ["4", "6"]}
    return {
        name: record(
            base / f"{name}.zarr", layers, redraws=5, jacobian_vectors=0 if name == "headless" else 8
        )
        for name, layers in chosen.items()
    }


def test_layers_left_out_keep_their_place(runs: dict[str, Path]) -> None:
    for stream in ("probe", "state", "live"):
        for name, orders in (("holes", [0, 2, 4]), ("headless", [2, 3])):
            nodes = open_run(runs[name])[stream].children.values()
            assert [node.attrs["order"] for node in nodes] == orders
            assert {(node.attrs["layers_in_model"], node.attrs["classes"]) for node in nodes} == {(5, 5)}


def test_no_chain_across_holes(runs: dict[str, Path]) -> None:
    assert "path_alignment" in fadiag.analyze(runs["whole"])["state"]
    for name in ("holes", "headless"):
        results = fadiag.analyze(runs[name])
        assert "path_alignment" not in results["state"]
        assert "modulator_pseudo_cosine" not in results["probe"]
    with pytest.raises(MissingSignalError, match=r"path_alignment needs layers in a chain, .* none left out"):
        fadiag.analyze(runs["holes"], metrics=["path_alignment"])


def test_values_do_not_depend_on_layers_left_out(runs: dict[str, Path]) -> None:
    whole = fadiag.analyze(runs["whole"])
    for name in ("holes", "headless"):
        part = fadiag.analyze(runs[name])
        for stream, variable in (
            ("probe", "error_overlap"),
            ("probe", "error_overlap_chance"),
            ("probe", "error_overlap_null_mean"),
            ("probe", "error_cosine"),
            ("probe", "jacobian_alignment"),
            ("state", "weight_feedback_cosine"),
        ):
            if (name, variable) == ("headless", "jacobian_alignment"):
                continue
            found = part[stream][variable]
            expected = whole[stream][variable].sel(layer=found["layer"])
            np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
        assert np.isfinite(part["state/weight_feedback_cosine"].sel(layer="4")).all()


@pytest.mark.parametrize("what", ["mask_draws", "jacobian_vectors"])
def test_what_starts_at_the_output_needs_the_last_layer(tmp_path: Path, what: str) -> None:
    with pytest.raises(CaptureError, match=f"{what} needs the error of the model's last layer, '8', which"):
        record(tmp_path / "run.zarr", ["4", "6"], **{what: 3})


def test_the_dimension_that_was_compared_is_told(make_run: Callable[..., xr.DataTree]) -> None:
    # Layers of 12, 10 and 4 outputs on 16 samples.
    found = fadiag.analyze(make_run(), k=11)["probe/error_overlap_dimension"]
    assert found.isel(run=0, step=0).values.tolist() == [11, 10, 4]


def test_a_null_that_nothing_of_it_depends_on_is_a_tie_in_raw_signals_and_factors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = fadiag.convert(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    batch = torch.randn(16, 6), torch.randint(3, (16,))
    probes = {
        kind: Probe(batch, loss_of, redraws=9, mask_draws=0, reduction=kind) for kind in ("raw", "factor")
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
