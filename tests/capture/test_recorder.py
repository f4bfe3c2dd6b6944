"""Test the streams, the steps, the arithmetic of the state, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Probe, Recorder
from fadiag.errors import CaptureError, FadiagError, InputError
from fadiag.rules import convert
from fadiag.store import inspect_run, open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


def small(**options):
    torch.manual_seed(0)
    return convert(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)), **options
    )


def train(model, path, updates, *, lr=0.1, batch=(X, Y), momentum=0.0, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=momentum)
    with Recorder(model, path, optimizer=optimizer, **options) as recorder:
        for step in range(updates):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            recorder.step(epoch=(step + 1) / 4, loss=loss.item())
        recorder.log(test_accuracy=0.5)
    return open_run(path)


def test_conservation_law_of_feedback_alignment_holds_on_the_store(tmp_path):
    """definitions.md, closed form 1, from nothing but what was recorded."""
    model = small().double()
    run = train(model, tmp_path / "run.zarr", 60, lr=0.5, batch=(X.double(), Y), every=1)
    steps = run["state"]["step"].values
    np.testing.assert_array_equal(steps, np.arange(61))
    for below, above in (("0", "2"), ("2", "4")):
        state, upper = run[f"state/{below}"], run[f"state/{above}"]
        W, b = state["weight"].values, state["bias"].values
        feedback = run[f"static/{above}/feedback"].values
        kept = (W**2).sum(2) + b**2 - 2 * np.einsum("ok,tok->tk", feedback, upper["weight"].values)
        steps_taken = (state["update"].values[:-1] ** 2).sum(2) + state["bias_update"].values[:-1] ** 2
        grown = np.vstack([np.zeros(W.shape[1]), np.cumsum(steps_taken, 0)])
        np.testing.assert_allclose(kept - kept[0], grown, rtol=0, atol=1e-13)
        assert grown[-1].max() > 1e-3  # the law is not tested on a run that stood still


def test_updates_sum_to_the_displacement_and_follow_the_gradient(tmp_path):
    run = train(small().double(), tmp_path / "run.zarr", 20, batch=(X.double(), Y), every=1, momentum=0.9)
    for layer in ("0", "2", "4"):
        state = run[f"state/{layer}"]
        weight, update = state["weight"].values, state["update"].values
        np.testing.assert_allclose(update[:-1].sum(0), weight[-1] - weight[0], atol=1e-14)
        np.testing.assert_array_equal(run[f"static/{layer}/weight_init"].values, weight[0])
        np.testing.assert_allclose(update[:-1], -0.1 * state["momentum"].values[:-1], atol=1e-15)
        momentum, gradient = state["momentum"].values, state["gradient"].values
        np.testing.assert_allclose(momentum[1:-1], 0.9 * momentum[:-2] + gradient[1:-1], atol=1e-15)
        assert np.isnan(update[-1]).all()


def test_gradient_is_what_the_optimizer_receives_even_where_it_overwrites_it(tmp_path):
    class Overwriting(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad.zero_()

    model = small()
    optimizer = Overwriting(model.parameters(), 0.1)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        loss_of(model, (X, Y)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        expected = model[0].weight.grad.clone().numpy()
        optimizer.step()
        recorder.step()
    state = open_run(tmp_path / "run.zarr")["state/0"]
    np.testing.assert_array_equal(state["gradient"].values[0], expected)
    assert not state["update"].values[0].any()


def test_streams_have_their_own_steps_and_the_log_says_which_weights(tmp_path):
    probes = {
        "train": Probe((X, Y), loss_of, mode="train"),
        "test": Probe((X[:5], Y[:5]), loss_of, every=[1, 6]),
    }
    run = train(small(), tmp_path / "run.zarr", 7, every=3, probes=probes, meta={"rule": "fa", "seed": 3})
    assert list(run["train"]["step"].values) == [0, 3, 6, 7]
    assert list(run["test"]["step"].values) == [1, 6, 7]
    assert list(run["state"]["step"].values) == [0, 3, 6, 7]
    assert list(run["log"]["step"].values) == list(range(8))
    assert run["train"].attrs["kind"] == "probe"
    assert (run["train"].attrs["mode"], run["test"].attrs["mode"]) == ("train", "eval")
    assert list(run["test"]["rows_valid"].values) == [5, 5, 5]
    assert run["log/test_accuracy"].values[-1] == 0.5
    assert np.isnan(run["log/loss"].values[-1])
    # The loss of step 0 is that of the weights of step 0.
    np.testing.assert_allclose(run["log/loss"].values[0], loss_of(small(), (X, Y)).item(), rtol=1e-6)
    attrs = run["train/2"].attrs
    assert attrs["name"] == "2"
    assert attrs["order"] == 1
    assert (attrs["gate"], attrs["norm"], attrs["feedback_kind"]) == ("relu", "", "layerwise")
    assert (attrs["out_features"], attrs["in_features"], attrs["type"]) == (7, 8, "FeedbackLinear")


def test_a_store_may_begin_at_a_later_step(tmp_path):
    model = small()
    weight = model[0].weight.detach().clone()
    probes = {"probe": Probe((X, Y), loss_of)}
    run = train(model, tmp_path / "run.zarr", 3, every=2, probes=probes, first_step=40)
    assert run["probe"]["step"].values.tolist() == run["state"]["step"].values.tolist() == [40, 42, 43]
    assert run["log/loss"].dropna("step")["step"].values.tolist() == [40, 41, 42]
    np.testing.assert_array_equal(run["static/0/weight_init"].values, weight.numpy())
    with pytest.raises(InputError, match="first_step is -1; give the number of updates made before"):
        train(model, tmp_path / "other.zarr", 1, first_step=-1)


def test_planned_steps_size_the_files_and_bind_nobody(tmp_path):
    def size(path):
        return sum(file.stat().st_size for file in path.rglob("c.*"))

    options = {"every": 3, "probes": {"probe": Probe((X, Y), loss_of)}}
    train(small(), tmp_path / "unknown.zarr", 7, **options)
    planned = train(small(), tmp_path / "planned.zarr", 7, steps=7, **options)
    longer = train(small(), tmp_path / "longer.zarr", 7, steps=2, **options)
    assert size(tmp_path / "planned.zarr") < size(tmp_path / "unknown.zarr") / 50
    assert planned["probe/2/error"].encoding["chunks"][0] == 4  # steps 0, 3, 6 and the last
    assert list(longer["state"]["step"].values) == [0, 3, 6, 7]
    np.testing.assert_array_equal(longer["log/loss"].values, planned["log/loss"].values)


def test_layers_are_chosen_by_name_glob_and_type_and_a_root_module_is_recorded(tmp_path):
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    for i, (chosen, expected) in enumerate(
        [(["2"], ["2"]), (["[04]"], ["0", "4"]), ([nn.Linear], ["2", "4"]), (None, ["0", "2", "4"])]
    ):
        recorder = Recorder(model, tmp_path / f"{i}.zarr", layers=chosen)
        recorder.close()
        assert list(open_run(tmp_path / f"{i}.zarr")["static"]) == expected
    root = convert(nn.Linear(6, 3))
    with Recorder(root, tmp_path / "root.zarr", probes={"probe": Probe((X, Y), loss_of)}):
        pass
    run = open_run(tmp_path / "root.zarr")
    assert run["probe/(root)/error"].shape == (1, 16, 3)
    assert run["probe/(root)"].attrs["name"] == ""


def test_tied_weights_are_recorded_once(tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of)}):
        pass
    run = open_run(tmp_path / "run.zarr")
    assert list(run["state"].children) == ["0"]
    assert list(run["probe"].children) == ["0", "2"]


def test_a_failed_run_keeps_what_was_recorded_and_lets_go_of_the_optimizer(tmp_path):
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        pytest.raises(ZeroDivisionError),
        Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, probes={"p": Probe((X, Y), loss_of)}),
    ):
        raise ZeroDivisionError
    run = open_run(tmp_path / "run.zarr")
    assert list(run["p"]["step"].values) == [0]
    assert run.attrs["status"] == "failed"
    assert not optimizer._optimizer_step_pre_hooks


def test_values_that_are_not_finite_are_recorded_and_counted(tmp_path):
    model = small()
    probe = Probe((X, Y), loss_of, redraws=2, gate_draws=2)
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, every=1) as recorder:
        with torch.no_grad():
            model[4].bias[0] = float("nan")
        recorder.step()
    run = open_run(tmp_path / "run.zarr")
    error = run["probe/4/error"].values
    assert np.isfinite(error[0]).all()
    assert np.isnan(error[1]).all()
    assert run["probe/4/error"].attrs["nan_count"] == 48
    last = inspect_run(tmp_path / "run.zarr").streams[0].layers[-1]
    counted = {signal.name: signal.nan_count for signal in last.signals}
    assert counted["error"] == 48
    assert run["state/0/weight"].attrs["nan_count"] == 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method:DeprecationWarning")
def test_a_compiled_wrapper_is_recorded_through_the_module_inside(tmp_path):
    model = small()
    compiled = torch.compile(model)  # nothing is compiled until it is called
    with Recorder(compiled, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of)}):
        pass
    assert open_run(tmp_path / "run.zarr")["probe/0/error"].values.any()


def refused(tmp_path, match, model=None, kind=FadiagError, **options):
    with pytest.raises(kind, match=match):
        Recorder(small() if model is None else model, tmp_path / "run.zarr", **options)


class Gain(nn.Module):
    """A layer of a class that no adapter knows."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.eye(6))


