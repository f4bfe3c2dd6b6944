"""Test that a store is resumed only by a run that matches it."""

import copy
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder, Subset, exact_layers
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

X, Y = labelled(8)


def network(*, gate=nn.ReLU, hidden=5, seed=4, like=None):
    torch.manual_seed(0)
    layers = nn.Linear(6, hidden), gate(), nn.Linear(hidden, 3)
    model = nn.Sequential(*layers) if seed is None else convert(nn.Sequential(*layers), seed=seed)
    if like is not None:
        weights = {name: w for name, w in like.items() if seed is not None or "feedback" not in name}
        model.load_state_dict(weights)
    return model


def probe(**options):
    return Probe((X, Y), loss_of, **{"signals": ["activation", "error", "error_bp"], **options})


def train(model, path, updates=4, *, log=True, **options):
    """Records at 0, 3 and where it ends, in streams p and state."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"probes": {"p": probe()}, "every": 3, **options}
    with Recorder(model, path, optimizer=optimizer, **options) as recorder:
        for _ in range(updates):
            optimizer.zero_grad()
            loss = loss_of(model, (X, Y))
            loss.backward()
            optimizer.step()
            recorder.step(**({"loss": loss.item()} if log else {}))
    return copy.deepcopy(model.state_dict())


def files(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.zarr"


@pytest.fixture
def at4(path):
    """The checkpoint of step 4, at which the run in `path` ended."""
    return train(network(), path)


def refused(model, path, match, **options):
    """Nothing of the store was changed: what a checkpoint sets back is still there, too."""
    before = files(path)
    with pytest.raises(CaptureError, match=match):
        train(model, path, if_exists="resume", **options)
    assert files(path) == before


def test_a_run_goes_on_from_its_checkpoint(at4, path):
    train(network(like=at4), path, if_exists="resume")
    run = open_run(path)
    assert list(run["state"]["step"].values) == [0, 3, 4, 6, 8]
    again = path.with_name("again.zarr")
    train(network(), again, 8)
    for signal_name in ("weight", "update"):
        here, there = (open_run(p)[f"state/0/{signal_name}"].sel(step=6).values for p in (path, again))
        np.testing.assert_array_equal(here, there)


def test_a_probe_that_is_not_due_at_the_checkpoint_is_read_when_it_is_due(at4, path):
    train(network(like=at4), path, resume_from=4)  # step 6 is the next one due, 4 is none
    again = path.with_name("again.zarr")
    train(network(), again, 8)
    here, there = (open_run(p)["p/0/error"].sel(step=6).values for p in (path, again))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_the_reduction_that_was_chosen_stays(reduction, path):
    how = {"reduction": reduction}
    at4 = train(network(), path, probes={"p": probe(**how)}, live=Live(every=1, **how))
    train(network(like=at4), path, if_exists="resume", live=Live(every=1))  # "auto" takes what is there
    run = open_run(path)
    for stream, count in (("p", 5), ("live", 8)):
        assert run[f"{stream}/0/error"].attrs["reduction"] == reduction
        assert np.isfinite(run[f"{stream}/0/error"].values).all()
        assert run.sizes.get("step") is None
        assert len(run[stream]["step"]) == count


def test_another_feedback_is_refused(at4, path):
    model = network(seed=5)
    with torch.no_grad():
        for name in ("0", "2"):
            model.get_submodule(name).weight.copy_(at4[f"{name}.weight"])
    refused(
        model, path,
        r"the feedback B of layer '0' is not that of .*run.zarr \(SHA-256 \w{12}... there, \w{12}... now\); "
        r"convert the model under the seed it had, or load its checkpoint",
    )  # fmt: skip


def test_another_kind_of_layer_is_refused(at4, path):
    refused(
        network(seed=None, like=at4), path, r"layer '0' has feedback_kind 'layerwise' in .* and 'exact' now"
    )
    refused(
        network(hidden=7), path, r"layer '0' has out_features 5 in .*run.zarr and 7 now; resume with it as"
    )
    named = nn.Sequential(network(like=at4))
    refused(named, path, r"run.zarr holds a layer '2', which the model lacks; resume with it as it was")


def test_another_type_is_refused(path):
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(6, 3))
    train(model, path)
    other = nn.Sequential(Own(6, 3))
    other.load_state_dict(model.state_dict())
    refused(other, path, r"layer '0' has type 'Linear' in .* and 'Own' now", adapters=(exact_layers(Own),))


def test_another_gate_is_refused_when_a_pass_shows_it(at4, path):
    with pytest.raises(CaptureError, match=r"layer '0' has gate 'relu' in .*run.zarr and 'tanh' now"):
        train(network(gate=nn.Tanh, like=at4), path, if_exists="resume")
    assert open_run(path)["p/0"].attrs["gate"] == "relu"
    assert list(open_run(path)["p"]["step"].values) == [0, 3, 4]


@pytest.mark.parametrize(
    ("before", "now", "match"),
    [
        ({}, {"mode": "train"}, "probe 'p' has mode 'eval' in .*run.zarr and 'train' now"),
        ({}, {"reduction": "factor"}, "probe 'p' has reduction 'raw' in .*run.zarr and 'factor' now"),
        (
            {"reduction": "factor"},
            {"reduction": "raw"},
            "probe 'p' has reduction 'factor' in .*run.zarr and 'raw' now",
        ),
    ],
)
def test_another_kind_of_probe_is_refused(before, now, match, path):
    at4 = train(network(), path, probes={"p": probe(**before)})
    refused(network(like=at4), path, match, probes={"p": probe(**now)})


def test_another_unfolding_is_refused(path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1))
    images = torch.randn(8, 2, 4)

    def given(unfolding):
        return Live(["error"], every=1, reduction="factor", unfolding=unfolding)

    def resume(unfolding, **options):
        with Recorder(model, path, live=given(unfolding), **options) as recorder:
            model(images).square().mean().backward()
            recorder.step()

    resume("samples")
    with pytest.raises(CaptureError, match=r"live has unfolding 'samples' in .*run.zarr and 'channels' now"):
        resume("channels", if_exists="resume")
    resume("samples", if_exists="resume")


def test_a_signal_without_samples_does_not_tell_the_reduction(path):
    probes = {"p": probe(signals=["gradient"], reduction="factor")}
    at4 = train(network(), path, probes=probes)
    train(network(like=at4), path, if_exists="resume", probes=probes)


def test_weights_that_were_not_restored_are_refused(at4, path):
    match = (
        r"the weight of layer '0' is not the one that .*run.zarr holds at step {} "
        r"\(30 of 30 entries differ\); load the checkpoint of step {} before resuming, or give resume_from= "
        r"the step that the model is at"
    )
    refused(network(), path, match.format(4, 4))
    refused(network(), path, match.format(4, 4), state=())
    refused(network(like=at4), path, match.format(3, 3), resume_from=3)
    refused(network(like=at4), path, match.format(0, 0), resume_from=0)


def test_a_step_without_a_record_of_the_weights_is_taken_on_trust(at4, path):
    train(network(like=at4), path, resume_from=2)
    assert list(open_run(path)["state"]["step"].values) == [0, 3, 6]


def test_half_precision_is_compared_as_it_is_stored(path):
    def half(like=None):
        return network(seed=None, like=like).to(torch.bfloat16)

    given = {"probes": {}}
    at4 = train(half().requires_grad_(False), path, 0, **given)
    train(half(at4), path, 0, resume_from=0, **given)
    at4["0.weight"][0, 0] *= 1.01
    refused(
        half(at4),
        path,
        r"the weight of layer '0' .* at step 0 \(1 of 30 entries differ\)",
        updates=0,
        **given,
    )


def test_a_step_that_the_run_never_reached_is_refused(at4, path):
    refused(
        network(like=at4), path,
        r"resume_from is 100, and .*run.zarr ends at step 4: it is not known what came after; give the step",
        resume_from=100,
    )  # fmt: skip


@pytest.fixture
def failed(path):
    """A run that failed after two updates, of which the log, told of both, and nothing else knows."""
    recorder = Recorder(network(), path, every=3)
    for _ in range(2):
        recorder.step(loss=1.0)
    recorder.__exit__(KeyError, KeyError(), None)
    return path


def test_the_log_of_a_failed_run_tells_where_it_ended(failed):
    refused(network(), failed, r"resume_from is 3, and .*run.zarr ends at step 2", resume_from=3)
    train(network(), failed, resume_from=2)


def test_without_a_full_log_it_is_not_known_where_a_failed_run_ended(path):
    with pytest.raises(KeyError), Recorder(network(), path, every=3):
        raise KeyError
    train(network(), path, resume_from=2, log=False)


KILLED = """
import sys, time, torch
from fadiag.capture import Recorder
from fadiag.rules import convert
torch.manual_seed(0)
layers = torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
recorder = Recorder(convert(torch.nn.Sequential(*layers), seed=4), sys.argv[1], every=3)
recorder.step(loss=1.0)
recorder._session._writer.flush()
print("ready", flush=True)
time.sleep(60)
"""


def test_what_a_killed_run_had_not_committed_is_told(path):
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert run_info(path).status == "killed"
    told = r"run.zarr was killed and holds nothing beyond step 0: what was recorded from there to step 5"
    with pytest.warns(CaptureWarning, match=told):
        train(network(), path, resume_from=5)
    assert list(open_run(path)["state"]["step"].values) == [0, 6, 9]


def test_a_step_is_that_of_the_whole_store(at4, path):
    model = network(like=at4)
    with Recorder(
        model, path, state=(), if_exists="resume"
    ) as recorder:  # no stream of this recorder has a record
        assert recorder.current_step == 4


def train_live(model, path, sizes, **options):
    """Trains on a batch of each size; keywords of Live go there."""
    kept = {key: options.pop(key) for key in ("reduction", "rows") if key in options}
    live = Live(["activation", "error"], every=1, **kept)
    with Recorder(model, path, live=live, state=(), **options) as recorder:
        for size in sizes:
            model.zero_grad()
            loss_of(model, (X[:size], Y[:size])).backward()
            recorder.step()


@pytest.mark.parametrize("kept", [{}, {"rows": 5}, {"reduction": "factor"}], ids=str)
@pytest.mark.parametrize("sizes", [(3, 8), (7, 3)])
def test_live_batches_may_differ_where_a_run_goes_on(kept, sizes, tmp_path):
    """As they may within a session: there is room for those of the first batch of all."""
    model, first = network(), (6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)  # of samples left out
        train_live(model, tmp_path / "whole.zarr", (*first, *sizes), **kept)
    train_live(model, tmp_path / "run.zarr", first, **kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        train_live(model, tmp_path / "run.zarr", sizes, resume_from=2, **kept)
    whole, run = (open_run(tmp_path / name)["live"] for name in ("whole.zarr", "run.zarr"))
    np.testing.assert_array_equal(run["rows_valid"], whole["rows_valid"])
    for layer in ("0", "2"):
        assert set(run[layer].data_vars) == set(whole[layer].data_vars)
        for name in whole[layer].data_vars:
            np.testing.assert_array_equal(run[layer][name], whole[layer][name])


def test_a_subset_of_another_batch_is_refused_where_a_run_goes_on(tmp_path):
    """Its samples were drawn out of as many as the first batch had."""
    model = network()
    train_live(model, tmp_path / "run.zarr", (8, 8), rows=Subset(6))
    with pytest.raises(InputError, match=r"live/0/activation is stored as float32 \(6, 5\)"):
        train_live(model, tmp_path / "run.zarr", (4, 8), rows=Subset(6), resume_from=2)


def test_the_epoch_goes_on_too(path):
    model = network()
    for start, options in ((0, {}), (4, {"resume_from": 4})):
        with Recorder(model, path, probes={"p": probe()}, every=2, state=(), **options) as recorder:
            for step in range(start, start + 4):
                recorder.step(epoch=(step + 1) / 2)
    np.testing.assert_array_equal(open_run(path)["p/epoch"], [np.nan, 1, 2, 3, 4])


class Routed(nn.Module):
    """Sends as many samples to its one expert as it is told."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.expert, self.last, self.sent = nn.Linear(6, 4), nn.Linear(6, 3), 4

    def forward(self, x):
        taken = torch.relu(self.expert(x[: self.sent]))
        return self.last(x).index_add(0, torch.arange(self.sent), taken[:, :3])


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_an_expert_may_be_sent_other_samples_when_a_run_goes_on(reduction, path):
    model = Routed()
    options = {"probes": {"p": probe(reduction=reduction)}, "state": (), "every": 1}
    with Recorder(model, path, **options) as recorder:
        recorder.step()
    model.sent = 3
    with Recorder(model, path, resume_from=1, **options):
        pass
    np.testing.assert_array_equal(open_run(path)["p/expert/rows"][:2], [4, 3])
