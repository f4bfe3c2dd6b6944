"""The advice of fadiag.capture on runs: the store, resuming, checkpoints, the optimizer, ranks, arrays."""

import argparse
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Recorder, Storage, record_arrays
from fadiag.capture.session import distributed
from fadiag.capture.session.distributed import Processes
from fadiag.rules import convert
from fadiag.store import open_run
from tests.advice.advice import Table
from tests.advice.nets import Y, attach, fed, net, probes, sgd, train, update

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


# Arrays that are given by hand.

W, D = np.ones((3, 4)), np.ones((5, 3))


def _arrays(at, signals=None, **options):
    with record_arrays(at / "run.zarr", **({"layers": ["fc"]} | options)) as record:
        record(0, {"fc": signals or {"error": D, "weight": W}})


ADVICE.row(
    "give the name of each layer once, from the first to the last",
    lambda at: _arrays(at, layers=["fc", "fc"]),
    lambda at: _arrays(at, layers=["fc", "out"]),
)
ADVICE.row(
    "say 'layerwise' for B in a weight's shape, or 'direct' for F of (outputs, units)",
    lambda at: _arrays(at, feedback={"fc": W}),
    lambda at: _arrays(at, feedback={"fc": W}, feedback_kind="layerwise"),
    lambda at: _arrays(at, feedback={"fc": np.ones((3, 3))}, feedback_kind="direct"),
)
ADVICE.row(
    "which is a stream of its own; take another name",
    lambda at: _arrays(at, stream="state"),
    lambda at: _arrays(at, stream="heldout"),
)
ADVICE.row(
    "give floating point numbers",
    lambda at: _arrays(at, {"error": D.astype(int)}),
    lambda at: _arrays(at, {"error": D.astype(float)}),
)
ADVICE.row(
    "a training batch has no such signal; give record_arrays(stream='probe')",
    lambda at: _arrays(at, {"error_bp": D}, stream="live"),
    lambda at: _arrays(at, {"error_bp": D}, stream="probe"),
)
ADVICE.row(
    "give the weight transposed",
    lambda at: _arrays(at, {"error": D, "weight": W.T}),
    lambda at: _arrays(at, {"error": D, "weight": W}),
)


@ADVICE.story("exists, and record_arrays begins a new store; take another path, or delete this one")
def _(at, provoked):
    _arrays(at)
    with provoked():
        _arrays(at)
    (at / "other").mkdir()
    _arrays(at / "other")
    shutil.rmtree(at / "run.zarr")
    _arrays(at)


# The recorder, its store and its steps.

ADVICE.row(
    "give the number of updates to come, at least 1",
    lambda at: attach(at, steps=0),
    lambda at: attach(at, steps=1),
)
ADVICE.row(
    "give a mapping, such as vars(args)",
    lambda at: attach(at, meta=argparse.Namespace(seed=0)),
    lambda at: attach(at, meta=vars(argparse.Namespace(seed=0))),
)
ADVICE.row(
    "has two keys that are {twice} as text; rename one of them",
    lambda at: attach(at, meta={1: "int", "1": "str"}),
    lambda at: attach(at, meta={1: "int", "one": "str"}),
)
ADVICE.row(
    "give the number of updates made before, at least 0",
    lambda at: attach(at, first_step=-1),
    lambda at: attach(at, first_step=1),
)


@ADVICE.story("the recorder is closed; make a new one, with if_exists='resume' to go on in its store")
def _(at, provoked):
    recorder = Recorder(fed(), at / "run.zarr", every=1)
    recorder.close()
    with provoked():
        recorder.step()
    attach(at, every=1, if_exists="resume")


@ADVICE.story(
    "take another path, or give if_exists='resume' to go on in it, if_exists='replace' to delete it first"
)
def _(at, provoked):
    attach(at)
    with provoked():
        attach(at)
    attach(at, if_exists="resume")
    attach(at, if_exists="replace")
    Recorder(fed(), at / "another.zarr").close()


@ADVICE.story("so it is neither resumed nor replaced; take another path, or move it away")
def _(at, provoked):
    (at / "run.zarr").write_text("a file")
    for choice in ("error", "resume", "replace"):
        with provoked():
            attach(at, if_exists=choice)
    Recorder(fed(), at / "another.zarr").close()
    (at / "run.zarr").rename(at / "moved")
    attach(at)