def test_what_cannot_be_recorded_is_refused_with_the_way_out(tmp_path):
    named = nn.Sequential()
    named.add_module("hidden1", nn.Linear(6, 6))
    named.add_module("out", nn.Linear(6, 3))
    near = r"unknown layer 'hiden1'; similar names are 'hidden1'"
    refused(tmp_path, near, named, InputError, layers=["hiden1"])
    refused(tmp_path, r"unknown layer 'xyz'; there are 'hidden1', 'out'", named, InputError, layers=["xyz"])
    refused(tmp_path, r"unknown layer Conv2d; there are '0'", layers=[nn.Conv2d])
    refused(tmp_path, r"layers is empty", layers=[])
    refused(tmp_path, r"layer '1' is a ReLU, for which there is no adapter", layers=["1"])
    refused(tmp_path, r"Sequential has nothing to record.*adapters=", nn.Sequential(nn.ReLU()), CaptureError)
    own = nn.Sequential(Gain(), Gain())
    named = r"these hold matrices: Gain \('0', '1'\); give adapters=.* as docs/adapters.md shows"
    refused(tmp_path, named, own, CaptureError)
    refused(tmp_path, r"'update' cannot be recorded without the optimizer.*optimizer=", state=["update"])
    refused(tmp_path, r"unknown state signal 'wait'; there are gradient, weight, ", state=["wait"])
    refused(tmp_path, r"every is 0; give a whole number", every=0)
    refused(tmp_path, r"steps is 0; give the number of updates to come", steps=0)
    refused(tmp_path, r"probe is named 'log'", probes={"log": Probe((X, Y), loss_of)})
    refused(tmp_path, r"probe 'p' is a tuple; give a fadiag.Probe", probes={"p": (X, Y)})
    refused(tmp_path, r"optimizer is a str", optimizer="sgd")
    refused(tmp_path, r"model is a str; give an nn.Module", "model")
    refused(
        tmp_path,
        r"layer '0.out_proj' belongs to an nn.MultiheadAttention, which never calls its out_proj",
        nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 3)),
        CaptureError,
        layers=["0.out_proj"],
    )
    refused(tmp_path, r"nn.MultiheadAttention", nn.Sequential(nn.MultiheadAttention(4, 2), nn.Linear(4, 3)))
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    ("batch", "loss", "match"),
    [
        ((X[:, :4], Y), loss_of, r"probe 'probe': loss\(model, batch\) raised .*shapes cannot be multiplied"),
        ((X, Y), lambda m, b: m(b[0]), r"loss is not a scalar but has shape \(16, 3\); return the mean"),
        ((X, Y), lambda m, b: loss_of(m, b).item(), r"loss is not a scalar but has float"),
        ((X, Y), lambda m, b: loss_of(m, b).detach(), r"loss has no gradient"),
        ((X, Y), lambda m, b: loss_of(small(), b), r"loss reaches none of the 3 recorded layers"),
    ],
)
def test_a_probe_that_cannot_be_read_is_refused_and_leaves_no_store(batch, loss, match, tmp_path):
    model = small()
    refused(tmp_path, match, model, CaptureError, probes={"probe": Probe(batch, loss)})
    assert not (tmp_path / "run.zarr").exists()
    assert not any(m._forward_hooks for m in model.modules())


