"""Which layers follow each other: matrices that fit, with none left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fadiag
from fadiag.analysis import analyze
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


def test_layers_that_do_not_fit_are_no_chain(make_run):
    tree = make_run(0)
    for path in ("probe/fc2", "state/fc2", "static/fc2"):
        data = tree[path].to_dataset(inherit=False)
        tree[path] = xr.DataTree(data.isel({"in": slice(0, -1)}, missing_dims="ignore"))
    assert "path_alignment" not in analyze(tree)["state"]
    with pytest.raises(
        MissingSignalError, match="path_alignment needs layers in a chain, each a matrix that fits"
    ):
        analyze(tree, metrics=["path_alignment"])


def test_weights_kept_transposed_are_no_chain(make_run):
    """Square ones would fit either way round."""
    tree = make_run(0)
    for name in ("fc1", "fc2", "out"):
        for path in (f"state/{name}", f"static/{name}"):
            data = tree[path].to_dataset(inherit=False)
            tree[path] = xr.DataTree(data.rename({"in": "out", "out": "in"}))
    assert "path_alignment" not in analyze(tree)["state"]


def test_layers_with_positions_are_no_chain(make_run):
    tree = make_run(0)
    for name in ("fc1", "fc2", "out"):
        data = tree[f"probe/{name}"].to_dataset(inherit=False)
        for signal, array in data.data_vars.items():
            if "sample" in array.dims:
                data[signal] = array.expand_dims(position=2, axis=2)
        tree[f"probe/{name}"] = xr.DataTree(data)
    assert "modulator_pseudo_cosine" not in analyze(tree)["probe"]


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


def test_what_starts_at_the_output_needs_the_last_layer(tmp_path: Path) -> None:
    match = "jacobian_vectors needs the error of the model's last layer, '8', which"
    with pytest.raises(CaptureError, match=match):
        record(tmp_path / "run.zarr", ["4", "6"], jacobian_vectors=3)
