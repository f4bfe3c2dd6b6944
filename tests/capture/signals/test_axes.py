"""Test that permuted, reshaped and variable axes are recorded correctly or refused."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag import spectra
from fadiag.analysis import analyze
from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import AnalysisWarning, CaptureError, InputError
from fadiag.store import open_run


def loss_of(model, batch):
    return (model(batch) - 1).square().mean()


class Block(nn.Module):
    """A convolution and a norm over its channels, which are moved to the last axis."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(self.conv(x).permute(0, 2, 3, 1))


class Sequence(nn.Module):
    def __init__(self, *, merged=False):
        super().__init__()
        self.fc, self.norm, self.merged = nn.Linear(6, 5), nn.BatchNorm1d(5), merged

    def forward(self, x):
        a = self.fc(x)
        return self.norm(a.flatten(0, 1) if self.merged else a.transpose(1, 2)).relu()


def recorded(path, model, x, **options):
    probe = Probe(x, loss_of, signals=["activation", "modulator", "error"], **options)
    with Recorder(model, path, probes={"p": probe}, state=()):
        pass
    return open_run(path)["p"]


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_channels_are_the_layers_units_on_any_axis(tmp_path, reduction):
    torch.manual_seed(0)
    model, x = Block(), torch.randn(5, 4, 6, 7)
    layer = recorded(tmp_path / "a.zarr", model, x, reduction=reduction, unfolding="channels")["conv"]
    assert "h_channel" in layer["activation"].dims
    assert layer["activation"].shape[-1] == layer["error"].sizes["channel"] == 4
    found = analyze(tmp_path / "a.zarr", unfolding="channels")["p/activation_participation_ratio_raw"]
    exact = spectra.participation_ratio(model(x).detach().double().reshape(-1, 4).numpy())
    assert float(found.squeeze()) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize(("model", "shape"), [(Block(6), (5, 6, 6, 7)), (Sequence(), (4, 5, 6))])
def test_a_channel_axis_that_is_not_certain_is_refused(tmp_path, model, shape):
    x, name = torch.randn(shape), "conv" if isinstance(model, Block) else "fc"
    match = rf"channel axis of activation of layer '{name}' is not known.*record it with unfolding='samples'"
    with pytest.raises(CaptureError, match=match):
        recorded(tmp_path / "a.zarr", model, x, reduction="factor", unfolding="channels")
    layer = recorded(tmp_path / "b.zarr", model, x)[name]
    assert layer["activation"].dims[1:] == ("sample", *(f"h_{i}" for i in range(1, len(shape))))
    analyze(tmp_path / "b.zarr")
    match = rf"channel axis of (activation|modulator) of layer '{name}' is not known.*unfolding='samples'"
    with pytest.raises(InputError, match=match):
        analyze(tmp_path / "b.zarr", unfolding="channels", strict=True)
    with pytest.warns(AnalysisWarning, match=match):
        analyze(tmp_path / "b.zarr", unfolding="channels")
    analyze(tmp_path / "b.zarr", unfolding="channels", metrics=["error_effective_rank_raw"])


def test_samples_and_positions_that_a_norm_merged_are_split_again(tmp_path):
    model, x = Sequence(merged=True), torch.randn(4, 3, 6)
    layer = recorded(tmp_path / "a.zarr", model, x, mode="train")["fc"]
    assert layer["activation"].dims == layer["error"].dims == ("step", "sample", "position", "out")
    assert "rows" not in layer


def test_a_convolution_without_a_batch_is_refused(tmp_path):
    with pytest.raises(
        CaptureError, match=r"layer '0' \(Conv1d\) returned \(6, 6\), one sample without an axis"
    ):
        recorded(tmp_path / "a.zarr", nn.Sequential(nn.Conv1d(3, 6, 3)), torch.randn(3, 8))


def recorded_live(path, lengths, **options):
    """Record one step for each list of micro-batches, given as (samples, length); return the outputs."""
    torch.manual_seed(0)
    model, outputs = nn.Sequential(nn.Linear(6, 5)), []
    with Recorder(model, path, live=Live(["activation", "error"], every=1, **options), state=()) as recorder:
        for parts in lengths:
            for rows, length in parts:
                outputs.append(model(torch.randn(rows, length, 6)))
                outputs[-1].square().mean().backward()
            recorder.step()
    return [output.detach().double().numpy() for output in outputs]


def test_positions_that_vary_are_refused_with_the_way_out(tmp_path):
    match = r"activation of layer '0' has shape \(3, 9, 5\) at step 1 and had \(4, 7, 5\) before; .*pad"
    with pytest.raises(CaptureError, match=match):
        recorded_live(tmp_path / "a.zarr", [[(4, 7)], [(3, 9)]])
    with pytest.raises(CaptureError, match=r"micro-batches of one step have activation of layer '0'"):
        recorded_live(tmp_path / "b.zarr", [[(4, 7), (4, 9)]])
    with pytest.raises(CaptureError, match=r"micro-batches .* \(4, 7, 5\) and \(4, 9, 5\); a signal"):
        recorded_live(tmp_path / "c.zarr", [[(4, 7), (4, 9)]], reduction="factor")
    with pytest.raises(CaptureError, match="reduction='factor' and unfolding='channels'"):
        recorded_live(tmp_path / "d.zarr", [[(40, 2)], [(40, 3)]], reduction="factor")


def test_factors_of_channels_take_positions_that_vary(tmp_path):
    options = {"reduction": "factor", "unfolding": "channels"}
    outputs = recorded_live(tmp_path / "a.zarr", [[(4, 1)], [(3, 9)], [(4, 2)]], **options)
    recorded_live(tmp_path / "b.zarr", [[(4, 7), (3, 9)]], **options)
    found = analyze(tmp_path / "a.zarr", unfolding="channels")["live/activation_effective_rank_raw"]
    exact = [spectra.effective_rank(x.reshape(-1, 5)) for x in outputs]
    np.testing.assert_allclose(found.squeeze(), exact, rtol=1e-6)
    assert open_run(tmp_path / "b.zarr")["live/0/activation_norm"].shape == (1, 7)
