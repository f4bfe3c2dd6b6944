"""Compare the factors of signals with the raw matrices in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag import spectra
from fadiag.analysis import analyze
from fadiag.capture import DEFAULT_ADAPTERS, Live, Probe, Recorder, Subset
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.signals.factors import Factors
from fadiag.capture.signals.layer_signals import SignalTensor
from fadiag.errors import AnalysisWarning, CaptureWarning, InputError, MissingSignalError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import loss_of

SHAPES = [(4096, 32), (2048, 64), (512, 128), (96, 128), (128, 512)]
LARGE = [
    pytest.param(*shape, marks=pytest.mark.slow)
    for shape in [(131072, 32), (32768, 64), (4096, 256), (512, 2048)]
]


def ill(rows, columns, seed, mean=0.0):
    """Float32 data of condition 1e9."""
    rng = np.random.default_rng(seed)
    rank = min(rows, columns)
    left, right = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in (rows, columns))
    shift = mean * rng.standard_normal(columns) / np.sqrt(rows * columns)
    return ((left * np.logspace(0, -9, rank)) @ right.T + shift).astype(np.float32)


def effective_rank(matrix):
    values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    return spectra.effective_rank_of_spectrum(values)


def reduced(arrays, dims=("sample", "out"), unfolding="samples", rows=None, device="cpu"):
    readings = {name: [SignalTensor(torch.from_numpy(x).to(device), dims)] for name, x in arrays.items()}
    return Factors(unfolding, rows)("layer", readings)


def centered(signal):
    if signal.attrs["factor_side"] == "rows":
        return signal.array[1:]
    return signal.array - signal.array.astype(np.float64).mean(0)


def own(x):
    return x.astype(np.float64), x.astype(np.float64) - x.astype(np.float64).mean(0)


@pytest.mark.parametrize(("rows", "columns"), SHAPES + LARGE)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_the_effective_rank_of_a_factor_is_that_of_the_matrix_at_condition_1e9(rows, columns, mean, device):
    x, twin = ill(rows, columns, 0, mean), ill(rows, columns, 1, mean)
    found = reduced({"error": x, "error_bp": twin}, device=device)
    assert found["error"].array.dtype == np.float32
    raw, without_mean = (effective_rank(matrix) for matrix in own(x))
    assert effective_rank(found["error"].array) == pytest.approx(raw, rel=1e-8)
    assert effective_rank(centered(found["error"])) == pytest.approx(without_mean, rel=1e-8)
    # In a basis that is not its own, a float32 factor is a few 1e-8 off: its spectra are stored too.
    for kind, matrix in zip(("raw", "centered"), own(twin), strict=True):
        spectrum = found[f"error_bp_spectrum_{kind}"].array
        assert spectra.effective_rank_of_spectrum(spectrum) == pytest.approx(
            effective_rank(matrix), rel=1e-12
        )
        assert effective_rank(found["error_bp"].array) == pytest.approx(
            effective_rank(own(twin)[0]), rel=1e-7
        )


@pytest.mark.parametrize(("rows", "columns"), SHAPES + LARGE)
def test_a_gram_matrix_in_single_precision_is_not_enough(rows, columns):
    """A float32 Gram matrix would break the promise of the test above."""
    x = ill(rows, columns, 0)
    gram = (x.T @ x) if rows >= columns else (x @ x.T)
    values = np.sqrt(np.linalg.eigvalsh(gram.astype(np.float64)).clip(0))
    assert abs(spectra.effective_rank_of_spectrum(values) / effective_rank(x) - 1) > 1e-6


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_subspaces_and_cross_moments_are_those_of_the_matrix(rows, columns, device):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((rows, columns)) * np.logspace(0, -3, columns) + 0.1).astype(np.float32)
    twin = (x + 0.3 * rng.standard_normal((rows, columns))).astype(np.float32)
    found = reduced({"error": x, "error_bp": twin}, device=device)
    e, b = (found[name].array.astype(np.float64) for name in ("error", "error_bp"))
    exact, exact_bp = own(x)[0], own(twin)[0]
    if rows >= columns:
        assert e.shape == (1 + columns, columns)
        assert b.shape == (min(rows, 1 + 2 * columns), columns)
        cross = exact.T @ exact_bp
        np.testing.assert_allclose(e.T @ b[: len(e)], cross, atol=1e-6 * np.abs(cross).max())
        np.testing.assert_allclose(e[0], np.sqrt(rows) * exact.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b.T @ b, exact_bp.T @ exact_bp, atol=1e-6 * rows)
        k = 5
        basis = spectra.right_basis(exact, k)
        assert spectra.overlap_of_bases(spectra.right_basis(e, k), basis) == pytest.approx(1.0, abs=1e-9)
    else:
        assert e.shape == b.shape == (rows, min(columns, 2 * rows))
        cross = exact @ exact_bp.T
        np.testing.assert_allclose(e @ b.T, cross, atol=1e-6 * np.abs(cross).max())
    for k in (1, 5):
        assert spectra.overlap(e, b, k) == pytest.approx(spectra.overlap(exact, exact_bp, k), abs=1e-6)


def test_the_parts_of_a_factor_are_those_of_single_rows(device):
    rng = np.random.default_rng(3)
    x, twin = rng.standard_normal((2, 64, 6, 3, 2)).astype(np.float32)
    x[5] = 0.0
    dims = ("sample", "channel", "height", "width")
    found = reduced({"error": x, "error_bp": twin}, dims, "channels", device=device)
    flat, flat_bp = x.reshape(64, -1).astype(np.float64), twin.reshape(64, -1).astype(np.float64)
    np.testing.assert_allclose(found["error_norm"].array, np.linalg.norm(flat, axis=1), rtol=1e-12)
    np.testing.assert_allclose(
        found["error_cosine"].array, spectra.cosine(flat, flat_bp), rtol=1e-9, equal_nan=True
    )
    assert np.isnan(found["error_cosine"].array[5])
    rows = np.moveaxis(x, 1, -1).reshape(-1, 6).astype(np.float64)
    squares = (rows**2).sum(1)
    fourth = (((rows - rows.mean(0)) ** 2).sum(1) ** 2).sum()
    moments = [len(rows), squares.sum(), (squares**2).sum(), fourth]
    np.testing.assert_allclose(found["error_row_moments"].array, moments)
    norms = np.sqrt(squares)[:, None]
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    factor_of_units = found["error_row_normalized"].array.astype(np.float64)
    np.testing.assert_allclose(factor_of_units.T @ factor_of_units, unit.T @ unit, atol=1e-5)
    attrs = found["error"].attrs
    assert attrs["unfolding"] == "channels"
    assert (attrs["samples"], attrs["rows"], attrs["columns"]) == (64, 64 * 6, 6)


@pytest.mark.parametrize("shape", [(64, 4), (4, 64)])
def test_signals_of_zeros_and_of_nan_have_factors_of_zeros_and_nan(shape, device):
    zeros = reduced(
        {"error": np.zeros(shape, np.float32), "error_bp": np.zeros(shape, np.float32)}, device=device
    )
    assert not zeros["error"].array.any()
    assert np.isnan(zeros["error_cosine"].array).all()
    bad = np.ones(shape, np.float32)
    bad[2, 1] = np.inf
    found = reduced({"error": bad, "error_bp": np.ones(shape, np.float32)}, device=device)
    assert np.isnan(found["error"].array).all()
    assert np.linalg.norm(found["error_bp"].array) == pytest.approx(np.sqrt(256))
    assert found["error"].array.shape == zeros["error"].array.shape


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.fc = nn.Linear(8 * 16, 40)
        self.out = nn.Linear(40, 4)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        return self.out(functional.relu(self.fc(x.flatten(1))))


def batch_of(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=generator), torch.randint(4, (n,), generator=generator)


def trained(path, reduction, *, unfolding="channels", n=48, rows=None, steps=3, probe=True, live=True):
    """A small convolutional run with a probe and live signals; returns its final weights."""
    torch.manual_seed(0)
    model = convert(Conv())
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    options = {"reduction": reduction, "unfolding": unfolding, "rows": rows}
    probes = {"probe": Probe(batch_of(n), loss_of, **options)} if probe else {}
    asked = Live(every=1, **options) if live else None
    with Recorder(model, path, optimizer=optimizer, probes=probes, live=asked, every=1) as recorder:
        for step in range(steps):
            optimizer.zero_grad()
            for part in range(2):
                loss_of(model, batch_of(20, seed=10 * step + part)).backward()
            optimizer.step()
            recorder.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(("unfolding", "n"), [("channels", 48), ("samples", 48), ("samples", 200)])
def test_results_from_factors_are_those_from_raw_signals(tmp_path, unfolding, n):
    results = {}
    for reduction in ("raw", "factor"):
        path = tmp_path / f"{reduction}.zarr"
        trained(path, reduction, unfolding=unfolding, n=n)
        results[reduction] = analyze(path, unfolding=unfolding)
    for stream in ("probe", "live"):
        raw, factored = (results[kind][stream].to_dataset() for kind in ("raw", "factor"))
        lost = {"activation_cka_first", "modulator_pseudo_cosine"}
        assert set(raw) - set(factored) <= lost
        assert set(factored) <= set(raw)
        for name in factored:
            a, b = factored[name].values, raw[name].values
            if name in lost:  # known for the layers whose samples were stored
                b = np.where(np.isnan(a), np.nan, b)
            rtol = 1e-6 if "rank" in name else 2e-5
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-7, err_msg=name)
            if name not in lost:
                attrs = dict(factored[name].attrs)
                attrs.pop("read_instead", None)  # moments that only a factor has
                assert attrs == raw[name].attrs


def test_recording_factors_changes_nothing_of_the_run(tmp_path):
    bare = trained(tmp_path / "bare.zarr", "raw", probe=False, live=False)
    recorded = trained(tmp_path / "recorded.zarr", "factor", rows=Subset(7, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(bare, recorded, strict=True))


@pytest.mark.parametrize("rows", [9, Subset(9, seed=3)])
@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_chosen_samples_are_the_same_in_every_record(tmp_path, rows, reduction):
    trained(tmp_path / "some.zarr", reduction, rows=rows, steps=2)
    trained(tmp_path / "all.zarr", "raw", steps=2)
    options = {"signals": ["error"], "jacobian_vectors": 10}
    for name, chosen in (("some", {"rows": rows, "reduction": reduction}), ("all", {})):
        model = convert(Conv(), seed=1)
        probe = Probe(batch_of(48), loss_of, **options, **chosen)
        cosines = probe.read(model, choose_layers(model, DEFAULT_ADAPTERS, None))[0].signals[
            "jacobian_cosine"
        ]
        assert len(cosines.array) == (9 if name == "some" else 48)
    some, whole = (open_run(tmp_path / f"{name}.zarr") for name in ("some", "all"))
    for stream, n in (("probe", 48), ("live", 40)):
        indices = np.arange(9)
        if isinstance(rows, Subset):
            drawn = torch.randperm(n, generator=torch.Generator().manual_seed(3))
            indices = drawn[:9].sort().values.numpy()
        assert (some[stream]["rows_valid"].values == 9).all()
        for layer in ("conv2", "out"):
            stored, full = (
                some[f"{stream}/{layer}/error"],
                whole[f"{stream}/{layer}/error"].values[:, indices],
            )
            if reduction == "raw":
                np.testing.assert_array_equal(stored.values, full)
                continue
            norms = some[f"{stream}/{layer}/error_norm"].values
            flat = full.reshape(*full.shape[:2], -1).astype(np.float64)
            np.testing.assert_allclose(norms, np.linalg.norm(flat, axis=-1), rtol=1e-10)
            assert stored.attrs["samples"] == 9


def recorded_batches(path, sizes, unfolding, poison=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 4))
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    raw = []
    live = Live(["activation", "error"], every=1, reduction="factor", unfolding=unfolding)
    with Recorder(model, path, live=live, state=()) as recorder:
        for step, size in enumerate(sizes):
            given = x[:size].clone()
            if step == poison:
                given[1, 2] = np.inf
            functional.cross_entropy(model(given), torch.zeros(size, dtype=torch.long)).backward()
            raw.append(model[1](model[0](given)).detach().double().numpy())
            recorder.step()
    return raw


@pytest.mark.parametrize("first", [40, 20])
def test_batches_that_are_shorter_or_longer_than_the_first(tmp_path, first):
    path = tmp_path / "run.zarr"
    with pytest.warns(CaptureWarning, match=f"has 50 samples in one step, and room for the {first} of"):
        raw = recorded_batches(path, [first, 7, 50], "samples")
    results = analyze(path, metrics=["activation_effective_rank_centered", "activation_effective_samples"])
    assert list(open_run(path)["live"]["rows_valid"].values) == [first, 7, first]
    for step, rows in enumerate((first, 7, first)):
        x = raw[step][:rows]
        found = results["live"].isel(run=0, step=step).sel(layer="0")
        exact = effective_rank(x - x.mean(0))
        assert float(found["activation_effective_rank_centered"]) == pytest.approx(exact, rel=1e-6)
        exact = spectra.effective_samples(x)
        assert float(found["activation_effective_samples"]) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("first", [40, 20])
def test_what_is_not_a_number_is_recorded_as_such_and_counted(tmp_path, first):
    path = tmp_path / "run.zarr"
    recorded_batches(path, [first, first], "channels", poison=1)
    activation = open_run(path)["live/0/activation"]
    assert np.isfinite(activation.values[0]).all()
    assert np.isnan(activation.values[1]).all()
    assert activation.attrs["nan_count"] == activation[1].size
    with pytest.warns(AnalysisWarning, match=r"activation of layer '[02]' at step 1 holds"):
        analyze(path, metrics=["activation_effective_rank_raw"])


def test_a_factor_is_analyzed_as_the_unfolding_that_it_is(tmp_path):
    trained(tmp_path / "a.zarr", "factor", steps=1)
    with pytest.raises(InputError) as caught:
        analyze(tmp_path / "a.zarr")
    assert str(caught.value) == (
        "activation of layer 'conv1' is the factor of its 'channels' unfolding; analyze with "
        "unfolding='channels', without runs of another unfolding (run a)"
    )


def test_a_metric_that_needs_more_than_a_factor_is_refused(tmp_path):
    trained(tmp_path / "a.zarr", "factor", steps=1, n=200)
    with pytest.raises(MissingSignalError, match="activation_cka_first needs the rows of activation"):
        analyze(tmp_path / "a.zarr", unfolding="channels", metrics=["activation_cka_first"])


@pytest.mark.parametrize("kind", [lambda **options: Probe((1, 2), loss_of, **options), Live])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "svd"}, "reduction is 'svd'; it is 'auto', 'raw' or 'factor'"),
        ({"unfolding": "pixels"}, "unfolding is 'pixels'; it is 'samples' or 'channels'"),
        ({"rows": 0}, "rows is 0; give None for all samples, a number of them, or Subset(n, seed)"),
        ({"rows": Subset(0)}, "rows is Subset(n=0, seed=0); give None for all samples, "),
    ],
)
def test_what_cannot_be_reduced_is_refused(kind, options, words):
    with pytest.raises(InputError) as caught:
        kind(**options)
    assert words in str(caught.value)


def test_half_precision_is_factored_in_full(tmp_path):
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = Factors("samples")("layer", {"error": [SignalTensor(x, ("sample", "out"))]})["error"].array
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.T @ found, (x.double().T @ x.double()).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [4, 30])
def test_a_batch_without_any_of_the_chosen_samples_gives_zeros(columns):
    reduce = Factors("samples", Subset(6, seed=0))
    for parts in ([20], [0], [0, 0]):
        values = [torch.ones(n, columns) for n in parts]
        found = reduce("layer", {"error": [SignalTensor(value, ("sample", "out")) for value in values]})
        assert np.linalg.norm(found["error"].array) == pytest.approx(
            np.sqrt(6 * columns) if sum(parts) else 0.0
        )
