"""The recorder reads our interventions as they are: the changed error, and the true one."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fadiag.analysis import analyze
from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.layers.own_layers import own_altered_layers
from fadiag.rules import convert
from fadiag.store import open_run
from fadiag.testing import check_adapter

N = 16
X = torch.randn(N, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % 3


def cnn(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def limited():
    return convert(cnn(), "rank_limited", rank=2, example=X), lambda: None


def borrowing():
    twin, model = convert(cnn(1)), cnn()
    return convert(model, "borrowed_gates", twin=twin), lambda: twin(X)


def record(model, before, path, **options):
    def loss_of(model, batch):
        before()
        return cross_entropy(model(batch[0]), batch[1])

    probe = Probe(
        (X, Y),
        loss_of,
        redraws=9,
        gate_draws=9,
        signals=[
            "activation",
            "modulator",
            "error_post",
            "error",
            "error_bp",
            "modulator_bp",
            "gradient",
            "gradient_bp",
        ],
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    options = {"optimizer": optimizer, "probes": {"probe": probe}, "every": 1} | options
    with Recorder(model, path, live=Live(every=1), **options) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


LAYERS = ("0", "4", "6")


def true_errors():
    model, outputs = cnn(), []
    model[1] = nn.ReLU()
    for name in LAYERS:
        model[int(name)].register_forward_hook(lambda m, i, o: outputs.append(o))
    loss = cross_entropy(model(X), Y)
    return dict(zip(LAYERS, torch.autograd.grad(loss, outputs), strict=True))


@pytest.mark.parametrize("build", [limited, borrowing])
def test_error_bp_is_the_true_error_and_passes_its_check(build, tmp_path):
    run = record(*build(), tmp_path / "run.zarr")
    kinds = {limited: "altered", borrowing: "exact"}
    for name, error in true_errors().items():
        probe = run[f"probe/{name}"]
        np.testing.assert_allclose(probe["error_bp"].values[0], error, atol=1e-15)
        assert probe.attrs["error_bp_check"] == "passed"
        assert probe.attrs["feedback_kind"] == kinds[build]
        assert probe.attrs["no_error_null"] == "no layer has a feedback to redraw"
        assert not [array for array in probe if array.startswith("error_null")]
    assert abs(run["probe/0/error"].values[0] - run["probe/0/error_bp"].values[0]).max() > 1e-4
    assert run["probe/0"].attrs["gate"].lower() == "relu"
    assert run["probe/4"].attrs["gate"] == "tanh"
    assert "gate_null_spectrum_raw" in run["probe/0"]
    assert "error_cosine" in str(list(analyze(tmp_path / "run.zarr")["probe"].data_vars))


def test_the_recorded_error_is_the_projected_one(tmp_path):
    run = record(*limited(), tmp_path / "run.zarr")
    for stream in ("probe", "live"):
        error = run[f"{stream}/4/error"].values[0]
        assert np.linalg.matrix_rank(error, tol=1e-12) == 2
        channels = np.moveaxis(run[f"{stream}/0/error"].values[0], 1, -1).reshape(-1, 6)
        assert np.linalg.matrix_rank(channels, tol=1e-12) == 2
    # The modulator comes after the projection above, and before this layer's own.
    probe = run["probe/4"]
    head = cnn()[6].weight.detach().numpy()
    np.testing.assert_allclose(
        probe["modulator"].values[0], run["probe/6/error"].values[0] @ head, atol=1e-15
    )
    post = probe["modulator"].values[0] * (1 - probe["activation"].values[0] ** 2)
    v = np.linalg.svd(post)[2][:2]
    np.testing.assert_allclose(probe["error"].values[0], post @ v.T @ v, atol=1e-15)


def test_the_recorded_error_has_the_twins_gates(tmp_path):
    run = record(*borrowing(), tmp_path / "run.zarr")
    twin = convert(cnn(1))
    with torch.no_grad():
        slope = 1 - torch.tanh(twin[:5](X)).numpy() ** 2
    expected = run["probe/6/error"].values[0] @ cnn()[6].weight.detach().numpy() * slope
    np.testing.assert_allclose(run["probe/4/error"].values[0], expected, atol=1e-15)


@pytest.mark.parametrize("build", [limited, borrowing])
def test_recording_changes_nothing(build, tmp_path):
    model, before = build()
    record(model, before, tmp_path / "run.zarr")
    other, before = build()
    optimizer = torch.optim.SGD(other.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        before()
        cross_entropy(other(X), Y).backward()
        optimizer.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_adapter_passes_its_check():
    model = copy.deepcopy(limited()[0]).float()
    check_adapter(own_altered_layers, model[4], torch.randn(N, 24))