@ADVICE.story(
    "is being written by another recorder and is not replaced; close that one, or take another path"
)
def _(at, provoked):
    with Recorder(fed(), at / "run.zarr"):
        with provoked():
            attach(at, if_exists="replace")
        Recorder(fed(), at / "another.zarr", if_exists="replace").close()
    attach(at, if_exists="replace")


@ADVICE.story("if_exists='replace' deletes the records that resume_from needs; give one of them")
def _(at, provoked):
    train(at)
    with provoked():
        attach(at, if_exists="replace", resume_from=2)
    attach(at, if_exists="replace")


@ADVICE.story("call step() without it after each update, or leave optimizer= and live= out")
def _(at, provoked):
    model = fed()
    optimizer = sgd(model)
    with Recorder(model, at / "run.zarr", optimizer=optimizer) as recorder:
        with provoked():
            recorder.step(step=100)
        update(model, optimizer)
        recorder.step()
    with Recorder(model, at / "checkpoints.zarr", every=()) as recorder:
        recorder.step(step=100)


def _checkpoints(at, *steps, **options):
    with Recorder(fed(), at / "run.zarr", **options) as recorder:
        for step in steps:
            recorder.step(step=step)


ADVICE.row(
    "give the number of updates that the checkpoint has seen",
    lambda at: _checkpoints(at, -3),
    lambda at: _checkpoints(at, 3),
)
ADVICE.row(
    "record checkpoints in their order, and give Recorder(every=())",
    lambda at: _checkpoints(at, 20, 10),
    lambda at: _checkpoints(at, 10, 20),
    lambda at: _checkpoints(at, 10, 20, every=()),
    lambda at: _checkpoints(at, 0, 10, every=()),
)


_MANY = (torch.randn(64, 6), Y.repeat(4))


def _stored(at, size, **options):
    attach(at, storage=Storage(buffer_bytes=size), **options)


ADVICE.row(
    "record fewer signals or layers of it (state=['weight'], layers=[...], state=() for none)",
    lambda at: _stored(at, 300),
    lambda at: _stored(at, 300, state=["weight"]),
    lambda at: _stored(at, 300, layers=["0"]),
    lambda at: _stored(at, 100, state=()),
)
ADVICE.row(
    "give the Probe reduction='factor', fewer samples (rows=) or fewer signals",
    lambda at: _stored(at, 15_000, probes=probes(_MANY, reduction="raw"), state=()),
    lambda at: _stored(at, 15_000, probes=probes(_MANY, rows=4), state=()),
    lambda at: _stored(at, 15_000, probes=probes(_MANY, signals=["error"]), state=()),
    lambda at: _stored(at, 15_000, probes=probes(_MANY, reduction="factor"), state=()),
)


@ADVICE.story("or give storage=Storage(buffer_bytes={size}) if there is memory for it")
def _(at, provoked):
    with provoked() as heard:
        _stored(at, 100)
    size = int(heard[-1].rpartition("buffer_bytes=")[2].partition(")")[0])
    _stored(at, size)


@ADVICE.story("record the changed model into a separate store")
def _(at, provoked):
    model = fed()
    with provoked(), Recorder(model, at / "run.zarr", every=1) as recorder:
        recorder.step()
        model.double()
        recorder.step()
    Recorder(model, at / "changed.zarr", every=1).close()


