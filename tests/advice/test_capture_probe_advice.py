"""The advice of fadiag.capture on probes and live signals."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder, Subset
from fadiag.rules import convert
from fadiag.store import open_run
from tests.advice.advice import Table
from tests.advice.nets import X, Y, attach, fed, net, probes, sgd, train, update
from tests.capture.layers.test_direct import ADAPTERS, Net
from tests.capture.toy import loss_of

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


# The arguments of Probe, Live and the schedules.


def probed(at, batch=(X, Y), loss=loss_of, **options):
    attach(at, probes={"probe": Probe(batch, loss, **options)})


ADVICE.row(
    "{what} is {count}; give a whole number, at least 0",
    lambda at: probed(at, redraws=-1),
    lambda at: probed(at, redraws=0),
)
ADVICE.row(
    "the probe's seed is {seed}; give a whole number",
    lambda at: probed(at, seed="a"),
    lambda at: probed(at, seed=7),
)
ADVICE.row(
    "give a callable loss(model, batch)",
    lambda at: probed(at, loss="mse"),
    lambda at: probed(at, loss=loss_of),
)


def _loader():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8)


ADVICE.row(
    "give what it yields, say next(iter(loader))",
    lambda at: probed(at, iter(_loader())),
    lambda at: probed(at, next(iter(_loader()))),
)
ADVICE.row(
    "give None for all samples, a number of them, or Subset(n, seed)",
    lambda at: probed(at, rows="few"),
    lambda at: probed(at, rows=None),
    lambda at: probed(at, rows=4),
    lambda at: probed(at, rows=Subset(4, 0)),
)
ADVICE.row(
    "give a whole number of steps, at least 1",
    lambda at: attach(at, every=0),
    lambda at: attach(at, every=1),
)


def _logarithmic(at, per_decade):
    from fadiag.capture import logarithmic

    attach(at, every=logarithmic(per_decade))


ADVICE.row(
    "per_decade is {per_decade}; give a whole number, at least 1",
    lambda at: _logarithmic(at, 0),
    lambda at: _logarithmic(at, 1),
)
ADVICE.row(
    "give them by name, probes={'probe': Probe(...)}",
    lambda at: attach(at, probes=Probe((X, Y), loss_of)),
    lambda at: attach(at, probes={"probe": Probe((X, Y), loss_of)}),
)
ADVICE.row(
    "which is a stream of its own; take another name",
    lambda at: attach(at, probes={"state": Probe((X, Y), loss_of)}),
    lambda at: attach(at, probes={"test": Probe((X, Y), loss_of)}),
)
ADVICE.row(
    "give a fadiag.Probe",
    lambda at: attach(at, probes={"probe": (X, Y)}),
    lambda at: attach(at, probes=probes()),
)

# Losses and batches.

ADVICE.row(
    "the batch is empty; give Probe a batch with at least one sample",
    lambda at: probed(at, (X[:0], Y[:0])),
    lambda at: probed(at, (X[:1], Y[:1])),
)
ADVICE.row(
    "give Probe a batch and a loss that fit the model",
    lambda at: probed(at, {"x": X}),
    lambda at: probed(at, (X[:, :6], Y)),
)
ADVICE.row(
    "return the mean over the batch",
    lambda at: probed(at, loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none")),
    lambda at: probed(
        at, loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1], reduction="none").mean()
    ),
)


def _scaling(model, batch):
    batch[0].mul_(0.5)
    return loss_of(model, batch)


ADVICE.row(
    "give Probe a loss that leaves the batch as it is, or works on a copy",
    lambda at: probed(at, (X.clone(), Y), _scaling),
    lambda at: probed(at, (X.clone(), Y), loss_of),
    lambda at: probed(at, (X.clone(), Y), lambda m, b: _scaling(m, [x.clone() for x in b])),
)


@ADVICE.story("give Probe a copy that nobody writes to")
def _(at, provoked):
    def run(path, batch, written):
        with Recorder(fed(), at / path, probes={"probe": Probe(batch, loss_of)}, every=1) as recorder:
            written.mul_(0.5)
            recorder.step()

    x = X.clone()
    with provoked():
        run("run.zarr", (x, Y), x)
    run("right.zarr", (x.clone(), Y), x)


def _greedy(model, batch):
    if len(batch[0]) > 8:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return loss_of(model, batch)


ADVICE.row(
    "give it a smaller batch or fewer signals",
    lambda at: probed(at, loss=_greedy),
    lambda at: probed(at, (X[:8], Y[:8]), _greedy),
    lambda at: probed(at, signals=["error"]),
)

# Draws.


def _null_bytes(at, monkeypatched, **options):
    from unittest import mock

    with mock.patch("fadiag.capture.streams.nulls.MOST_BYTES", monkeypatched):
        layers = options.pop("layers", None)
        attach(at, convert(_images()), probes=probes(IMAGES, **options), layers=layers)


def _images():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3))


IMAGES = (torch.randn(16, 2, 4, 4, generator=torch.Generator().manual_seed(0)), Y)
ADVICE.row(
    "fewer samples (rows=), or unfolding='channels', or record fewer layers",
    lambda at: _null_bytes(at, 1500, redraws=9, gate_draws=9),
    lambda at: _null_bytes(at, 1500, redraws=1),
    lambda at: _null_bytes(at, 1500, redraws=9, gate_draws=9, rows=2),
    lambda at: _null_bytes(at, 1500, redraws=9, gate_draws=9, unfolding="channels"),
    lambda at: _null_bytes(at, 1500, redraws=9, gate_draws=9, layers=["3"]),
)


class Single(torch.autograd.Function):
    """The identity, whose backward pass runs once."""

    @staticmethod
    def forward(ctx, x):
        ctx.is_used = False
        return x.view_as(x)

    @staticmethod
    def backward(ctx, error):
        if ctx.is_used:
            raise RuntimeError("the rule goes backward once")
        ctx.is_used = True
        return error


class Through(nn.Module):
    def forward(self, x):
        return Single.apply(x)


def _once(at, **options):
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), Through(), nn.Tanh(), nn.Linear(8, 3)
    attach(at, convert(nn.Sequential(*layers)), probes=probes(**options), passes=(Through,))


ADVICE.row(
    "give Probe(gate_draws=0)",
    lambda at: _once(at, gate_draws=2),
    lambda at: _once(at, gate_draws=0),
)
_B = {"0": torch.ones(8, 6)}
ADVICE.row(
    "take an identifier that is not the ending of a name in fadiag.signals, as bp, post and norm are",
    lambda at: probed(at, feedbacks={"bp": _B}),
    lambda at: probed(at, feedbacks={"b": _B}),
)


def _direct(at, **options):
    probe = Probe((X.double(), Y), loss_of, **options)
    attach(at, Net("identity"), adapters=(ADAPTERS["identity"],), probes={"probe": probe})


ADVICE.row(
    "so its backward map is F itself; leave it out",
    lambda at: _direct(at, jacobian_vectors=3),
    _direct,
)


def _jacobian(at, layers, vectors=3):
    attach(at, convert(net()), probes=probes(jacobian_vectors=vectors), layers=layers)


ADVICE.row(
    "add it to layers=[...] {how}or leave jacobian_vectors out",
    lambda at: _jacobian(at, ["0"]),
    lambda at: _jacobian(at, ["0", "2"]),
    lambda at: _jacobian(at, ["0"], 0),
)


# Live.

ADVICE.row(
    "give a fadiag.capture.Live",
    lambda at: attach(at, live=50),
    lambda at: attach(at, live=Live(every=50)),
)
ADVICE.row(
    "by the model's own rule; record it with a Probe",
    lambda at: attach(at, live=Live(["error_bp"])),
    lambda at: probed(at, signals=["error_bp"]),
)


@ADVICE.story("train the model uncompiled, or use probes, which run the module inside")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def _(at, provoked):
    model = fed()
    with provoked():
        attach(at, torch.compile(model, backend="eager"), live=Live())
    attach(at, torch.compile(model, backend="eager"), probes=probes())
    (at / "plain").mkdir()
    attach(at / "plain", model, live=Live())


@ADVICE.story("give Live(every=...) a schedule that has, or leave live= out (all else is in the store)")
def _(at, provoked):
    with provoked():
        train(at, live=Live(every=[50]))
    assert len(open_run(at / "run.zarr")["state"]["step"]) == 4
    for name, options in {"within": {"live": Live(every=[1])}, "without": {}}.items():
        (at / name).mkdir()
        train(at / name, **options)


def _live(at, forward, **options):
    model = fed()
    with Recorder(model, at / "run.zarr", **({"live": Live(every=1)} | options)) as recorder:
        forward(model)
        recorder.step()


def _back(model):
    loss_of(model, (X, Y)).backward()


ADVICE.row(
    "and loss.backward() before recorder.step(), or leave live= out",
    lambda at: _live(at, lambda model: None),
    lambda at: _live(at, _back),
    lambda at: _live(at, lambda model: None, live=None),
)


def _functional(model):
    parameters = dict(model.named_parameters())
    torch.func.grad(lambda p: torch.func.functional_call(model, p, (X,)).sum())(parameters)


ADVICE.row(
    "train by loss.backward(), or leave live= out and record a Probe",
    lambda at: _live(at, _functional),
    lambda at: _live(at, _back),
    lambda at: _live(at, _functional, live=None, probes=probes()),
)


class Interrupted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.stops = fed(), False

    def forward(self, x):
        h = self.inner[:2](x)
        if self.stops:
            raise KeyboardInterrupt
        return self.inner[2](h)


@ADVICE.story("close the recorder when the training is interrupted, and go on with resume_from=")
def _(at, provoked):
    model = Interrupted()

    def interrupt():
        model.stops = True
        with pytest.raises(KeyboardInterrupt):
            loss_of(model, (X, Y))
        model.stops = False

    recorder = Recorder(model, at / "run.zarr", live=Live(every=1), every=1)
    _back(model)
    recorder.step()
    interrupt()
    with provoked():
        _back(model)
        recorder.step()
    recorder.close()

    recorder = Recorder(model, at / "right.zarr", live=Live(every=1), every=1)
    _back(model)
    recorder.step()
    interrupt()
    recorder.close()
    with Recorder(model, at / "right.zarr", live=Live(every=1), every=1, resume_from=1) as recorder:
        _back(model)
        recorder.step()
    assert list(open_run(at / "right.zarr")["live"]["step"].values) == [0, 1]


_SHORT, _LONG = (X[:6], Y[:6]), (X, Y)
ADVICE.row(
    "Begin with the largest batch, or take fewer of each by rows=",
    lambda at: train(at, steps=2, batches=[_SHORT, _LONG], live=Live(every=1)),
    lambda at: train(at, steps=2, batches=[_LONG, _SHORT], live=Live(every=1)),
    lambda at: train(at, steps=2, batches=[_SHORT, _LONG], live=Live(every=1, rows=4)),
)


def _tokens(at, *lengths, width=None, **live):
    """Train on batches of sequences of these lengths."""
    torch.manual_seed(0)
    mean = nn.AdaptiveAvgPool1d(1)
    model = convert(
        nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Tanh(), mean, nn.Flatten(), nn.Linear(4, 3))
    )
    optimizer = sgd(model)
    options = {"live": Live(every=1, **live)} if live.pop("is_live", True) else {"probes": probes(IMAGES_1D)}
    with Recorder(model, at / "run.zarr", optimizer=optimizer, every=1, **options) as recorder:
        for length in lengths:
            x = nn.functional.pad(torch.randn(16, 2, length), (0, (width or length) - length))
            update(model, optimizer, (x, Y))
            recorder.step()


IMAGES_1D = (torch.randn(16, 2, 5), Y)
ADVICE.row(
    "a signal has one shape in a store: pad every batch to one length",
    lambda at: _tokens(at, 5, 7),
    lambda at: _tokens(at, 5, 7, width=7),
    lambda at: _tokens(at, 5, 7, reduction="factor", unfolding="channels"),
    lambda at: _tokens(at, 5, 7, is_live=False),
)


@ADVICE.story("Then give Recorder(..., scaler=scaler), which divides them again")
def _(at, provoked):
    def run(path, *, knows):
        model = fed()
        optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0**16)
        given = {"scaler": scaler} if knows else {}
        options = {"optimizer": optimizer, "every": 1, "probes": probes(), "live": Live(every=1)} | given
        with Recorder(model, at / path, **options) as recorder:
            optimizer.zero_grad()
            scaler.scale(loss_of(model, (X, Y))).backward()
            scaler.step(optimizer)
            scaler.update()
            recorder.step()
        return open_run(at / path)

    with provoked():
        run("run.zarr", knows=False)
    right = run("right.zarr", knows=True)
    live, probe = (right[f"{stream}/2/error"].sel(step=0).values for stream in ("live", "probe"))
    np.testing.assert_allclose(live, probe, rtol=1e-5)


@ADVICE.story("close the recorder before you change them")
def _(at, provoked):
    def run(path, *, closes):
        model = convert(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)))
        optimizer = sgd(model)
        probe = Probe((X, Y), loss_of, redraws=2)
        recorder = Recorder(model, at / path, optimizer=optimizer, every=2, probes={"probe": probe})
        for _ in range(2):
            update(model, optimizer)
            recorder.step()
        if closes:
            recorder.close()
        model[1].running_mean += 3
        recorder.close()

    with provoked():
        run("run.zarr", closes=False)
    run("right.zarr", closes=True)
    assert np.isfinite(open_run(at / "right.zarr")["probe/0/error_null_cosine"].values[-1]).any()
