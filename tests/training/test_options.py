"""What a configuration can ask of a run: every model, optimizer, precision, loss and record; given models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from fadiag.capture import Probe, Subset
from fadiag.capture.signals.samples import chosen_samples
from fadiag.errors import ConfigError, InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    LiveConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    RestConfig,
    SubsetConfig,
    TrainConfig,
    recording,
    train,
)
from fadiag.training.loss import loss_of
from fadiag.training.samples import prepare_data
from fadiag.training.state import TrainingState

SMALL = Config(
    train=TrainConfig(epochs=1, batch_size=20),
    data=DataConfig(train_samples=60, test_samples=40),
    model=ModelConfig(hidden=(8, 8)),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=2, probe_samples=12, redraws=0, gate_draws=0),
)


class Net(nn.Module):
    """Registered in another order than it works in, without any of fadiag's names."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)
        self.middle = nn.Linear(16, 12)
        self.stem = nn.Linear(5, 16)

    def forward(self, x):
        return self.head(torch.tanh(self.middle(torch.tanh(self.stem(x)))))


class Pairs(Dataset):
    def __init__(self, x, y) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


def blobs(count: int = 80):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (count,), generator=generator)
    return torch.randn(count, 5, generator=generator) + 3 * torch.eye(3, 5)[y], y


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def final_weight(store: Path, layer: str) -> np.ndarray:
    return open_run(store)[f"state/{layer}/weight"][-1].values


def test_anybodys_model_and_data_train_and_record(tmp_path: Path) -> None:
    x, y = blobs()
    config = replace(
        SMALL,
        data=DataConfig(),
        train=TrainConfig(epochs=5, batch_size=20),
        optimizer=OptimizerConfig(
            name="muon", learning_rate=0.02, rest=RestConfig(name="sgd", learning_rate=0.1)
        ),
    )
    store = train(config, tmp_path / "run.zarr", model=net(), data=(x, y), test=blobs(40))
    run, manifest = open_run(store), run_info(store).manifest
    assert manifest["meta"]["primary_layer"] == "middle"
    assert manifest["meta"]["optimizer_layers"] == "stem middle"
    assert (manifest["config"]["model"]["name"], manifest["config"]["data"]["name"]) == ("given", "given")
    assert (manifest["meta"]["model"], manifest["meta"]["norm"]) == ("given", "given")
    # The trainer's order is the recorder's.
    order = sorted(run["probe"].children.values(), key=lambda node: node.attrs["order"])
    assert [node.attrs["name"] for node in order] == ["stem", "middle", "head"]
    assert run["log/test_accuracy"].dropna("step")[-1] > 0.8
    assert set(run["static"].children) == {"stem", "middle", "head"}


def test_a_data_set_gives_the_same_run_as_its_tensors(tmp_path: Path) -> None:
    x, y = blobs()
    stores = [
        train(SMALL, tmp_path / f"{name}.zarr", model=net(), data=data)
        for name, data in (("pair", (x, y)), ("dataset", Pairs(x, y)))
        for SMALL in [replace(globals()["SMALL"], data=DataConfig())]
    ]
    assert np.array_equal(*(final_weight(store, "middle") for store in stores))
    infos = [run_info(store).manifest["meta"] for store in stores]
    assert [len(meta["data_sha256"]) for meta in infos] == [64, 0]
    # Without test data, the last fifth of the training data is held out.
    assert infos[0]["held_out"] == "validation"
    assert open_run(stores[0])["log"].step.size == 4  # three batches of 20 from 64 samples


