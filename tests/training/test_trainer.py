"""The trainer: what it records, that it repeats itself, the conservation law, a loss that is not finite."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import xarray as xr
from msgspec.structs import replace

from fadiag.errors import ConfigError
from fadiag.rules import RULES
from fadiag.store import open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    DivergedError,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    SeedConfig,
    TrainConfig,
    train,
)
from tests.training.stores import assert_same

SMALL = Config(
    train=TrainConfig(epochs=2, batch_size=20),
    data=DataConfig(train_samples=100, test_samples=60),
    model=ModelConfig(hidden=(12, 10, 8)),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=4, probe_samples=30, redraws=0, gate_draws=0),
)
#: Rule kp needs decay.
DECAYED = replace(SMALL.optimizer, weight_decay=0.01)
ONE = TrainConfig(epochs=1, batch_size=20)
STEPS = 10  # two epochs of five batches


def test_records_probe_state_log_and_who_it_was(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    store = train(
        SMALL,
        tmp_path / "run.zarr",
        device="cpu",
        progress=lambda done, steps, _: calls.append((done, steps)),
    )
    assert calls == [(5, STEPS), (10, STEPS)]
    run = open_run(store)
    assert run["probe"].step.values.tolist() == [0, 4, 8, 10]
    assert run["probe/fc2/error"].shape == (4, 30, 10)
    assert run["probe"].attrs["mode"] == "train"
    assert run["state/fc2/weight"].sizes["step"] >= 3
    assert set(run["static"].children) >= {"fc1", "fc2", "fc3", "out"}
    loss = run["log/loss"].dropna("step")
    assert loss.size == STEPS
    # Accuracy belongs to the weights after so many updates: before training and after each epoch.
    assert run["log/test_accuracy"].dropna("step").step.values.tolist() == [0, 5, 10]
    meta = run_info(store).manifest["meta"]
    assert (meta["condition"], meta["rule"], meta["seed"], meta["optimizer"]) == ("fa", "fa", 0, "sgd")
    assert (meta["norm"], meta["dataset"], meta["primary_layer"]) == ("none", "digits", "fc3")
    assert meta["learning_rate"] == 0.02
    assert msgspec.convert(run_info(store).manifest["config"], Config) == SMALL


@pytest.mark.parametrize(
    "config",
    [
        *(replace(SMALL, rule=rule.name, optimizer=DECAYED) for rule in RULES if rule.trains),
        replace(
            SMALL, model=replace(SMALL.model, norm="batch"), optimizer=replace(SMALL.optimizer, name="muon")
        ),
    ],
    ids=[*(rule.name for rule in RULES if rule.trains), "muon-batch-norm"],
)
def test_the_same_configuration_gives_the_same_numbers_bit_for_bit(tmp_path: Path, config: Config) -> None:
    one = train(config, tmp_path / "one.zarr", device="cpu")
    torch.manual_seed(123)  # nothing hangs on torch's own generator
    before = torch.get_rng_state()
    other = train(config, tmp_path / "other.zarr", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(one, other)


def test_the_feedback_seed_decides_what_is_drawn_at_each_pass(tmp_path: Path) -> None:
    def weight(seed: int) -> np.ndarray:
        config = replace(SMALL, rule="brsf", train=ONE, seeds=SeedConfig(feedback=seed))
        run = open_run(train(config, tmp_path / f"{seed}.zarr", device="cpu"))
        return run["state/fc1/weight"][-1].values

    assert not np.array_equal(weight(0), weight(1))


@pytest.mark.parametrize(("held_out", "other"), [("test", "validation"), ("validation", "test")])
def test_the_log_names_what_the_accuracy_was_taken_on(tmp_path: Path, held_out: str, other: str) -> None:
    config = replace(SMALL, train=ONE, data=replace(SMALL.data, held_out=held_out))
    config = replace(config, record=replace(config.record, probe_samples=20))
    store = train(config, tmp_path / "run.zarr", device="cpu")
    logged = open_run(store)["log"].data_vars
    assert f"{held_out}_accuracy" in logged
    assert f"{other}_accuracy" not in logged
    assert run_info(store).manifest["meta"]["held_out"] == held_out


def test_each_seed_changes_its_own_source_of_chance(tmp_path: Path) -> None:
    def first_records(**seeds: int) -> xr.DataTree:
        name = "-".join(f"{key}{value}" for key, value in seeds.items()) or "base"
        return open_run(
            train(replace(SMALL, train=ONE, seeds=SeedConfig(**seeds)), tmp_path / f"{name}.zarr")
        ).load()

    base, init, data, feedback = (
        first_records(),
        *(first_records(**{k: 1}) for k in ("init", "data", "feedback")),
    )

    def weights(run: xr.DataTree) -> np.ndarray:
        return run["static/fc2/weight_init"].values

    def matrices(run: xr.DataTree) -> np.ndarray:
        matrix = run["static/fc2/feedback"].values
        return matrix / np.sqrt(np.mean(matrix**2))  # its scale is the weight's, which the first seed decides

    assert not np.array_equal(weights(base), weights(init))
    np.testing.assert_allclose(matrices(base), matrices(init), rtol=1e-5)
    for other in (data, feedback):
        assert np.array_equal(weights(base), weights(other))
    assert np.array_equal(matrices(base), matrices(data))
    assert not np.array_equal(matrices(base), matrices(feedback))
    # The first loss is taken before any update: only the batch decides it.
    losses = [float(run["log/loss"].dropna("step")[0]) for run in (base, data, feedback)]
    assert losses[0] != losses[1]
    assert losses[0] == losses[2]


def test_feedback_alignment_conserves_what_it_must(tmp_path: Path) -> None:
    """Closed form 1, on the recorded store, for plain SGD without norm, momentum and decay.

    For each hidden unit k, |W_l[k]|^2 + b_l[k]^2 - 2 B_{l+1}[:, k] . W_{l+1}[:, k] at step T is its value at
    step 0 plus the sum of the unit's squared updates.
    """
    config = replace(
        SMALL,
        optimizer=OptimizerConfig(learning_rate=0.05, momentum=0.0),
        record=replace(SMALL.record, every=1),
    )
    run = open_run(train(config, tmp_path / "run.zarr", device="cpu")).load()
    for layer, above in (("fc1", "fc2"), ("fc2", "fc3"), ("fc3", "out")):
        weight, bias, next_weight = (
            run[f"state/{layer}/weight"].values.astype(float),
            run[f"state/{layer}/bias"].values.astype(float),
            run[f"state/{above}/weight"].values.astype(float),
        )
        matrix = run[f"static/{above}/feedback"].values.astype(float)
        assert len(weight) == STEPS + 1
        held = (weight**2).sum(2) + bias**2 - 2 * (matrix * next_weight).sum(1)
        moved = (np.diff(weight, axis=0) ** 2).sum((0, 2)) + (np.diff(bias, axis=0) ** 2).sum(0)
        np.testing.assert_allclose(held[-1] - held[0], moved, rtol=0, atol=2e-5)
        # It would not hold for backpropagation's invariant, nor without the updates' part.
        assert np.abs(held[-1] - held[0]).max() > 1e-3
        np.testing.assert_allclose(
            np.diff(weight, axis=0), run[f"state/{layer}/update"].values[:STEPS], atol=1e-6
        )


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    # Without gates, which may all close and leave a loss that is large and finite.
    config = replace(
        SMALL,
        model=ModelConfig(hidden=(12, 10), gate="linear"),
        optimizer=OptimizerConfig(learning_rate=1e6),
    )
    store = tmp_path / "run.zarr"
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) at step \d+ with optimizer.learning_rate 1e\+06"
    ):
        train(config, store, device="cpu")
    assert run_info(store).status == "failed"
    run = open_run(store)
    assert run["probe"].step.values[0] == 0
    assert np.isfinite(run["probe/fc2/error"][0].values).all()
    assert run["log/loss"].size >= 1


def test_frozen_hidden_layers_do_not_move_but_their_errors_are_recorded(tmp_path: Path) -> None:
    run = open_run(train(replace(SMALL, rule="frozen"), tmp_path / "run.zarr", device="cpu")).load()
    assert run_info(tmp_path / "run.zarr").manifest["meta"]["condition"] == "frozen"
    for layer in ("fc1", "fc2", "fc3"):
        weight = run[f"state/{layer}/weight"]
        assert np.array_equal(weight[0], weight[-1])
        assert np.abs(run[f"probe/{layer}/error"]).max() > 0
    assert not np.array_equal(run["state/out/weight"][0], run["state/out/weight"][-1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            replace(SMALL, train=TrainConfig(batch_size=101)),
            "train.batch_size is 101, but there are only 100 training samples",
        ),
        (
            replace(SMALL, record=replace(SMALL.record, probe_samples=61)),
            "record.probe_samples is 61, but there are only 60 test samples",
        ),
        (
            replace(
                SMALL,
                model=ModelConfig(hidden=(8,)),
                optimizer=OptimizerConfig(name="muon", layers="hidden"),
            ),
            "optimizer.name is 'muon' with layers 'hidden', which takes none of the layers fc1, out",
        ),
    ],
)
def test_a_configuration_that_the_data_do_not_allow_writes_nothing(
    tmp_path: Path, config: Config, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "run.zarr", device="cpu")
    assert not (tmp_path / "run.zarr").exists()


def test_unknown_and_missing_devices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown device 'gpu'; it is 'auto', 'cpu' or 'cuda'"):
        train(SMALL, tmp_path / "run.zarr", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device is 'cuda', but torch sees no CUDA device"):
            train(SMALL, tmp_path / "run.zarr", device="cuda")


def test_trains_on_any_device(device: torch.device, tmp_path: Path) -> None:
    run = open_run(train(SMALL, tmp_path / "run.zarr", device=device.type))
    assert np.isfinite(run["probe/fc2/error"].values).all()


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_a_run_does_not_depend_on_the_default_device(tmp_path: Path, name: str) -> None:
    config = replace(
        SMALL,
        rule="fa",
        optimizer=OptimizerConfig(name=name),
        model=ModelConfig(hidden=(8, 8, 8), norm="batch"),
        record=replace(SMALL.record, redraws=2, gate_draws=2),
    )
    here = train(config, tmp_path / "here.zarr", device="cpu")
    with torch.device("meta"):
        there = train(config, tmp_path / "there.zarr", device="cpu")
    assert_same(here, there)
