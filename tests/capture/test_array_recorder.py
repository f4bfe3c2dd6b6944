"""Test the manual recording of errors from a numpy network, and their analysis."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import fadiag
from fadiag.capture import record_arrays
from fadiag.errors import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 6)), np.eye(3)[RNG.integers(3, size=24)]
WIDTHS = (6, 8, 7, 3)
NAMES = ("fc1", "fc2", "out")
FEEDBACK = {"fc1": RNG.normal(size=(3, 8)) / 2, "fc2": RNG.normal(size=(3, 7)) / 2}


def cosine(a, b):
    return a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b)


def train(steps):
    """Yield what each layer has at each step of training by direct feedback, and the loss."""
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(WIDTHS)]
    for _ in range(steps):
        h1 = np.tanh(X @ weights[0].T)
        h2 = np.tanh(h1 @ weights[1].T)
        out = h2 @ weights[2].T
        delta = (out - Y) / len(X)
        modulators = [delta @ f for f in FEEDBACK.values()]
        errors = [modulators[0] * (1 - h1**2), modulators[1] * (1 - h2**2), delta]
        second = delta @ weights[2] * (1 - h2**2)
        true = [second @ weights[1] * (1 - h1**2), second, delta]
        gradients = [e.T @ h for e, h in zip(errors, (X, h1, h2), strict=True)]
        signals = {
            name: {
                "activation": h,
                "error": e,
                "error_bp": t,
                "weight": w,
                "gradient": g,
                "update": -0.5 * g,
            }
            for name, h, e, t, w, g in zip(
                NAMES, (h1, h2, out), errors, true, weights, gradients, strict=True
            )
        }
        for name, modulator in zip(NAMES, modulators, strict=False):
            signals[name]["modulator"] = modulator
        yield signals, float(((out - Y) ** 2).sum() / 2 / len(X))
        weights = [w - 0.5 * g for w, g in zip(weights, gradients, strict=True)]


def record(path, steps=4, **options):
    options = {"layers": NAMES, "feedback": FEEDBACK, "feedback_kind": "direct"} | options
    with record_arrays(path, **options) as recorder:
        for step, (signals, loss) in enumerate(train(steps)):
            recorder(step, signals, loss=loss, epoch=step / 2)
    return fadiag.open_run(path)


def test_a_numpy_network_is_measured_like_any_run(tmp_path):
    run = record(tmp_path / "run.zarr", meta={"condition": "dfa", "seed": 3})
    for step, (signals, loss) in enumerate(train(4)):
        for name, arrays in signals.items():
            for signal, array in arrays.items():
                stream = "state" if signal in ("weight", "update") else "probe"
                np.testing.assert_array_equal(run[f"{stream}/{name}/{signal}"].values[step], array)
        assert float(run["log/loss"][step]) == loss
    np.testing.assert_array_equal(run["static/fc1/feedback"].values, FEEDBACK["fc1"])
    results = fadiag.analyze(tmp_path / "run.zarr")
    assert list(results["state"].run.values) == ["dfa-seed3"]
    probe, state = results["probe"].isel(run=0), results["state"].isel(run=0)
    assert [str(name) for name in state.layer.values] == list(NAMES)
    for step, (signals, _) in enumerate(train(4)):
        w = [signals[name]["weight"] for name in NAMES]
        f1, f2 = FEEDBACK.values()
        expected = {
            ("path_alignment_direct", "fc1"): cosine(w[2] @ w[1], f1),
            ("weight_feedback_cosine_direct", "fc2"): cosine(w[1], f2.T @ f1),
            ("weight_feedback_cosine_direct_output", "out"): cosine(w[2], f2),
        }
        for (metric, layer), value in expected.items():
            assert float(state[metric].sel(layer=layer, step=step)) == pytest.approx(value, abs=1e-12)
        fc1 = signals["fc1"]
        mean = np.mean([cosine(a, b) for a, b in zip(fc1["error"], fc1["error_bp"], strict=True)])
        assert float(probe["error_cosine"].sel(layer="fc1", step=step)) == pytest.approx(mean, abs=1e-12)
        s = np.linalg.svd(fc1["error"], compute_uv=False)
        ratio = (s**2).sum() ** 2 / (s**4).sum()
        found = probe["error_participation_ratio_raw"].sel(layer="fc1", step=step)
        assert float(found) == pytest.approx(ratio, rel=1e-12)


def test_layerwise_feedback_torch_tensors_and_kernels_are_taken(tmp_path):
    kernel, feedback = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    error = torch.randn(5, 4, 6, 6, requires_grad=True)
    with record_arrays(
        tmp_path / "run.zarr", layers=["stem", "conv"], feedback={"conv": feedback}, feedback_kind="layerwise"
    ) as recorder:
        pooled = error.detach()[:, :, ::2, ::2].bfloat16()
        recorder(0, {"conv": {"error": error, "activation": pooled, "weight": kernel}})
    run = fadiag.open_run(tmp_path / "run.zarr")
    assert run["probe/conv/error"].dims == ("step", "sample", "channel", "height", "width")
    assert run["probe/conv/activation"].dims == ("step", "sample", "h_channel", "h_2", "h_3")
    assert run["state/conv/weight"].dims == ("step", "out", "in")
    assert run["static/conv/feedback"].shape == (4, 18)
    assert run["probe/conv"].attrs["feedback_kind"] == "layerwise"
    np.testing.assert_array_equal(run["static/conv/weight_init"].values, kernel.reshape(4, 18).numpy())
    found = fadiag.analyze(tmp_path / "run.zarr")
    expected = cosine(kernel.double().numpy(), feedback.double().numpy())
    measured = found["state/weight_feedback_cosine"].isel(run=0).sel(layer="conv", step=0)
    assert float(measured) == pytest.approx(expected)


def test_a_signal_may_be_missing_at_a_step_and_the_last_batch_be_short(tmp_path):
    with record_arrays(tmp_path / "run.zarr", layers=NAMES, stream="live") as recorder:
        for step, (signals, _) in enumerate(train(2)):
            error = signals["fc1"]["error"][: 24 - 4 * step]
            arrays = {"error": error, "weight": signals["fc1"]["weight"]}
            recorder(10 * step, {"fc1": arrays | ({} if step else {"update": signals["fc1"]["update"]})})
    run = fadiag.open_run(tmp_path / "run.zarr")
    assert list(run["live/rows_valid"].values) == [24, 20]
    assert np.isnan(run["state/fc1/update"].values[1]).all()
    fadiag.analyze(tmp_path / "run.zarr")


E, W = np.ones((4, 8)), np.ones((8, 6))
REFUSED = {
    "signal": ({"fc1": {"eror": E}}, "eror of layer 'fc1' cannot be recorded; similar names are error"),
    "layer": ({"fc": {"error": E}}, "unknown layer 'fc'; similar names are 'fc"),
    "samples": ({"fc1": {"error": E, "activation": E[:2]}}, "error of layer 'fc1' has 4 and activation"),
    "turned": ({"fc1": {"error": E, "weight": W.T}}, "give the weight transposed"),
    "gradient": ({"fc1": {"weight": W, "gradient": W.T}}, r"gradient of layer 'fc1' has shape \(6, 8\)"),
    "whole numbers": ({"fc1": {"error": np.ones((4, 8), int)}}, "is an array of int64"),
    "axes": ({"fc1": {"error": np.ones(8)}}, r"has shape \(8,\); it is \(samples, units\)"),
    "init": ({"fc1": {"weight_init": W}}, "taken from the weight of step 0"),
    "twins": ({"fc1": {"error": E, "error_bp": E[:, :3]}}, "they are of one shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_of_the_step_recorded(case, tmp_path):
    arrays, match = REFUSED[case]
    with record_arrays(tmp_path / "run.zarr", layers=NAMES) as recorder:
        recorder(0, {"fc1": {"error": E}}, loss=1.0)
        with pytest.raises(InputError, match=match):
            recorder(1, arrays, loss=2.0)
    run = fadiag.open_run(tmp_path / "run.zarr")
    assert list(run["probe/step"].values) == list(run["log/step"].values) == [0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": ["a", "a"]}, "the name of each layer once"),
        ({"layers": "fc1"}, "the name of each layer once"),
        ({"feedback": {"fc1": W}}, "feedback_kind is ''"),
        ({"feedback": {"fc9": W}, "feedback_kind": "direct"}, "unknown layer 'fc9'"),
        ({"stream": "log"}, "a stream of its own"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, match, tmp_path):
    with pytest.raises(InputError, match=match):
        record_arrays(tmp_path / "run.zarr", **({"layers": NAMES} | options))
    assert not (tmp_path / "run.zarr").exists()


def test_direct_feedback_the_other_way_round_is_refused(tmp_path):
    turned = {name: f.T for name, f in FEEDBACK.items()}
    with pytest.raises(InputError, match=r"direct feedback is \(outputs, units\)"):
        record(tmp_path / "run.zarr", feedback=turned)


def test_an_error_in_the_users_loop_marks_the_store(tmp_path):
    def fail():
        with record_arrays(tmp_path / "run.zarr", layers=NAMES) as recorder:
            recorder(0, {"fc1": {"error": E}})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert fadiag.inspect_run(tmp_path / "run.zarr").info.status == "failed"
