"""Test that a null uses the same samples and unfolding as the recorded signals."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag import spectra
from fadiag.capture import Probe, Recorder, Subset
from fadiag.capture.layers.own_layers import own_layers
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.passes.passes import Passes
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.signals import NULLS
from fadiag.store import open_run
from tests.capture.toy import loss_of, on

N, CHOSEN = 24, 7
X = torch.randn(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(4, (N,), generator=torch.Generator().manual_seed(1))
DRAWN = tuple(array for null in NULLS.values() for array in null.arrays)


def model_of():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    ]
    return fadiag.convert(nn.Sequential(*layers), seed=0)


def probed(path, batch=(X, Y), *, device="cpu", **options):
    """Record one reading with nulls of both kinds, by default a single draw of each."""
    options = {"redraws": 1, "gate_draws": 1, "jacobian_vectors": 8, **options}
    probe = Probe(on(device, batch), loss_of, **options)
    with Recorder(model_of().to(device), path, probes={"probe": probe}, state=()):
        pass
    return open_run(path)["probe"].load()


@pytest.mark.parametrize("rows", [CHOSEN, Subset(CHOSEN, seed=3)])
def test_nulls_of_some_samples_are_those_of_a_batch_of_them(tmp_path, rows, device):
    part = probed(tmp_path / "part.zarr", rows=rows, device=device)
    places = torch.arange(CHOSEN)
    if isinstance(rows, Subset):
        places = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:CHOSEN].sort().values
    alone = probed(tmp_path / "alone.zarr", (X[places], Y[places]), device=device)
    for layer in ("0", "3"):
        for name in (*DRAWN, "jacobian_cosine"):
            if name.startswith("gate"):
                continue  # another draw: fewer rows than units are rotated otherwise
            expected = alone[layer][name].values
            if name.startswith(("spectrum", "fourth"), len("error_null_")):
                expected = expected * (CHOSEN / N) ** (1 if "spectrum" in name else 4)  # of the mean loss
            np.testing.assert_allclose(part[layer][name], expected, rtol=1e-5, atol=1e-6)
            if name in DRAWN:
                assert part[layer][name].attrs["samples"] == CHOSEN
    found = fadiag.analyze(tmp_path / "part.zarr")["probe"].isel(run=0, step=0)
    # No B stands between the loss and the last layer's error: it is its own null, of whatever samples.
    for name in ("participation_ratio_raw", "effective_rank_raw", "cosine", "overlap"):
        value = float(found[f"error_{name}"].sel(layer="5"))
        assert float(found[f"error_{name}_null_mean"].sel(layer="5")) == pytest.approx(value, rel=1e-6)
        assert found[f"error_{name}"].attrs["samples"] == CHOSEN


def test_nulls_of_channels_are_those_of_the_matrix_of_channels(tmp_path):
    model = model_of()
    path = tmp_path / "run.zarr"
    probe = Probe(
        (X, Y),
        loss_of,
        redraws=1,
        gate_draws=30,
        reduction="factor",
        unfolding="channels",
        rows=CHOSEN,
        seed=5,
    )
    with Recorder(model, path, probes={"probe": probe}, state=()):
        pass
    run = open_run(path)["probe"].load()
    assert run["0"]["error_null_overlap"].attrs["unfolding"] == "channels"
    assert run["3"]["error_null_overlap"].attrs["unfolding"] == "both"

    def error_of(model):
        seen = []
        handle = model[0].register_forward_hook(
            lambda module, given, out: out.register_hook(seen.append) and None
        )
        loss_of(model, (X, Y)).backward()
        handle.remove()
        return seen[0][:CHOSEN].movedim(1, -1).reshape(-1, 3).double().numpy(), seen[0][:CHOSEN]

    truth, plain = (error_of(m) for m in (nn.Sequential(*_exact(model)), _redrawn(5)))
    expected = {
        "fourth_raw": (plain[0] ** 2).sum(1) @ (plain[0] ** 2).sum(1),
        "fourth_centered": np.square((spectra.centered(plain[0]) ** 2).sum(1)).sum(),
        "overlap": spectra.overlap(plain[0], truth[0], 3),
        "cosine": np.nanmean(spectra.cosine(*(e[1].flatten(1).double().numpy() for e in (plain, truth)))),
    }
    for name, value in expected.items():
        assert float(run["0"][f"error_null_{name}"][0, 0]) == pytest.approx(float(value), rel=1e-5)
    for how, matrix in (("raw", plain[0]), ("centered", spectra.centered(plain[0]))):
        s = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(run["0"][f"error_null_spectrum_{how}"][0, 0], s, rtol=1e-5)
    found = fadiag.analyze(path, unfolding="channels")["probe"].isel(run=0, step=0).sel(layer="0")
    assert np.isfinite(found["error_effective_rank_raw_null_p"])
    assert 1 <= float(found["error_effective_rank_raw_gate_null_mean"]) <= 3


def _exact(model):
    plain = model_of()
    for mine, other in zip(plain, model, strict=True):
        if hasattr(other, "feedback"):
            mine.weight.data.copy_(other.weight)
            mine.feedback.copy_(other.weight)
    return plain


def _redrawn(seed):
    generator = torch.Generator().manual_seed(seed)
    other = model_of()
    for layer in choose_layers(other, [own_layers], None):
        layer.module.feedback.copy_(layer.adapter.redrawn(layer.module, generator))
    return other


def test_a_gradient_has_the_samples_of_the_whole_batch(tmp_path):
    for name, rows in (("part", CHOSEN), ("whole", None)):
        run = probed(tmp_path / f"{name}.zarr", rows=rows, signals=["error", "gradient", "gradient_bp"])
        assert run["3"]["gradient"].attrs["samples"] == run["3"]["gradient_bp"].attrs["samples"] == N
        found = fadiag.analyze(tmp_path / f"{name}.zarr")["probe"]
        for variable in ("gradient_effective_rank_raw", "gradient_cosine"):
            assert found[variable].attrs["samples"] == N
        assert found["error_effective_rank_raw"].attrs["samples"] == (rows or N)
    alone = probed(tmp_path / "gradient.zarr", rows=CHOSEN, signals=["gradient"], redraws=0, gate_draws=0)
    assert alone["3"]["gradient"].attrs["samples"] == N


def mlp():
    torch.manual_seed(0)
    return fadiag.convert(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4)),
        seed=0,
    )


@contextmanager
def _copying(module, matrix):
    with own_layers.using(module, matrix.clone()):
        yield


@pytest.mark.parametrize("using", [own_layers.using, _copying])
def test_draws_are_those_of_whole_passes_whether_or_not_one_graph_serves_all(using, monkeypatch, device):
    model, runs, batch = mlp().to(device), [], on(device, (X, Y))
    adapter = replace(own_layers, using=using)
    layers = choose_layers(model, [adapter], None)
    monkeypatch.setattr(
        Passes, "run", lambda self, *a, _run=Passes.run, **o: runs.append(a) or _run(self, *a, **o)
    )
    found = Probe(batch, loss_of, signals=["error"], redraws=5, seed=3).read(model, layers)
    # The model's own pass, the true one, and two draws; or all five.
    assert len(runs) == (4 if using is own_layers.using else 7)
    generator = torch.Generator().manual_seed(3)
    for draw in range(5):
        other = mlp().to(device)
        for layer in choose_layers(model, [adapter], None):
            if draw and layer.name == "1":
                continue  # no credit goes through the first layer's feedback
            redrawn = layer.adapter.redrawn(layer.module, generator)
            other.get_submodule(layer.name).feedback.copy_(redrawn)
        whole = Probe(batch, loss_of).read(other, choose_layers(other, [own_layers], None))
        for layer, own in zip(whole, found, strict=True):
            s = np.linalg.svd(layer.signals["error"].array.astype(np.float64), compute_uv=False)
            drawn = own.signals["error_null_spectrum_raw"].array[draw]
            np.testing.assert_allclose(drawn, s, rtol=1e-5, atol=1e-6 * s[0])


class Once(torch.autograd.Function):
    """The identity; its backward pass needs what its module holds during one pass."""

    @staticmethod
    def forward(ctx, x, held):
        ctx.held = held
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.held["scale"], None


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.held = {}

    def forward(self, x):
        self.held["scale"] = 1.0
        return Once.apply(x, self.held)


def test_a_graph_that_serves_one_backward_pass_only_costs_a_pass_for_each_draw(monkeypatch):
    model, runs = mlp().append(Holder()), []
    monkeypatch.setattr(
        Passes, "run", lambda self, *a, _run=Passes.run, **o: runs.append(a) or _run(self, *a, **o)
    )
    options = {"signals": ["error"], "redraws": 5}
    found = Probe((X, Y), loss_of, **options).read(model, choose_layers(model, [own_layers], None))
    assert len(runs) == 7
    plain = mlp()
    expected = Probe((X, Y), loss_of, **options).read(plain, choose_layers(plain, [own_layers], None))
    assert len(runs) == 11
    for one, other in zip(found, expected, strict=True):
        for name in ("error_null_spectrum_raw", "error_null_cosine"):
            np.testing.assert_allclose(
                one.signals[name].array, other.signals[name].array, rtol=1e-5, atol=1e-6
            )


def train(path, probe, steps, *, every, change=False):
    """Train for some steps; with `change`, the weights change once more before the recorder is closed."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(model, path, optimizer=optimizer, probes={"probe": probe}, every=every)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, (X, Y)).backward()
        optimizer.step()
        recorder.step()
    if change:
        with torch.no_grad():
            model[1].weight.mul_(-1)
    recorder.close()
    return open_run(path)["probe"]