def test_frozen_hidden_layers_are_those_before_the_last_call(tmp_path: Path) -> None:
    model, start = net(), dict(net().named_parameters())
    config = replace(SMALL, data=DataConfig(), rule="frozen")
    train(config, tmp_path / "run.zarr", model=model, data=blobs())
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("changes", "given", "error", "message"),
    [
        ({}, {"data": blobs(), "test": None, "model": None}, None, None),
        ({}, {"test": blobs()}, ConfigError, "test is given without data"),
        ({}, {"data": (blobs()[0], blobs(70)[1])}, InputError, "data has 80 inputs and 70 labels"),
        (
            {},
            {"data": blobs()[:1] * 2},
            InputError,
            r"labels of shape \(80, 5\) and type torch.float32",
        ),
        (
            {},
            {"data": Stream()},
            InputError,
            "data is a Stream, which has no length and no items",
        ),
        (
            {},
            {"data": tuple(part.numpy() for part in blobs())},
            InputError,
            r"data is a tuple of 2 items \(ndarray\); give a pair of tensors or a map-style data set",
        ),
        (
            {},
            {"data": blobs(), "test": [*Pairs(*blobs())][:40]},
            InputError,
            r"data is a list of 40 items \(tuple\); give a pair of tensors or a map-style data set",
        ),
        (
            {"model": ModelConfig(weight_scale=0.25)},
            {"data": blobs(), "model": net()},
            ConfigError,
            "model.weight_scale is 0.25, which only a built-in network has; scale the weights of model=, and",
        ),
        ({}, {"data": Pairs(*blobs())}, ConfigError, "does not say its number of classes; give model= too"),
        (
            {"data": DataConfig(augment=True)},
            {"data": blobs()},
            ConfigError,
            "data.augment is for images as a tensor",
        ),
        (
            {"data": DataConfig(label_noise=0.1)},
            {"data": Pairs(*blobs()), "model": net()},
            ConfigError,
            "data.label_noise is for labels as a tensor",
        ),
        (
            {"data": DataConfig(train_samples=90)},
            {"data": blobs()},
            InputError,
            "has 80 train samples, not",
        ),
        ({}, {"data": (torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))}, InputError, "data is empty"),
    ],
)
def test_given_data_that_do_not_fit_are_one_clear_line(tmp_path, changes, given, error, message) -> None:
    config = replace(SMALL, **{"data": DataConfig(), **changes})
    if error is None:
        train(config, tmp_path / "run.zarr", **given)
        return
    with pytest.raises(error, match=message) as caught:
        train(config, tmp_path / "run.zarr", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("name", ["vgg", "resnet20", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_convolutional_networks_learn_and_are_recorded(tmp_path: Path, name: str) -> None:
    config = replace(
        SMALL,
        data=DataConfig(train_samples=20, test_samples=20),
        train=TrainConfig(epochs=1, batch_size=10),
        model=ModelConfig(name=name, width=2, norm="batch"),
        optimizer=OptimizerConfig(name="muon", orthogonalization="float32"),
        record=replace(SMALL.record, every=10, reduction="factor", probe_samples=8),
    )
    store = train(config, tmp_path / "run.zarr")
    run, meta = open_run(store), run_info(store).manifest["meta"]
    order = sorted(run["probe"].children.values(), key=lambda node: node.attrs["order"])
    names = [node.attrs["name"] for node in order]
    assert meta["primary_layer"] == names[-2]
    assert meta["optimizer_layers"].split() == names[:-1]


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains_near_full_precision(tmp_path: Path, amp: str) -> None:
    plain, mixed = (
        train(replace(SMALL, rule="bp", train=replace(SMALL.train, amp=kind)), tmp_path / f"{kind}.zarr")
        for kind in ("none", amp)
    )
    a, b = (final_weight(store, "fc1") for store in (plain, mixed))
    start = open_run(plain)["static/fc1/weight_init"].values
    assert not np.array_equal(a, b)
    assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a - start)


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    whole, parts = (
        final_weight(
            train(replace(SMALL, train=replace(SMALL.train, accumulate=n)), tmp_path / f"{n}.zarr"), "fc1"
        )
        for n in (1, 4)
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-4, atol=1e-6)


def test_clipped_gradients_have_the_norm_asked_for(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        optimizer=OptimizerConfig(clip_norm=1e-3, learning_rate=1.0, momentum=0.0),
        record=replace(SMALL.record, every=1, state=("update", "bias_update")),
    )
    run = open_run(train(config, tmp_path / "run.zarr"))
    squares = 0.0
    for layer in run["state"].children.values():
        for signal in layer.data_vars.values():
            squares += float((signal[0].values.astype(float) ** 2).sum())
    assert squares**0.5 == pytest.approx(1e-3, rel=1e-3)


def test_a_learned_feedback_does_not_count_in_the_norm_that_is_clipped(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        optimizer=OptimizerConfig(clip_norm=1e-3, weight_decay=0.01),
        record=replace(SMALL.record, every=1, state=("update",)),
    )
    fa, kp = (
        open_run(train(replace(config, rule=rule), tmp_path / f"{rule}.zarr"))["state"]
        for rule in ("fa", "kp")
    )
    # B is the same before the first update.
    for layer in ("fc1", "fc2", "out"):
        np.testing.assert_array_equal(fa[f"{layer}/update"][0], kp[f"{layer}/update"][0])


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("sgd", {}),
        ("adamw", {}),
        ("muon", {"rest": RestConfig(name="adamw", learning_rate=0.1, weight_decay=0.1)}),
        ("muon", {"layers": "all"}),
        ("normalized_sgd", {"layers": "all"}),
        ("normalized_sgd", {"rest": RestConfig(name="sgd", learning_rate=0.1, weight_decay=0.1)}),
    ],
)
def test_a_learned_feedback_approaches_its_weight_under_each_optimizer(
    tmp_path: Path, name: str, rest: dict
) -> None:
    options = {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.1, "schedule": "constant"}
    if "rest" in rest:
        rest = {"rest": replace(rest["rest"], momentum=0.0)}
    config = replace(
        SMALL, rule="kp", data=DataConfig(), optimizer=OptimizerConfig(name=name, **options, **rest)
    )
    model, before = net(), convert(net(), "kp")
    train(config, tmp_path / "run.zarr", model=model, data=blobs())
    for layer in ("stem", "middle", "head"):
        one, other = before.get_submodule(layer), model.get_submodule(layer)
        start, end = (part.weight.detach() - part.feedback.detach() for part in (one, other))
        torch.testing.assert_close(end, start * (1 - 0.1 * 0.1) ** 3, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({}, "rule is 'kp', and with optimizer.weight_decay 0 the learned feedback never approaches"),
        ({"name": "adam", "weight_decay": 0.1}, "optimizer.name is 'adam', whose coupled decay does not"),
        ({"name": "muon"}, "with optimizer.weight_decay 0"),
        ({"name": "muon", "weight_decay": 0.1}, "optimizer.rest.name is 'adam', whose coupled decay"),
        (
            {"name": "muon", "weight_decay": 0.1, "rest": RestConfig(name="sgd")},
            "with optimizer.rest.weight_decay 0",
        ),
    ],
)
def test_a_learned_feedback_that_would_not_approach_its_weight_is_refused(
    tmp_path: Path, optimizer: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(replace(SMALL, rule="kp", optimizer=OptimizerConfig(**optimizer)), tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


def test_losses_and_smoothing() -> None:
    batch = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)

    def loss(kind: str, smoothing: float) -> float:
        config = Config(train=TrainConfig(loss=kind), data=DataConfig(smoothing=smoothing))
        return float(loss_of(config)(nn.Identity(), batch))

    x, targets = batch[0].double(), torch.eye(10)[batch[1]].double()
    for smoothing in (0.0, 0.2):
        soft = (1 - smoothing) * targets + smoothing / 10
        entropy = -(soft * x.log_softmax(1)).sum(1).mean()
        assert loss("cross_entropy", smoothing) == pytest.approx(float(entropy), rel=1e-5)
        assert loss("mse", smoothing) == pytest.approx(float((x - soft).square().mean()), rel=1e-5)


def test_augmentation_and_label_noise_hang_on_the_data_seed(tmp_path: Path) -> None:
    def weight(name: str, **changes) -> np.ndarray:
        config = replace(SMALL, data=replace(SMALL.data, **changes))
        return final_weight(train(config, tmp_path / f"{name}.zarr"), "fc1")

    plain, shifted, again = weight("plain"), weight("a", augment=True), weight("b", augment=True)
    noisy = weight("noise", label_noise=0.5)
    assert np.array_equal(shifted, again)
    assert not np.array_equal(plain, shifted)
    assert not np.array_equal(plain, noisy)


def test_wrong_labels_spread_over_the_batches_of_an_epoch() -> None:
    config = replace(SMALL, data=DataConfig(label_noise=0.4))
    cpu = torch.device("cpu")
    noisy, clean = (
        prepare_data(data, None, None, 0, cpu).train.pair[1] for data in (config.data, DataConfig())
    )
    assert int((noisy != clean).sum()) == round(0.4 * len(clean))
    state = TrainingState.begin(config, nn.Identity(), [], cpu, len(clean))
    state.draw_order()
    shares = (noisy != clean)[state.order].float().split(50)
    assert all(0.15 < float(share.mean()) < 0.65 for share in shares)  # 0.4 within 3.6 standard errors


def test_what_the_record_table_says_is_recorded(tmp_path: Path) -> None:
    record = RecordConfig(
        every=(0, 2),
        layers=("fc2", "out"),
        state=("weight",),
        live=LiveConfig(signals=("error",), every=1, rows=5),
        probe_samples=12,
        signals=("error", "error_bp"),
        redraws=3,
        gate_draws=2,
        null_every=(0, 2),
        jacobian_vectors=20,
        reduction="raw",
        rows=7,
    )
    run = open_run(train(replace(SMALL, record=record), tmp_path / "run.zarr"))
    assert run["probe"].step.values.tolist() == [0, 2, 3]
    assert set(run["probe"].children) == {"fc2", "out"}
    assert run["probe/fc2/error"].shape == (3, 7, 8)
    assert set(run["live/fc2"].data_vars) == {"error"}
    assert run["live/fc2/error"].shape == (3, 5, 8)
    assert set(run["state/fc2"].data_vars) == {"weight"}
    names = set(run["probe/fc2"].data_vars)
    assert {"error", "error_bp", "jacobian_cosine"} <= names
    assert "modulator" not in names
    drawn = [np.isfinite(run[f"probe/fc2/{name}"][:2]).all().item() for name in names if "null" in name]
    assert drawn
    assert all(drawn)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": TrainConfig(batch_size=1)},
            r"batch_size is 1 in 1 part\(s\), and batch norm finds no",
        ),
        (
            {"train": TrainConfig(batch_size=4, accumulate=4)},
            r"batch_size is 4 in 4 part\(s\), and",
        ),
        (
            {"record": replace(SMALL.record, probe_samples=1)},
            "record.probe_samples is 1, and batch norm",
        ),
    ],
)
def test_a_batch_of_one_has_no_batch_norm(tmp_path: Path, changes: dict, message: str) -> None:
    config = replace(SMALL, model=replace(SMALL.model, norm="batch"), **changes)
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