def test_a_probe_says_what_is_wrong_with_its_options(tmp_path):
    for options, match in (
        ({"mode": "test"}, r"probe mode is 'test'; it is 'train' or 'eval'"),
        ({"redraws": -1}, r"redraws is -1"),
        ({"gate_draws": 1.5}, r"gate_draws is 1.5"),
    ):
        with pytest.raises(InputError, match=match):
            Probe((X, Y), loss_of, **options)
    for feedbacks, match in (
        ({"b": {"7": X}}, r"names the layer '7'; recorded are 0, 2, 4"),
        ({"b": {"2": X}}, r"\['2'\] has shape \(16, 6\), the weight \(7, 8\)"),
        ({"bp": {}}, r"the name 'bp'; take an identifier that is not the ending of a name in fad"),
        ({"norm": {}}, r"the name 'norm'"),
    ):
        refused(tmp_path, match, probes={"probe": Probe((X, Y), loss_of, feedbacks=feedbacks)})


def test_a_model_changed_in_mid_run_and_a_closed_recorder_are_told(tmp_path):
    model = small()
    recorder = Recorder(model, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of)}, every=1)
    model[2], model[4] = convert(nn.Linear(8, 9)), convert(nn.Linear(9, 3))
    with pytest.raises(CaptureError, match=r"layer '2' was replaced .*separate store"):
        recorder.step()
    recorder = Recorder(small(), tmp_path / "other.zarr")
    recorder.close()
    recorder.close()
    with pytest.raises(CaptureError, match=r"the recorder is closed; .*if_exists='resume'"):
        recorder.step()


