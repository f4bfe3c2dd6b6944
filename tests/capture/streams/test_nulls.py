"""A null is computed from the same samples, in the same unfolding, as the signals beside it."""

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag import spectra
from fadiag.capture import Probe, Recorder, Subset
from fadiag.signals import NULLS
from fadiag.store import open_run
from tests.capture.toy import loss_of

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


def probed(path, batch=(X, Y), **options):
    """Record one reading with nulls of both kinds, by default a single draw of each."""
    options = {"redraws": 1, "gate_draws": 1, "jacobian_vectors": 8, **options}
    with Recorder(model_of(), path, probes={"probe": Probe(batch, loss_of, **options)}, state=()):
        pass
    return open_run(path)["probe"].load()


@pytest.mark.parametrize("rows", [CHOSEN, Subset(CHOSEN, seed=3)])
def test_nulls_of_some_samples_are_those_of_a_batch_of_them(tmp_path, rows):
    part = probed(tmp_path / "part.zarr", rows=rows)
    places = torch.arange(CHOSEN)
    if isinstance(rows, Subset):
        places = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:CHOSEN].sort().values
    alone = probed(tmp_path / "alone.zarr", (X[places], Y[places]))
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
    from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
    from fadiag.capture.layers.selection import choose_layers

    generator = torch.Generator().manual_seed(seed)
    other = model_of()
    for layer in choose_layers(other, DEFAULT_ADAPTERS, None):
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
