"""The advice of fadiag.training."""

from unittest import mock

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch.utils.data import Dataset

from fadiag.store import run_info
from fadiag.training import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    TrainConfig,
    load_checkpoint,
    train,
)
from fadiag.training.checks import pick_device
from fadiag.training.datasets.cifar import CIFAR10, parse_cifar
from fadiag.training.datasets.idx import parse_idx, read_fashion_mnist
from fadiag.training.models import build_model
from tests.advice.advice import Table

ADVICE = Table()

SMALL = Config(
    train=TrainConfig(epochs=1, batch_size=20, checkpoint_every=1),
    data=DataConfig(train_samples=60, test_samples=12),
    model=ModelConfig(hidden=(4, 4), gate="tanh"),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=100, signals=("error",), state=(), probe_samples=6, redraws=0, gate_draws=0),
)
MUON = OptimizerConfig(name="muon", learning_rate=0.02)
DATA = (torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3)


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def small(**changes):
    """Return the small configuration with changed keys, as ``train={"epochs": 2}``."""
    return replace(
        SMALL,
        **{k: replace(getattr(SMALL, k), **v) if isinstance(v, dict) else v for k, v in changes.items()},
    )


def run(at, config=SMALL, name="run.zarr", **options):
    store = train(config, at / name, device="cpu", **options)
    assert run_info(store).status == "complete"
    return store


