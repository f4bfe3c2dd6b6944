"""Test that the last record has the weights of the last update, and that checkpoints have their own steps."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

X, Y = labelled(8)


def network():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), seed=1)


def load(model, weights):
    model.load_state_dict(weights)


def copy_data(model, weights):
    for name, parameter in model.named_parameters():
        parameter.data.copy_(weights[name])


def give_data(model, weights):
    for name, parameter in model.named_parameters():
        parameter.data = weights[name].clone()


def average(model, weights):
    torch.optim.swa_utils.AveragedModel(model)  # averages go into the model by copy_
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.detach().copy_((parameter + weights[name]) / 2)


EXCHANGES = [load, copy_data, give_data, average]


def train(path, at_end, *, updates=4, every=3, **options):
    """Four updates; ``at_end`` gets the model and the weights of step 2 before the recorder is closed."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = {"p": Probe((X, Y), loss_of)}
    with Recorder(model, path, optimizer=optimizer, probes=probes, every=every, **options) as recorder:
        for step in range(updates):
            if step == 2:
                best = copy.deepcopy(model.state_dict())
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step(loss=1.0)
        last = copy.deepcopy(model.state_dict())
        recorder.log(accuracy=0.5)
        at_end(model, best, last)
    return last


def steps(path):
    return {
        name: node["step"].values.tolist() for name, node in open_run(path).children.items() if "step" in node
    }


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_other_weights_at_close_are_not_recorded_and_that_is_told(exchange, tmp_path):
    with pytest.warns(
        CaptureWarning, match=r"at close\(\) the model has other weights .*nothing more of step 4 is recorded"
    ) as told:
        train(tmp_path / "run.zarr", lambda model, best, last: exchange(model, best))
    assert [w.filename for w in told if w.category is CaptureWarning] == [__file__]
    assert steps(tmp_path / "run.zarr") == {"p": [0, 3], "state": [0, 3], "log": [0, 1, 2, 3, 4]}
    assert open_run(tmp_path / "run.zarr")["log/accuracy"].values[-1] == 0.5
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exchange", EXCHANGES[:3])
def test_weights_that_were_put_back_are_recorded(exchange, tmp_path):
    def there_and_back(model, best, last):
        exchange(model, best)
        exchange(model, last)

    last = train(tmp_path / "run.zarr", there_and_back)
    run = open_run(tmp_path / "run.zarr")
    assert steps(tmp_path / "run.zarr")["p"] == [0, 3, 4]
    np.testing.assert_array_equal(run["state/0/weight"].values[-1], last["0.weight"])


@pytest.mark.filterwarnings("error")
def test_a_state_that_was_begun_has_the_weights_of_the_update(tmp_path):
    """Where the last step is due, its weights were copied and its probe read before the exchange."""
    last = train(tmp_path / "run.zarr", lambda model, best, last: load(model, best), every=2)
    run = open_run(tmp_path / "run.zarr")
    assert steps(tmp_path / "run.zarr")["state"] == [0, 2, 4]
    np.testing.assert_array_equal(run["state/0/weight"].values[-1], last["0.weight"])


@pytest.mark.filterwarnings("error")
def test_weights_that_are_not_finite_are_the_same_weights(tmp_path):
    model = network()
    with Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}, every=5) as recorder:
        with torch.no_grad():
            model[0].weight.fill_(torch.nan)
        recorder.step()
    assert steps(tmp_path / "run.zarr")["p"] == [0, 1]


def test_checkpoints_are_recorded_under_their_steps(tmp_path):
    model, found = network(), []
    live = train(tmp_path / "live.zarr", lambda *_: None, every=1, updates=3)
    assert live.keys() == model.state_dict().keys()
    held = open_run(tmp_path / "live.zarr")
    recorder = Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}, every=())
    for step in (0, 2, 3):
        for name in ("0", "2"):
            state = held[f"state/{name}"].sel(step=step)
            with torch.no_grad():
                model.get_submodule(name).weight.copy_(torch.tensor(state["weight"].values))
                model.get_submodule(name).bias.copy_(torch.tensor(state["bias"].values))
        recorder.step(step=1000 * step, epoch=step / 2, accuracy=step / 10)
        found.append(recorder.current_step)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorder.close()
    assert found == [0, 2000, 3000]
    assert steps(tmp_path / "run.zarr") == {"p": found, "state": found, "log": found}
    run = open_run(tmp_path / "run.zarr")
    for path in ("p/0/error", "p/0/error_bp", "p/2/gradient", "state/0/weight", "state/2/bias"):
        np.testing.assert_array_equal(run[path].values, held[path].sel(step=[0, 2, 3]).values)
    assert "update" not in run["state/0"]
    np.testing.assert_array_equal(run["log/accuracy"].values, [0, 0.2, 0.3])
    np.testing.assert_array_equal(run["p"]["epoch"].values, [0, 1, 1.5])


def test_a_recorder_built_at_step_0_goes_on_with_checkpoints(tmp_path):
    model = network()
    with Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}) as recorder:
        recorder.step(step=1200)
        with torch.no_grad():
            model[0].weight.mul_(2)
        recorder.step(step=1300)
    assert steps(tmp_path / "run.zarr") == {"p": [0, 1200, 1300], "state": [0, 1200, 1300], "log": []}
    with Recorder(
        model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}, if_exists="resume"
    ) as recorder:
        recorder.step(step=1400)
    assert steps(tmp_path / "run.zarr")["p"] == [0, 1200, 1300, 1400]


def test_steps_of_checkpoints_that_make_no_sense_are_refused(tmp_path):
    model = network()
    with Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}) as recorder:
        for step, match in (
            (0, r"step 0 comes after step 0, and steps must grow; .* give Recorder\(every=\(\)\)"),
            (-3, "step is -3; give the number of updates"),
            (1.5, "step is 1.5"),
        ):
            with pytest.raises(InputError, match=match):
                recorder.step(step=step)
        recorder.step(step=torch.tensor(7))
        with pytest.raises(InputError, match="step 7 comes after step 7"):
            recorder.step(step=7)
        model[0] = nn.Linear(6, 5)
        with pytest.raises(CaptureError, match="layer '0' was replaced or removed in mid-run, before step 8"):
            recorder.step(step=8)
    for name, options in (
        ("optimizer", {"optimizer": torch.optim.SGD(model.parameters(), 0.1)}),
        ("live", {"live": Live()}),
    ):
        recorder = Recorder(model, tmp_path / f"{name}.zarr", **options)
        with pytest.raises(InputError, match=r"step=4 names the step of a checkpoint, but this recorder fol"):
            recorder.step(step=4)