class Growing(nn.Module):
    """A model whose signals get another shape."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out, self.width = nn.Linear(6, 8), nn.Linear(8, 3), 1

    def forward(self, x):
        h = torch.tanh(self.fc(x[:, None].expand(-1, self.width, -1)))
        return self.out(h).mean(1)


@ADVICE.story("the model or the batch changed in mid-run; record the changed model into a separate store")
def _(at, provoked):
    model = Growing()
    with provoked(), Recorder(model, at / "run.zarr", every=1, probes=probes()) as recorder:
        recorder.step()
        model.width = 2
        recorder.step()
    Recorder(model, at / "changed.zarr", every=1, probes=probes()).close()


# Resuming.


@ADVICE.story("resume with it as it was, or record into a separate store")
def _(at, provoked):
    model = train(at, probes=probes())
    with provoked():
        attach(at, model, every=1, probes=probes(mode="train"), if_exists="resume")
    attach(at, model, every=1, probes=probes(), if_exists="resume")
    Recorder(model, at / "own.zarr", probes=probes(mode="train")).close()


@ADVICE.story("give the step of a checkpoint taken until then, or record into a separate store")
def _(at, provoked):
    model = train(at)
    with provoked():
        attach(at, model, every=1, resume_from=9)
    attach(at, model, every=1, resume_from=3)
    Recorder(model, at / "own.zarr", resume_from=None).close()


@ADVICE.story("give resume_from={self.step} to record that step anew")
def _(at, provoked):
    model = train(at)
    optimizer = sgd(model)

    def go_on(**options):
        with Recorder(model, at / "run.zarr", optimizer=optimizer, every=1, **options) as recorder:
            update(model, optimizer)
            recorder.step()

    with provoked():
        go_on(if_exists="resume")
    go_on(resume_from=4)
    assert np.isfinite(open_run(at / "run.zarr")["state/0/update"].sel(step=4)).all()


@ADVICE.story(
    "convert the model under the seed it had, or load its checkpoint, before resuming, or record into a"
)
def _(at, provoked):
    model = train(at)
    weights = model.state_dict()
    other = convert(net(), seed=9)
    with provoked():
        attach(at, other, every=1, if_exists="resume")
    Recorder(other, at / "own.zarr").close()
    other.load_state_dict(weights)
    attach(at, other, every=1, if_exists="resume")
    same = fed()
    same.load_state_dict({k: v for k, v in weights.items() if "feedback" not in k}, strict=False)
    attach(at, same, every=1, if_exists="resume")


@ADVICE.story("of step {self.step} before resuming, or give resume_from= the step that the model is at")
def _(at, provoked):
    weights = train(at).state_dict()
    with provoked():
        attach(at, every=1, if_exists="resume")
    model = fed()
    model.load_state_dict(weights)
    attach(at, model, every=1, if_exists="resume")
    attach(at, fed(), every=1, resume_from=0)


@ADVICE.story("resume with it as it was, or record into a separate store")
def _(at, provoked):
    model = train(at)
    shorter = nn.Sequential(model[0], model[1])
    with provoked():
        attach(at, shorter, every=1, if_exists="resume")
    attach(at, model, every=1, if_exists="resume")
    Recorder(shorter, at / "own.zarr").close()


# The optimizer and the state.


@ADVICE.story("call recorder.step() once after each optimizer.step()")
def _(at, provoked):
    model = fed()
    optimizer = sgd(model)
    with provoked(), Recorder(model, at / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(2):
            update(model, optimizer)
        recorder.step()
    (at / "right").mkdir()
    train(at / "right")


ADVICE.row(
    "give a torch.optim.Optimizer",
    lambda at: attach(at, optimizer="sgd"),
    train,
)


@ADVICE.story("give it the optimizer that steps (the inner one if one wraps another;")
def _(at, provoked):
    model = fed()
    held, steps = sgd(model), sgd(model)

    def run(path, given, **options):
        with Recorder(model, at / path, optimizer=given, every=1, **options) as recorder:
            update(model, steps)
            recorder.step()

    with provoked():
        run("run.zarr", held)
    run("inner.zarr", steps)
    Recorder(model, at / "new.zarr", optimizer=held, every=1).close()
    run("new.zarr", steps, resume_from=0)


@ADVICE.story("build it from this model's parameters, or leave optimizer= out")
def _(at, provoked):
    model = fed()
    with provoked():
        attach(at, model, optimizer=sgd(fed()))
    Recorder(model, at / "built.zarr", optimizer=sgd(model)).close()
    attach(at, model)


ADVICE.row(
    "cannot be recorded without the optimizer; give Recorder(..., optimizer=optimizer)",
    lambda at: attach(at, state=["update"]),
    lambda at: train(at, state=["update"]),
)
ADVICE.row(
    "would never be there: {why}; leave it out of state=",
    lambda at: train(at, state=["weight", "momentum"]),
    lambda at: train(at, state=["weight"]),
)


@ADVICE.story("leave it out of state= (all else is in the store)")
def _(at, provoked):
    def run(path, state):
        model = fed()
        optimizer = torch.optim.Adagrad(model.parameters())  # it does not say that it keeps no momentum
        with Recorder(model, at / path, optimizer=optimizer, state=state, every=1) as recorder:
            update(model, optimizer)
            recorder.step()

    with provoked():
        run("run.zarr", ["update", "momentum"])
    assert np.isfinite(open_run(at / "run.zarr")["state/0/update"].sel(step=0)).all()
    run("right.zarr", ["update"])


@ADVICE.story("{step} is recorded; call recorder.step() after each optimizer.step()")
def _(at, provoked):
    model = fed()
    optimizer = sgd(model)
    with provoked(), Recorder(model, at / "run.zarr", probes=probes(), every=1):
        update(model, optimizer)
    assert open_run(at / "run.zarr")["probe"].sizes["step"] == 1
    with Recorder(model, at / "marked.zarr", probes=probes(), every=1) as recorder:
        update(model, optimizer)
        recorder.step()
    assert open_run(at / "marked.zarr")["probe"].sizes["step"] == 2


@ADVICE.story("Close the recorder before other weights are loaded")
def _(at, provoked):
    def run(path, *, closes):
        model = fed()
        optimizer, best = sgd(model), {k: v.clone() for k, v in model.state_dict().items()}
        recorder = Recorder(model, at / path, optimizer=optimizer, every=2)
        update(model, optimizer)
        recorder.step()
        if closes:
            recorder.close()
        model.load_state_dict(best)
        recorder.close()

    with provoked():
        run("run.zarr", closes=False)
    run("right.zarr", closes=True)
    assert list(open_run(at / "right.zarr")["state"]["step"].values) == [0, 1]


def _learned(at, optimizer_of, *, converts_late=False):
    """Train by Kolen-Pollack, which learns B, with the optimizer that a function builds."""
    model = net() if converts_late else convert(net(), "kp")
    optimizer = optimizer_of(model)
    model = convert(model, "kp") if converts_late else model
    with Recorder(model, at / "run.zarr", optimizer=optimizer, every=1) as recorder:
        update(model, optimizer)
        recorder.step()


def _in_two_groups(model):
    named = list(model.named_parameters())
    fed_back, others = ([p for n, p in named if n.endswith("feedback") == is_fed] for is_fed in (True, False))
    return torch.optim.SGD([{"params": others}, {"params": fed_back, "weight_decay": 0.1}], 0.1)


ADVICE.row(
    "convert the model before the optimizer is built, and give the optimizer model.parameters()",
    lambda at: _learned(at, sgd, converts_late=True),
    lambda at: _learned(at, sgd),
)
ADVICE.row(
    "; put both into one parameter group",
    lambda at: _learned(at, _in_two_groups),
    lambda at: _learned(at, sgd),
)
ADVICE.row(
    "give numbers, text, lists or mappings to keep them as they are",
    lambda at: attach(at, meta={"device": torch.device("cpu")}),
    lambda at: attach(at, meta={"device": "cpu", "widths": [6, 8], "decay": {"weight": 0.1}}),
)


# Ranks.


ADVICE.row(
    "To see the samples of the other ranks, give rank 0 a Probe with the whole batch",
    lambda at: attach(at, processes="all"),
    lambda at: attach(at, processes="first", probes=probes()),
)


def _ranks(others=lambda own: own, *, rank=0):
    """Return two processes as rank 0 sees them, the other one played by what it answers."""
    processes = Processes("first")
    processes.size, processes.rank = 2, rank
    processes._gather = lambda own: [own, others(own)]
    processes._leave = lambda: None
    return processes


def _layers(model):
    from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
    from fadiag.capture.layers.selection import choose_layers

    return choose_layers(model, DEFAULT_ADAPTERS, None)


def _digests(model):
    return distributed.feedback_digests(_layers(model))


ADVICE.row(
    "build one on every rank: those above 0 record nothing",
    lambda at: _fail(_ranks()._missing(RuntimeError("timeout"))),
    lambda at: _ranks().check_feedback(_layers(fed())),
)


def _fail(error):
    raise error


ADVICE.row(
    "build the same model and recorder on every rank",
    lambda at: _ranks(lambda own: {"0": own["0"]}).check_feedback(_layers(fed())),
    lambda at: _ranks(lambda own: _digests(fed())).check_feedback(_layers(fed())),
)
ADVICE.row(
    "build and convert the model under the same torch seed on every rank, or wrap it before it is recorded",
    lambda at: _ranks(lambda own: _digests(convert(net(), seed=1))).check_feedback(_layers(fed())),
    lambda at: _ranks(lambda own: _digests(convert(net(), seed=0))).check_feedback(_layers(fed())),
)


def _synchronized(mode):
    model = nn.Sequential(nn.Linear(6, 5), nn.SyncBatchNorm(5))
    _ranks().check_probes(model, probes(mode=mode))


ADVICE.row(
    "and rank 0 probes alone; give Probe(..., mode='eval')",
    lambda at: _synchronized("train"),
    lambda at: _synchronized("eval"),
)
