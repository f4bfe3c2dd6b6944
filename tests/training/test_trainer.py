"""The trainer: what it records, that it repeats itself, the conservation law, a loss that is not finite."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import xarray as xr
from msgspec.structs import replace
from torch import nn

from fadiag.errors import ConfigError
from fadiag.rules import RULES, convert
from fadiag.store import open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    DivergedError,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    SeedConfig,
    train,
)
from fadiag.training.model import build_model
from fadiag.training.optimizer import build_optimizers, build_schedules

SMALL = Config(
    epochs=2,
    batch_size=20,
    data=DataConfig(train_samples=100, test_samples=60),
    model=ModelConfig(hidden=(12, 10, 8)),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=4, probe_samples=30, redraws=0, gate_draws=0),
)
STEPS = 10  # two epochs of five batches


def numbers(store: Path) -> dict[str, np.ndarray]:
    """Every variable of a store but the clock's."""
    tree = open_run(store).load()
    return {
        f"{node.path}/{name}": array.values
        for node in tree.subtree
        for name, array in node.variables.items()
        if name != "wall_time"
    }


def assert_same(one: Path, other: Path) -> None:
    first, second = numbers(one), numbers(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)


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
        *(replace(SMALL, rule=rule.name) for rule in RULES if rule.trains),
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
        config = replace(SMALL, rule="brsf", epochs=1, seeds=SeedConfig(feedback=seed))
        run = open_run(train(config, tmp_path / f"{seed}.zarr", device="cpu"))
        return run["state/fc1/weight"][-1].values

    assert not np.array_equal(weight(0), weight(1))


@pytest.mark.parametrize(("held_out", "other"), [("test", "validation"), ("validation", "test")])
def test_the_log_names_what_the_accuracy_was_taken_on(tmp_path: Path, held_out: str, other: str) -> None:
    config = replace(SMALL, epochs=1, data=replace(SMALL.data, held_out=held_out))
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
            train(replace(SMALL, epochs=1, seeds=SeedConfig(**seeds)), tmp_path / f"{name}.zarr")
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
    config = replace(SMALL, optimizer=OptimizerConfig(learning_rate=1e6))
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
    run = open_run(train(replace(SMALL, freeze_hidden=True), tmp_path / "run.zarr", device="cpu")).load()
    assert run_info(tmp_path / "run.zarr").manifest["meta"]["condition"] == "frozen"
    for layer in ("fc1", "fc2", "fc3"):
        weight = run[f"state/{layer}/weight"]
        assert np.array_equal(weight[0], weight[-1])
        assert np.abs(run[f"probe/{layer}/error"]).max() > 0
    assert not np.array_equal(run["state/out/weight"][0], run["state/out/weight"][-1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(SMALL, batch_size=101), "batch_size is 101, but there are only 100 training images"),
        (
            replace(SMALL, record=replace(SMALL.record, probe_samples=61)),
            "record.probe_samples is 61, but there are only 60 test images",
        ),
        (
            replace(SMALL, model=ModelConfig(hidden=(8,)), optimizer=OptimizerConfig(name="muon")),
            "takes the weights between hidden layers, and none is trained; give at least two in model.hidden",
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


def test_the_model_is_the_seeds_and_leaves_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    one, other = (build_model(ModelConfig(norm="batch", init_scale=0.5), 64, 10, seed=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    # Kaiming: sqrt(2 / inputs), here halved; 128 x 128 entries, relative sd 0.6 %.
    assert one.fc2.weight.std().item() == pytest.approx(0.5 * (2 / 128) ** 0.5, rel=0.03)
    assert not one.fc2.bias.any()


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


def test_the_model_does_not_depend_on_the_default_device() -> None:
    config = ModelConfig(hidden=(8,), norm="batch")
    here = build_model(config, 4, 2, seed=0).state_dict()
    with torch.device("meta"):
        there = build_model(config, 4, 2, seed=0).state_dict()
    assert {name: tensor.device.type for name, tensor in there.items()} == dict.fromkeys(here, "cpu")
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


def test_muon_takes_the_weights_between_hidden_layers_and_adam_the_rest() -> None:
    config = Config(optimizer=OptimizerConfig(name="muon"), model=ModelConfig(norm="batch"))
    model = convert(build_model(config.model, 64, 10, seed=0))
    muon, adam = build_optimizers(config, model)
    assert isinstance(muon, torch.optim.Muon)
    ids = [id(p) for group in muon.param_groups for p in group["params"]]
    assert ids == [id(model.fc2.weight), id(model.fc3.weight)]
    rest = [id(p) for group in adam.param_groups for p in group["params"]]
    assert sorted(ids + rest) == sorted(id(p) for p in model.parameters())
    assert muon.param_groups[0]["weight_decay"] == 0


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [1, 1, 1, 1]), ("cosine", [1, 0.854, 0.5, 0.146])]
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    config = Config(optimizer=OptimizerConfig(learning_rate=2.0, schedule=schedule))
    optimizers = build_optimizers(config, build_model(config.model, 4, 2, seed=0))
    (after,) = build_schedules(config, optimizers, steps=4)
    seen = []
    for _ in range(4):
        seen.append(optimizers[0].param_groups[0]["lr"] / 2)
        optimizers[0].step()
        after.step()
    assert seen == pytest.approx(expected, abs=1e-3)


def test_batch_norm_stands_between_layer_and_relu() -> None:
    model = build_model(ModelConfig(hidden=(5, 4), norm="batch"), 6, 3, seed=0)
    assert [type(module) for module in model] == [
        nn.Flatten,
        *[nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2,
        nn.Linear,
    ]