@pytest.mark.parametrize(
    ("scalars", "match"),
    [
        ({"loss": [1, 2]}, r"scalar 'loss' is a list; give a number"),
        ({"loss": 10**400}, r"scalar 'loss' is a int; give a number \(tensor.item\(\)\), not 1000"),
        ({"loss": "0.5"}, r"scalar 'loss' is a str"),
        ({"epoch": torch.ones(2)}, r"epoch is a Tensor; give a number"),
        ({"epoch": "1/3", "loss": 1.0}, r"epoch is a str; .* not '1/3'"),
    ],
)
def test_a_number_that_is_none_is_told_and_the_recording_goes_on(scalars, match, tmp_path):
    with Recorder(small(), tmp_path / "run.zarr") as recorder:
        with pytest.raises(InputError, match=match):
            recorder.step(**scalars)
        assert recorder.current_step == 0
        recorder.step(loss=1.0, epoch=torch.tensor(0.5))
    log = open_run(tmp_path / "run.zarr")["log"]
    assert (log["loss"].values.tolist(), log["epoch"].values.tolist()) == ([1.0], [0.5])


@pytest.mark.parametrize(
    ("name", "match"),
    [("val/acc", "scalar name 'val/acc': use letters"), ("step", "scalar name 'step' is a coordinate")],
)
def test_a_scalar_that_cannot_be_stored_is_told_at_once(name, match, tmp_path):
    """And not when it is written, a step later: the recording goes on without it."""
    with Recorder(small(), tmp_path / "run.zarr") as recorder:
        for tell in (recorder.log, *([] if name == "step" else [recorder.step])):  # step= names a checkpoint
            with pytest.raises(InputError, match=match):
                tell(**{name: 0.5, "loss": 2.0})
        recorder.step(val_acc=0.5)
    run = open_run(tmp_path / "run.zarr")
    assert set(run["log"].data_vars) == {"val_acc"}
    assert run.attrs["status"] == "complete"


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path):
    model, probe = small(), Probe((X, Y), loss_of)
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, every=2) as recorder:
        for _ in range(4):
            recorder.step(loss=1.0)
    options = {"probes": {"probe": probe}, "every": 2, "if_exists": "resume"}
    with Recorder(model, tmp_path / "run.zarr", **options) as recorder:
        assert recorder.current_step == 4
        for _ in range(3):
            recorder.step(loss=2.0)
    run = open_run(tmp_path / "run.zarr")
    assert list(run["probe"]["step"].values) == [0, 2, 4, 6, 7]
    assert list(run["log"]["step"].values) == list(range(7))
    assert list(run["log/loss"].values) == [1.0] * 4 + [2.0] * 3
