"""Test the signals of the training batches."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of, on

X, Y = labelled(10)


def small():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 3)))


def test_live_signals_are_those_that_a_probe_reads_of_the_same_batch(tmp_path, device):
    x, y = on(device, (X, Y))
    model = small().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    signals = ("input", "activation", "modulator", "error_post", "error")
    probe = Probe((x, y), loss_of, mode="train", signals=signals)
    with Recorder(
        model,
        tmp_path / "run.zarr",
        optimizer=optimizer,
        probes={"probe": probe},
        every=2,
        live=Live(signals, every=2),
    ) as recorder:
        for step in range(5):
            armed = bool(model[0]._forward_hooks)
            assert armed == (step % 2 == 0)
            optimizer.zero_grad()
            loss_of(model, (x, y)).backward()
            with torch.no_grad():
                model(x[:3])  # a look at the model leaves no row
            optimizer.step()
            recorder.step()
    assert not model[0]._forward_hooks
    run = open_run(tmp_path / "run.zarr")
    assert list(run["live"]["step"].values) == [0, 2, 4]
    for layer in ("0", "3"):
        for signal in signals:
            live, read = run[f"live/{layer}/{signal}"].values, run[f"probe/{layer}/{signal}"].values[:3]
            assert live.any()
            np.testing.assert_array_equal(live, read)
    assert run["live/0"].attrs["norm"] == "batch_norm"


def test_rows_of_micro_batches_are_joined_and_short_batches_padded(tmp_path, device):
    x, y = on(device, (X, Y))
    model, x = nn.Sequential(nn.Linear(6, 3)).double().to(device), x.double()
    match = r"layer '0' has 8 samples in one step, and room for the 6 of the first .* so 2 are left out"
    with Recorder(model, tmp_path / "run.zarr", live=Live(["activation", "error"], every=1)) as recorder:
        for parts in ([(0, 4), (4, 6)], [(0, 3)], [(0, 8)], [(0, 9)]):
            for first, last in parts:
                loss_of(model, (x[first:last], y[first:last])).backward()
            with pytest.warns(CaptureWarning, match=match) if parts == [(0, 8)] else nullcontext():
                recorder.step()
    run = open_run(tmp_path / "run.zarr")
    activation = run["live/0/activation"].values
    assert activation.shape == (4, 6, 3)
    assert list(run["live"]["rows_valid"].values) == [6, 3, 6, 6]
    assert "rows" not in run["live/0"]
    expected = model(x).detach().cpu().numpy()
    np.testing.assert_allclose(activation[0], expected[:6], rtol=1e-6)
    np.testing.assert_allclose(activation[1, :3], expected[:3], rtol=1e-6)
    assert np.isnan(activation[1, 3:]).all()
    np.testing.assert_allclose(activation[2], expected[:6], rtol=1e-6)
    assert run["live/0/activation"].attrs["nan_count"] == 0  # padding is no finding


def test_errors_under_a_scaled_loss_are_recorded_unscaled(tmp_path, device):
    x, y = on(device, (X, Y))
    errors = []
    for name in ("plain", "scaled"):
        model = small().to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler(device.type, init_scale=1024.0, enabled=name == "scaled")
        live, path = Live(["activation", "error", "modulator"], every=1), tmp_path / f"{name}.zarr"
        with Recorder(model, path, optimizer=optimizer, live=live, scaler=scaler, every=1) as recorder:
            scaler.scale(loss_of(model, (x, y))).backward()
            scaler.step(optimizer)
            scaler.update()
            recorder.step()
        run = open_run(path)
        signals = [run[f"live/0/{s}"].values for s in ("activation", "error", "modulator")]
        errors.append([*signals, run["state/0/gradient"].values[0]])
    for plain, scaled in zip(*errors, strict=True):
        assert plain.any()
        np.testing.assert_array_equal(plain, scaled)
    assert run["log/loss_scale"].values[0] == 1024


def test_autocast_bf16_is_stored_as_float32(tmp_path, device):
    x, y = on(device, (X, Y))
    model = small().to(device)

    def loss_under(model, batch):
        with torch.autocast(device.type, torch.bfloat16):
            return loss_of(model, batch)

    with Recorder(
        model, tmp_path / "run.zarr", probes={"p": Probe((x, y), loss_under)}, live=Live(every=1)
    ) as recorder:
        loss_under(model, (x, y)).backward()
        recorder.step()
    run = open_run(tmp_path / "run.zarr")
    for path in ("p/0/error", "p/0/error_bp", "live/0/error"):
        assert run[path].dtype == np.float32
        assert run[path].values.any()


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_makes_no_duplicates(reentrant, tmp_path):
    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            save = torch.utils.checkpoint.checkpoint
            return self.out(save(self.body, x.requires_grad_(), use_reentrant=reentrant))

    torch.manual_seed(0)
    model = convert(Saving())
    options = {"probes": {"p": Probe((X, Y), loss_of)}, "live": Live(every=1)}
    if reentrant:
        with pytest.raises(CaptureError, match=r"layer 'body.0' ran without autograd.*use_reentrant=False"):
            Recorder(model, tmp_path / "run.zarr", **options)
        return
    with Recorder(model, tmp_path / "run.zarr", **options) as recorder:
        loss_of(model, (X.clone(), Y)).backward()
        recorder.step()
    run = open_run(tmp_path / "run.zarr")
    assert list(run["live"].children) == ["body.0", "out"]
    assert run["live/body.0"].attrs["gate"] == "tanh"
    np.testing.assert_allclose(run["live/body.0/error"].values[0], run["p/body.0/error"].values[0], atol=1e-7)


def test_what_cannot_be_recorded_live_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'error_bp' cannot be recorded live: .* record it with a Probe"):
        Live(["error_bp"])
    with pytest.raises(InputError, match=r"unknown live signal 'errors'; there are activation"):
        Live(["errors"])
    with pytest.raises(InputError, match=r"live is a int; give a fadiag.capture.Live"):
        Recorder(small(), tmp_path / "run.zarr", live=50)
    recorder = Recorder(small(), tmp_path / "run.zarr", live=Live(every=1))
    with pytest.raises(CaptureError, match=r"saw no backward pass in step 0; call the recorded"):
        recorder.step()
    recorder.close()


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method:DeprecationWarning")
def test_live_on_a_compiled_model_is_refused_with_the_reason(tmp_path):
    with pytest.raises(CaptureError, match=r"compiled model cannot be recorded: hooks attached after"):
        Recorder(torch.compile(small()), tmp_path / "run.zarr", live=Live())
