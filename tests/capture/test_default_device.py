"""Test that the recorder gives every new tensor an explicit device, whatever the default device is."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag.capture import Live, Probe, Recorder, Subset
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of, on

X, Y = labelled(12)
#: What makes a tensor on the default device, unless it is given one.
MAKERS = {"arange", "empty", "eye", "full", "linspace", "ones", "tensor", "zeros"}
MAKERS |= {"rand", "randint", "randn", "randperm"}


def record(path, reduction, device="cpu"):
    """Record with all that draws: redraws, masks, vectors, subsets, live signals, factors."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)
    )
    model, (x, y) = convert(model, seed=1).to(device), on(device, (X.reshape(12, 2, 3), Y))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    how = {"reduction": reduction, "rows": Subset(9, seed=2)}
    probe = Probe((x, y), loss_of, mode="train", redraws=2, gate_draws=2, jacobian_vectors=2, **how)

    def run():
        with Recorder(
            model, path, optimizer=optimizer, probes={"p": probe}, live=Live(every=1, **how), every=1
        ) as recorder:
            for _ in range(2):
                optimizer.zero_grad()
                loss_of(model, (x, y)).backward()
                optimizer.step()
                recorder.step()

    return run


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_the_recorder_runs_under_another_default_device(reduction, tmp_path):
    record(tmp_path / "plain.zarr", reduction)()
    run = record(tmp_path / "meta.zarr", reduction)
    with torch.device("meta"):
        run()
    plain, other = open_run(tmp_path / "plain.zarr"), open_run(tmp_path / "meta.zarr")
    for node in plain.subtree:
        for name, values in node.data_vars.items():
            np.testing.assert_array_equal(other[f"{node.path}/{name}"].values, values.values)


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_all_that_can_be_recorded_is_so_on_any_device(reduction, tmp_path, device):
    record(tmp_path / "cpu.zarr", reduction)()
    record(tmp_path / "device.zarr", reduction, device)()
    cpu, other = open_run(tmp_path / "cpu.zarr"), open_run(tmp_path / "device.zarr")
    for node in cpu.subtree:
        for name, values in node.data_vars.items():
            found = other[f"{node.path}/{name}"]
            assert found.shape == values.shape
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(values))
            if name in {"error", "error_bp", "gradient", "weight"} and reduction == "raw":
                np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("package", ["capture", "training"])
def test_every_tensor_that_is_made_names_its_device(package):
    missing = []
    for path in sorted((Path(fadiag.__file__).parent / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
                has_device = any(keyword.arg == "device" for keyword in node.keywords)
                if node.func.attr in MAKERS and of_torch and not has_device:
                    missing.append(f"{path.name}:{node.lineno}")
    assert not missing
