"""Test half precision, scaled losses, fused optimizers, and the rounding of updates."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag import spectra
from fadiag.analysis import analyze
from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.signals.arrays import to_array
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled

X, Y = labelled(16)
HALVES = [torch.bfloat16, torch.float16]
SIGNALS = ("activation", "modulator", "error")


def mlp():
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(16, 3)
    )


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, **options)


def adam(model, **options):
    return torch.optim.Adam(model.parameters(), 0.01, **options)


def train(build, path, *, dtype=None, optimizer_of=sgd, scale=0.0, updates=3, **options):
    torch.manual_seed(0)
    model = convert(build())
    optimizer = optimizer_of(model, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=bool(scale))

    def loss_under(model, batch):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            output = model(batch[0])
        return functional.cross_entropy(output.float(), batch[1])

    recorder = None
    if path is not None:
        recorder = Recorder(
            model, path, optimizer=optimizer, scaler=scaler, every=1,
            probes={"probe": Probe((X, Y), loss_under, mode="train", redraws=1)}, live=Live(SIGNALS, every=1),
        )  # fmt: skip
    for _ in range(updates):
        optimizer.zero_grad()
        scaler.scale(loss_under(model, (X, Y))).backward()
        scaler.step(optimizer)
        scaler.update()
        if recorder is not None:
            recorder.step()
    if recorder is not None:
        recorder.close()
    tensors = dict(model.state_dict())
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{i}.{key}": torch.as_tensor(value) for key, value in state.items()}
    return tensors | {"rng": torch.get_rng_state()}


@pytest.mark.parametrize("optimizer_of", [sgd, adam])
@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize("dtype", HALVES)
def test_recording_under_autocast_and_a_scaler_changes_no_bit(dtype, build, optimizer_of, tmp_path):
    options = {"dtype": dtype, "optimizer_of": optimizer_of, "scale": 256.0}
    bare = train(build, None, **options)
    recorded = train(build, tmp_path / "run.zarr", **options)
    assert bare.keys() == recorded.keys()
    for name, tensor in bare.items():
        assert torch.equal(tensor, recorded[name]), name
    run = open_run(tmp_path / "run.zarr")
    for layer in run["state"].children:
        for signal in (*(f"probe/{layer}/{s}" for s in (*SIGNALS, "error_bp", "gradient", "gradient_bp")),
                       *(f"live/{layer}/{s}" for s in SIGNALS)):  # fmt: skip
            assert run[signal].dtype == np.float32, signal
            assert np.isfinite(run[signal].values).all(), signal
            assert run[signal].values.any(), signal
    np.testing.assert_array_equal(run["log/loss_scale"].values, 256.0)


@pytest.mark.parametrize("dtype", HALVES)
def test_signals_in_half_precision_are_those_in_full_but_for_rounding(dtype, tmp_path):
    for name, given in (("full", None), ("half", dtype)):
        train(mlp, tmp_path / f"{name}.zarr", dtype=given, updates=1)
    full, half = (open_run(tmp_path / f"{name}.zarr") for name in ("full", "half"))
    for signal in ("activation", "error", "error_bp", "gradient"):
        true, rounded = (run[f"probe/0/{signal}"].values[0] for run in (full, half))
        assert (true != rounded).any()
        assert np.linalg.norm(true - rounded) < 0.05 * np.linalg.norm(true)
    # A half-precision signal has gone through its own type: every value is one of it.
    errors = torch.from_numpy(half["live/0/error"].values)
    assert torch.equal(errors.to(dtype).float(), errors) or dtype == torch.float16


@pytest.mark.parametrize("optimizer_of", [sgd, adam])
@pytest.mark.parametrize("fused", [False, True])
def test_gradients_under_a_scaler_are_recorded_unscaled_from_fused_optimizers_too(
    optimizer_of, fused, tmp_path
):
    runs = {}
    for name, scale in (("plain", 0.0), ("scaled", 1024.0)):
        path = tmp_path / f"{name}.zarr"
        train(mlp, path, optimizer_of=optimizer_of, scale=scale, fused=fused)
        runs[name] = open_run(path)
    for path in ("state/0/gradient", "state/4/gradient", "live/0/error", "live/4/modulator"):
        plain, scaled = (run[path].values for run in runs.values())
        assert plain[0].any()
        np.testing.assert_allclose(scaled[:3], plain[:3], rtol=1e-4, atol=1e-7)


def test_a_step_that_the_scaler_skips_is_recorded_as_it_was(tmp_path):
    """An overflow: the error is infinite, the weights stay."""
    train(mlp, tmp_path / "run.zarr", dtype=torch.float16, scale=2.0**40, updates=1)
    run = open_run(tmp_path / "run.zarr")
    assert not np.isfinite(run["live/4/error"].values).all()
    assert run["live/4/error"].attrs["nan_count"] > 0
    assert not run["state/4/update"].values[0].any()
    assert "update_rounding_floor" not in run["state/4"]  # no update, no floor


def rounding_floor(weight, update):
    floor = spectra.rounding_floor(to_array(weight), to_array(update), eps=torch.finfo(weight.dtype).eps)
    return float(floor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_rounding_floor_is_what_rounding_leaves(dtype):
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(300, 300, generator=generator, dtype=torch.float64) / 10).to(dtype)
    # numpy knows the spacing of its own types; a bfloat16 has 8 bits of mantissa, a float32 has 24.
    wide = weight.abs().float().numpy()
    spacing = np.spacing(weight.abs().numpy()) if dtype != torch.bfloat16 else np.spacing(wide) * 2.0**16
    update = torch.full((300, 300), 1e-3, dtype=torch.float64)
    expected = np.sqrt((spacing.astype(np.float64) ** 2).sum() / 12) / 0.3
    assert rounding_floor(weight, update) == pytest.approx(
        expected, rel=1e-6 if dtype != torch.float16 else 1e-3
    )
    # And what really happens to a small update that is stored in this type.
    small = torch.randn(300, 300, generator=generator, dtype=torch.float64) * float(weight.abs().max())
    stored = (weight.double() + small).to(dtype).double() - weight.double()
    lost = float((stored - small).norm() / small.norm())
    after = (weight.double() + small).to(dtype)
    assert lost == pytest.approx(rounding_floor(after, small), rel=0.05)


def test_the_rounding_floor_is_recorded_with_the_weights_own_type(tmp_path):
    floors = {}
    for dtype, lr in ((torch.float32, 0.1), (torch.float32, 1e-7), (torch.bfloat16, 0.1)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr)
        path = tmp_path / f"{dtype}-{lr}.zarr"
        with Recorder(model, path, optimizer=optimizer, every=1) as recorder:
            functional.cross_entropy(model(X.to(dtype)), Y).backward()
            optimizer.step()
            recorder.step()
        layer = open_run(path)["state/0"]
        floors[dtype, lr] = layer["update_rounding_floor"].values
        assert layer["update_rounding_floor"].attrs["limit"] == 1e-3
        assert np.isnan(floors[dtype, lr][-1])
        if dtype == torch.float32:
            weight, update = (layer[s].values[0] for s in ("weight", "update"))
            expected = np.sqrt((np.spacing(abs(weight)).astype(float) ** 2).sum() / 12) / np.linalg.norm(
                update
            )
            np.testing.assert_allclose(floors[dtype, lr][0], expected, rtol=1e-5)
    assert floors[torch.float32, 0.1][0] < 1e-3 < floors[torch.float32, 1e-7][0]
    assert floors[torch.bfloat16, 0.1][0] > 1e-3
    results = analyze([path], metrics=["update_rounding_floor", "update_trustworthy"])["state"]
    np.testing.assert_array_equal(results["update_rounding_floor"].sel(layer="0")[0], floors[dtype, lr])
    np.testing.assert_array_equal(results["update_trustworthy"].sel(layer="0")[0], [0, np.nan])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_update_that_is_not_finite_is_recorded_without_a_floor(tmp_path):
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), 1e38)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            (1e3 * functional.cross_entropy(model(X), Y)).backward()
            optimizer.step()
            recorder.step()
    layer = open_run(tmp_path / "run.zarr")["state/0"]
    assert not np.isfinite(layer["update"].values[0]).all()
    assert np.isnan(layer["update_rounding_floor"].values).all()