def drawn_at(run):
    drawn = ~np.isnan(run["1"]["error_null_cosine"].values).all(axis=1)
    np.testing.assert_array_equal(
        drawn, ~np.isnan(run["1"]["gate_null_spectrum_raw"].values).all(axis=(1, 2))
    )
    return run["step"].values[drawn].tolist()


@pytest.mark.parametrize("steps", [4, 5])
def test_nulls_are_drawn_in_the_first_record_and_the_last(tmp_path, steps):
    def probe():
        return Probe((X, Y), loss_of, redraws=2, gate_draws=2)

    run = train(tmp_path / "run.zarr", probe(), steps, every=2)
    assert run["step"].values.tolist() == [0, 2, 4, 5][: steps - 1]
    assert drawn_at(run) == [0, steps]
    listed = Probe((X, Y), loss_of, redraws=2, gate_draws=2, null_every=[1, 2])
    listed = train(tmp_path / "listed.zarr", listed, steps, every=2)
    assert drawn_at(listed) == [2, steps]
    assert listed["5"].attrs["no_gate_null"] == "no layer reads its output"
    for layer in ("1", "3", "5"):  # a record that waited for its nulls is the one that was read
        np.testing.assert_array_equal(run[layer]["error"], listed[layer]["error"])
        np.testing.assert_array_equal(
            run[layer]["error_null_cosine"][-1], listed[layer]["error_null_cosine"][-1]
        )