def net(*widths):
    torch.manual_seed(0)
    layers = [nn.Linear(i, o) for i, o in zip((5, *widths), (*widths, 3), strict=True)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


# Checkpoints.


@ADVICE.story("a branch keeps it, so train a new run for another")
def _(at, provoked):
    checkpoint = load_checkpoint(run(at), 1)
    larger = small(train={"batch_size": 30})
    with provoked():
        run(at, larger, "branch.zarr", branch=checkpoint)
    run(at, larger, "new.zarr")


@ADVICE.story("and the checkpoint has {self.step} already; take more")
def _(at, provoked):
    checkpoint = load_checkpoint(run(at, small(train={"epochs": 2})), 4)
    with provoked():
        run(at, SMALL, "branch.zarr", branch=checkpoint)
    run(at, small(train={"epochs": 2}), "branch.zarr", branch=checkpoint)


@ADVICE.story("is damaged: {why}; take an earlier one")
def _(at, provoked):
    store = run(at)
    (at / "run.zarr.checkpoints" / "2.pt").write_bytes(b"half")
    with provoked():
        load_checkpoint(store, 2)
    run(at, name="branch.zarr", branch=load_checkpoint(store, 1))


@ADVICE.story("is a run of another configuration; take another path, or a branch of it")
def _(at, provoked):
    def kill(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(at, small(train={"epochs": 2}), progress=kill)
    faster = small(optimizer={"learning_rate": 0.04}, train={"epochs": 2})
    with provoked():
        run(at, faster, resume=True)
    run(at, faster, "another.zarr", resume=True)
    run(at, faster, "branch.zarr", branch=load_checkpoint(at / "run.zarr", 2))


@ADVICE.story("which cannot go on from its state; keep the optimizers")
def _(at, provoked):
    checkpoint = load_checkpoint(run(at), 1)
    with provoked():
        run(at, small(optimizer=MUON), "muon.zarr", branch=checkpoint)
    run(at, small(optimizer={"learning_rate": 0.01}), "sgd.zarr", branch=checkpoint)


@ADVICE.story("has other parameters than in the checkpoint; keep optimizer.layers and the rule")
def _(at, provoked):
    checkpoint = load_checkpoint(run(at), 1)
    with provoked():
        run(at, small(rule="frozen"), "frozen.zarr", branch=checkpoint)
    run(at, name="same.zarr", branch=checkpoint)
    checkpoint = load_checkpoint(run(at, small(optimizer=MUON), "muon.zarr"), 1)
    with provoked():
        run(at, small(optimizer=replace(MUON, layers="hidden")), "hidden.zarr", branch=checkpoint)
    run(at, small(optimizer=MUON), "again.zarr", branch=checkpoint)


@ADVICE.story("so train a new run for another {key}")
def _(at, provoked):
    checkpoint = load_checkpoint(run(at), 1)
    learned = small(rule="kp", optimizer={"weight_decay": 0.01})
    with provoked():
        run(at, learned, "branch.zarr", branch=checkpoint)
    run(at, learned, "new.zarr")


@ADVICE.story("in the checkpoint; take the network of the checkpoint")
def _(at, provoked):
    given = {"data": DATA, "config": small(data=DataConfig())}
    checkpoint = load_checkpoint(run(at, model=net(4), **given), 1)
    for other in (net(6), net(4, 4)):
        with provoked():
            run(at, name="branch.zarr", model=other, branch=checkpoint, **given)
    run(at, name="branch.zarr", model=net(4), branch=checkpoint, **given)


@ADVICE.story("give the same data, or train a new run")
def _(at, provoked):
    config, other = small(data=DataConfig()), (DATA[0] + 1, DATA[1])
    checkpoint = load_checkpoint(run(at, config, model=net(4), data=DATA), 1)
    with provoked():
        run(at, config, "branch.zarr", model=net(4), data=other, branch=checkpoint)
    run(at, config, "branch.zarr", model=net(4), data=DATA, branch=checkpoint)
    run(at, config, "new.zarr", model=net(4), data=other)


# Networks and optimizers.


class Bare(nn.Module):
    """A network whose matrices are in no module of their own."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        return x @ self.matrix


ADVICE.row(
    "build it of modules such as nn.Linear",
    lambda at: run(at, small(rule="bp", data=DataConfig()), model=Bare(), data=DATA),
    lambda at: run(at, small(rule="bp", data=DataConfig()), model=net(), data=DATA),
)
ADVICE.row(
    "finds no variance in one sample; take larger parts, or model.norm 'layer'",
    lambda at: run(at, small(model={"norm": "batch"}, train={"accumulate": 20})),
    lambda at: run(at, small(model={"norm": "batch"}, train={"accumulate": 10})),
    lambda at: run(at, small(model={"norm": "layer"}, train={"accumulate": 20})),
)
ADVICE.row(
    "finds no variance in one sample; take more, or record.probe_mode 'eval'",
    lambda at: run(at, small(model={"norm": "batch"}, record={"probe_samples": 1})),
    lambda at: run(at, small(model={"norm": "batch"}, record={"probe_samples": 6})),
    lambda at: run(at, small(model={"norm": "batch"}, record={"probe_samples": 1, "probe_mode": "eval"})),
)


@ADVICE.story("torch sees no CUDA device; take 'auto' or 'cpu'")
def _(at, provoked):
    with mock.patch("torch.cuda.is_available", return_value=False), provoked():
        train(SMALL, at / "run.zarr", device="cuda")
    with mock.patch("torch.cuda.is_available", return_value=False):
        for device in ("auto", "cpu"):
            assert pick_device(device).type == "cpu"
        train(SMALL, at / "run.zarr", device="auto")


ADVICE.row(
    "'lenet' has the widths of its paper; leave it out",
    lambda at: build_model(ModelConfig(name="lenet", width=8), (1, 28, 28), 10, seed=0),
    lambda at: build_model(ModelConfig(name="lenet"), (1, 28, 28), 10, seed=0),
)
ADVICE.row(
    "take 'adamw', with {table}.weight_decay above 0",
    lambda at: run(at, small(rule="kp", optimizer={"name": "adam", "weight_decay": 0.01})),
    lambda at: run(at, small(rule="kp", optimizer={"name": "adamw", "weight_decay": 0.01})),
)
ADVICE.row(
    "which the loss scale of amp 'fp16' does not reach; take 'bf16'",
    lambda at: small(rule="drtp", train={"amp": "fp16"}),
    lambda at: small(rule="drtp", train={"amp": "bf16"}),
)
ADVICE.row(
    "set it above 0, as in 0.01",
    lambda at: run(at, small(rule="kp")),
    lambda at: run(at, small(rule="kp", optimizer={"weight_decay": 0.01})),
)
ADVICE.row(
    "and rule 'frozen' trains the last layer only; take 'sgd'",
    lambda at: run(at, small(rule="frozen", optimizer=MUON)),
    lambda at: run(at, small(rule="frozen", optimizer={"name": "sgd"})),
)
ADVICE.row(
    "take another optimizer.layers, or 'sgd'",
    lambda at: run(at, small(model={"hidden": (4,)}, optimizer=replace(MUON, layers="hidden"))),
    lambda at: run(at, small(model={"hidden": (4,)}, optimizer=replace(MUON, layers="all_but_last"))),
    lambda at: run(at, small(model={"hidden": (4,)}, optimizer=replace(MUON, layers="all"))),
    lambda at: run(at, small(model={"hidden": (4,)}, optimizer={"name": "sgd"})),
)
ADVICE.row(
    "take a smaller one. What was recorded before is in {store}",
    lambda at: run(
        at, small(model={"gate": "linear"}, optimizer={"learning_rate": 1e6}, train={"epochs": 5})
    ),
    lambda at: run(at, small(model={"gate": "linear"}, train={"epochs": 5})),
)


# Data.


class Pairs(Dataset):
    """A map-style data set."""

    def __init__(self, x=DATA[0], y=DATA[1]):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


def given(at, data=DATA, *, model=True, test=None, **data_options):
    config = small(data=DataConfig(**data_options))
    run(at, config, data=data, test=test, model=net(4) if model else None)


X, Y = DATA
ADVICE.row(
    "give one class number for each input",
    lambda at: given(at, (X, nn.functional.one_hot(Y))),
    lambda at: given(at, (X, nn.functional.one_hot(Y).argmax(1))),
)
ADVICE.row(
    "give one class number for each input",
    lambda at: given(at, (X, Y.float())),
    lambda at: given(at, (X, Y)),
)
ADVICE.row(
    "data is empty; give at least one sample",
    lambda at: given(at, test=(X[:0], Y[:0])),
    lambda at: run(
        at,
        small(data=DataConfig(), record={"probe_samples": 1}),
        data=DATA,
        test=(X[:1], Y[:1]),
        model=net(4),
    ),
)
ADVICE.row(
    "test is given without data; give both, or neither",
    lambda at: given(at, None, test=DATA),
    lambda at: given(at, DATA, test=DATA),
    lambda at: run(at, SMALL),
)


class Noisy(Pairs):
    """A data set that has the noise in its labels already."""

    def __init__(self):
        super().__init__(X, torch.where(torch.arange(60) % 5 == 0, (Y + 1) % 3, Y))


ADVICE.row(
    "data.label_noise is for labels as a tensor; put it into your data set",
    lambda at: given(at, Pairs(), label_noise=0.2),
    lambda at: given(at, Noisy()),
    lambda at: given(at, DATA, label_noise=0.2),
)
ADVICE.row(
    "give a pair of tensors or a map-style data set",
    lambda at: given(at, iter(Pairs())),
    lambda at: given(at, DATA),
    lambda at: given(at, Pairs()),
)
ADVICE.row(
    "; give a pair of tensors or a map-style data set",
    lambda at: given(at, (X.numpy(), Y.numpy())),
    lambda at: given(at, tuple(map(torch.from_numpy, (X.numpy(), Y.numpy())))),
    lambda at: given(at, Pairs(X.numpy(), Y.numpy())),
)


@ADVICE.story("scale the weights of model=, and leave model.weight_scale out")
def _(at, provoked):
    with provoked():
        run(at, small(data=DataConfig(), model={"weight_scale": 0.5}), data=DATA, model=net(4))
    model = net(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    run(at, small(data=DataConfig()), data=DATA, model=model)


ADVICE.row(
    "a torch Dataset does not say its number of classes; give model= too",
    lambda at: given(at, Pairs(), model=False),
    lambda at: given(at, Pairs(), model=True),
)


def _idx(*shape):
    """Return an idx file of bytes, as one gets it from its source."""
    sizes = np.array(shape, ">u4").tobytes()
    return bytes([0, 0, 8, len(shape)]) + sizes + bytes(i % 3 for i in range(int(np.prod(shape))))


def _cifar(rows):
    return bytes(CIFAR10.label_bytes + 3072) * rows


ADVICE.row(
    "it holds {len(content) - header}; fetch it again",
    lambda at: parse_idx(_idx(4, 2)[:-1], 2, "images"),
    lambda at: parse_idx(_idx(4, 2), 2, "images"),
)
ADVICE.row(
    "are {rows * width}; fetch it again",
    lambda at: parse_cifar(_cifar(2)[:-1], 2, CIFAR10, "a.bin"),
    lambda at: parse_cifar(_cifar(2), 2, CIFAR10, "a.bin"),
)


def _files(folder):
    """Make a folder with files in the format of Fashion-MNIST."""
    folder.mkdir()
    for name, samples in (("train", 60), ("t10k", 12)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(samples, 8, 8))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(_idx(samples))
    return folder


def _fashion(at, folder):
    return run(at, small(data={"name": "fashion-mnist", "folder": folder}))


ADVICE.row(
    "needs the folder of its files (data.folder, or --data-dir); get them from {source}",
    lambda at: _fashion(at, None),
    lambda at: _fashion(at, str(_files(at / "files"))),
    lambda at: read_fashion_mnist(_files(at / "more")),
)
ADVICE.row(
    "no folder {folder} with {what}; get its files from {source}",
    lambda at: _fashion(at, str(at / "gone")),
    lambda at: _fashion(at, str(_files(at / "gone"))),
)


# Studies.