def test_a_rule_that_cannot_apply_is_one_clear_line(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 5))

        def forward(self, x):
            return x @ self.w.T

    class Pairs(nn.Bilinear):
        def forward(self, x):
            return super().forward(x, x)

    with pytest.raises(InputError, match=r"nothing to convert in Pairs: it has no layer of type"):
        train(replace(SMALL, data=DataConfig()), tmp_path / "run.zarr", model=Pairs(5, 5, 3), data=blobs())
    with pytest.raises(
        ConfigError, match="no layer with a weight matrix is called in the forward pass of Own"
    ):
        train(replace(SMALL, data=DataConfig()), tmp_path / "run.zarr", model=Own(), data=blobs())
    with pytest.raises(InputError, match="unknown rule 'faa'; did you mean 'fa'"):
        train(replace(SMALL, rule="faa"), tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


def test_schedules_and_subsets_may_be_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = []
    monkeypatch.setattr(
        recording, "Probe", lambda *args, **options: probes.append(options) or Probe(*args, **options)
    )
    record = RecordConfig(
        every=LogConfig(per_decade=3),
        live=LiveConfig(signals=("error",), every=LogConfig(per_decade=1), rows=SubsetConfig(n=5, seed=1)),
        state=("weight",),
        probe_samples=12,
        redraws=0,
        gate_draws=0,
        check_every=(2,),
        rows=SubsetConfig(n=6, seed=3),
    )
    config = replace(SMALL, record=record, train=replace(SMALL.train, epochs=2))
    with open_run(train(config, tmp_path / "run.zarr")) as run:
        assert run["probe"].step.values.tolist() == [0, 1, 2, 5, 6]
        assert run["live"].step.values.tolist() == [0, 1]
        whole = replace(config, record=replace(record, rows=None))
        with open_run(train(whole, tmp_path / "whole.zarr")) as other:
            rows = chosen_samples(Subset(6, seed=3), 12).numpy()
            assert np.array_equal(run["probe/fc2/error"], other["probe/fc2/error"][:, rows])
    assert probes[0]["check_every"] == (2,)


def test_a_run_of_bp_also_records_the_error_that_its_weights_have_under_feedback(tmp_path: Path) -> None:
    record = replace(SMALL.record, error_fa=True)
    stores = {
        rule: train(replace(SMALL, rule=rule, record=record), tmp_path / f"{rule}.zarr")
        for rule in ("bp", "fa")
    }
    with open_run(stores["bp"]) as bp, open_run(stores["fa"]) as fa:
        # The weights of step 0 and B are the same in both runs.
        assert np.array_equal(bp["probe/fc2/error_fa"][0], fa["probe/fc2/error"][0])
        assert np.array_equal(bp["probe/fc2/error"][0], fa["probe/fc2/error_bp"][0])
        assert np.array_equal(fa["probe/fc2/error_fa"], fa["probe/fc2/error"])
        assert not np.allclose(bp["probe/fc2/error_fa"][0], bp["probe/fc2/error"][0])