def test_of_other_weights_at_close_no_null_is_drawn(tmp_path):
    probe = Probe((X, Y), loss_of, redraws=2, gate_draws=2)
    with pytest.warns(
        CaptureWarning,
        match=r"at close\(\) the model has other weights .* nothing more of step 4 is recorded",
    ):
        run = train(tmp_path / "run.zarr", probe, 4, every=2, change=True)
    assert run["step"].values.tolist() == [0, 2, 4]
    assert drawn_at(run) == [0]
    whole = train(tmp_path / "whole.zarr", probe, 4, every=2)
    np.testing.assert_array_equal(run["1"]["error"], whole["1"]["error"])


def test_a_record_that_waits_for_its_nulls_survives_a_failure(tmp_path):
    model = mlp()
    probe = Probe((X, Y), loss_of, redraws=2)
    recorder = Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, state=(), every=1)
    recorder.step()
    with pytest.raises(ZeroDivisionError), recorder:
        raise ZeroDivisionError
    assert open_run(tmp_path / "run.zarr")["probe"]["step"].values.tolist() == [0, 1]


def test_nulls_that_would_fill_the_disk_are_refused(monkeypatch):
    monkeypatch.setattr("fadiag.capture.streams.nulls.MOST_BYTES", 2**20)
    model = mlp()
    layers = choose_layers(model, [own_layers], None)
    with pytest.raises(CaptureError, match=r"nulls of one record take 2 MiB, .*fewer redraws .*\(rows=\)"):
        Probe((X, Y), loss_of, redraws=5000, gate_draws=5000).read(model, layers)
    Probe((X, Y), loss_of, redraws=5, gate_draws=5).read(model, layers)
