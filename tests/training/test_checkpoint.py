"""Checkpoints: a killed run ends with the same bytes, a branch has every state, and what is refused."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from fadiag.errors import ConfigError, InputError, StoreError
from fadiag.store import open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    LiveConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    RestConfig,
    SeedConfig,
    TrainConfig,
    load_checkpoint,
    train,
)
from fadiag.training import trainer as trainer_module
from tests.training.stores import assert_same

SMALL = Config(
    train=TrainConfig(epochs=3, batch_size=20, checkpoint_every=4),
    data=DataConfig(train_samples=100, test_samples=40),
    model=ModelConfig(hidden=(12, 10)),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=3, probe_samples=20, redraws=3, gate_draws=2, live=LiveConfig(every=2)),
)
STEPS = 15

MUON = OptimizerConfig(
    name="muon",
    learning_rate=0.02,
    warmup_steps=3,
    clip_norm=0.5,
    rest=RestConfig(name="adamw", weight_decay=0.1),
)
CASES = {
    "sgd": SMALL,
    "muon": replace(
        SMALL,
        optimizer=MUON,
        model=ModelConfig(hidden=(12, 10), norm="batch"),
        train=replace(SMALL.train, accumulate=2),
        data=replace(SMALL.data, augment=True, label_noise=0.2),
    ),
    "conv": replace(
        SMALL,
        optimizer=replace(MUON, name="normalized_sgd", rest=RestConfig(name="sgd")),
        model=ModelConfig(name="vgg", width=2, norm="group", groups=2),
    ),
    "fp16": replace(SMALL, train=replace(SMALL.train, amp="fp16"), optimizer=OptimizerConfig(name="adam")),
    # These two draw or keep more than B.
    **{rule: replace(SMALL, rule=rule) for rule in ("brsf", "frsf")},
}


class KilledError(Exception):
    pass


def train_until(step: int, config: Config, store: Path, monkeypatch: pytest.MonkeyPatch, **given) -> None:
    """Train, and stop with an error in the update of a step."""

    def stop(optimizer_config, now, steps):
        if now == step:
            raise KilledError
        return factor(optimizer_config, now, steps)

    factor = trainer_module.rate_factor
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "rate_factor", stop)
        with pytest.raises(KilledError):
            train(config, store, device="cpu", **given)


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path, monkeypatch, name: str) -> None:
    config = CASES[name]
    whole = train(config, tmp_path / "whole.zarr", device="cpu")
    broken = tmp_path / "broken.zarr"
    for stop in sorted(random.Random(name).sample(range(STEPS), 2)):
        train_until(stop, config, broken, monkeypatch, resume=True)
    train(config, broken, device="cpu", resume=True)
    assert run_info(broken).status == "complete"
    assert_same(whole, broken)


def test_dropout_goes_on_with_the_numbers_that_were_next(tmp_path: Path, monkeypatch) -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(64, 12),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(12, 10),
        )

    whole = train(SMALL, tmp_path / "whole.zarr", model=model())
    train_until(10, SMALL, tmp_path / "broken.zarr", monkeypatch, model=model())
    # A model that was drawn anew gets weights and feedback from the checkpoint.
    torch.manual_seed(5)
    other = model()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    train(SMALL, tmp_path / "broken.zarr", model=other, resume=True)
    assert_same(whole, tmp_path / "broken.zarr")


@pytest.mark.slow
def test_a_killed_process_goes_on_in_its_own_store(tmp_path: Path) -> None:
    config = replace(CASES["muon"], train=replace(CASES["muon"].train, epochs=12))
    whole = train(config, tmp_path / "whole.zarr", device="cpu")
    killed = tmp_path / "killed.zarr"
    script = (
        "import sys, msgspec, torch, time\n"
        "from fadiag.training import Config, train\n"
        "torch.set_num_threads(int(sys.argv[3]))\n"
        "config = msgspec.json.decode(sys.argv[1], type=Config)\n"
        "train(config, sys.argv[2], device='cpu', resume=True)\n"
    )
    command = [sys.executable, "-c", script, msgspec.json.encode(config).decode(), str(killed)]
    command.append(str(torch.get_num_threads()))
    chance, kills = random.Random(time.time_ns()), 0
    for _ in range(3):
        process = subprocess.Popen(command)
        begun = time.monotonic()
        while not killed.exists() and process.poll() is None and time.monotonic() - begun < 120:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.1, 3))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    assert subprocess.run(command).returncode == 0
    assert run_info(killed).status == "complete"
    assert_same(whole, killed)


def test_a_run_without_a_checkpoint_begins_anew_and_a_complete_one_is_left_alone(
    tmp_path, monkeypatch
) -> None:
    config = replace(SMALL, train=replace(SMALL.train, checkpoint_every=None))
    store = tmp_path / "run.zarr"
    train_until(6, config, store, monkeypatch)
    assert not store.with_name("run.zarr.checkpoints").exists()
    first = run_info(store).run_id
    train(config, store, resume=True)
    second = run_info(store).run_id
    assert first != second
    train(config, store, resume=True)
    assert run_info(store).run_id == second
    with pytest.raises(StoreError, match="exists; take another path"):
        train(config, store)


def test_torch_loads_a_checkpoint_that_runs_no_code(tmp_path: Path) -> None:
    store = train(CASES["muon"], tmp_path / "run.zarr")
    files = sorted(path.name for path in (tmp_path / "run.zarr.checkpoints").iterdir())
    assert files == ["12.pt", "4.pt", "8.pt"]
    held = torch.load(tmp_path / "run.zarr.checkpoints" / "8.pt", weights_only=True)
    assert held["step"] == 8
    assert held["config"]["optimizer"]["name"] == "muon"
    run = open_run(store)
    at = load_checkpoint(store, 12)
    assert np.array_equal(at.contents["model"]["fc1.weight"], run["state/fc1/weight"].sel(step=12).values)


def test_a_branch_with_nothing_changed_is_its_run(tmp_path: Path) -> None:
    config = CASES["muon"]
    whole = train(config, tmp_path / "whole.zarr")
    branch = train(config, tmp_path / "branch.zarr", branch=load_checkpoint(whole, 8))
    run, branched = open_run(whole), open_run(branch)
    assert branched["probe"].step.values.tolist() == [9, 12, 15]
    for step in (9, 12, 15):
        for path in ("probe/fc1/error", "state/fc2/weight"):
            assert np.array_equal(run[path].sel(step=step), branched[path].sel(step=step))
    np.testing.assert_array_equal(run["log/loss"].sel(step=slice(8, None)), branched["log/loss"])
    manifest = run_info(branch).manifest
    assert manifest["meta"]["branched_from"] == "whole.zarr@8"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"optimizer": replace(SMALL.optimizer, learning_rate=0.5)}, False),
        ({"optimizer": replace(SMALL.optimizer, momentum=0.0)}, False),
        ({"rule": "bp"}, False),
        ({"rule": "usf"}, False),
        ({"seeds": SeedConfig(feedback=1)}, False),
        ({"seeds": SeedConfig(data=1)}, False),
        ({"train": replace(SMALL.train, epochs=5)}, False),
        ({"record": replace(SMALL.record, every=5)}, True),
    ],
)
def test_what_a_branch_changes_takes_effect(tmp_path: Path, changes: dict, same: bool) -> None:
    whole = train(SMALL, tmp_path / "whole.zarr")
    config = replace(SMALL, **changes)
    branch = open_run(train(config, tmp_path / "branch.zarr", branch=load_checkpoint(whole, 8)))
    run = open_run(whole)
    start = load_checkpoint(whole, 8).contents["model"]
    assert np.array_equal(branch["static/fc1/weight_init"].values, start["fc1.weight"])
    end = run["state/fc1/weight"].sel(step=STEPS).values
    assert np.array_equal(end, branch["state/fc1/weight"].sel(step=STEPS).values) is same
    if config.seeds.feedback or config.rule == "bp":
        return
    if config.rule == "fa":
        assert np.array_equal(branch["static/fc2/feedback"].values, run["static/fc2/feedback"].values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": SeedConfig(init=1)},
            "seeds.init is 1, and 0 in the checkpoint of step 8; a branch keeps it",
        ),
        ({"train": replace(SMALL.train, batch_size=10)}, "train.batch_size is 10, and 20 in the checkpoint"),
        (
            {"model": ModelConfig(hidden=(9,))},
            "model is .* a branch keeps it, so train a new run for another",
        ),
        (
            {"train": replace(SMALL.train, epochs=1)},
            "train.epochs is 1, which is 5 steps, and the checkpoint",
        ),
        (
            {"optimizer": OptimizerConfig(name="adam")},
            "the checkpoint is of SGD, and this run has Adam, which",
        ),
        (
            {"rule": "frozen"},
            "SGD has other parameters than in the checkpoint; keep optimizer.layers and",
        ),
        (
            {"rule": "kp"},
            "rule is 'kp', and 'fa' in the checkpoint of step 8; the optimizer's state includes the feedback",
        ),
    ],
)
def test_what_a_branch_cannot_change_is_named(
    tmp_path: Path, checkpoint, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(replace(SMALL, **changes), tmp_path / "branch.zarr", branch=checkpoint)
    assert not (tmp_path / "branch.zarr").exists()


def test_a_branch_keeps_its_feedback_where_that_is_learned(tmp_path: Path) -> None:
    config = replace(SMALL, rule="kp", optimizer=replace(SMALL.optimizer, weight_decay=0.01))
    at = load_checkpoint(train(config, tmp_path / "run.zarr"), 8)
    for changes, message in (
        ({"rule": "fa"}, "rule is 'fa', and 'kp' in the checkpoint of step 8; the optimizer's state"),
        ({"seeds": SeedConfig(feedback=1)}, "seeds.feedback is 1, and 0 in the checkpoint of step 8"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(replace(config, **changes), tmp_path / "refused.zarr", branch=at)
    branch = open_run(train(config, tmp_path / "branch.zarr", branch=at))
    end = open_run(tmp_path / "run.zarr")["state/fc1/weight"].sel(step=STEPS)
    assert np.array_equal(end, branch["state/fc1/weight"].sel(step=STEPS))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load_checkpoint(train(SMALL, tmp_path_factory.mktemp("branch") / "run.zarr"), 8)


def test_another_network_is_refused(tmp_path: Path, checkpoint) -> None:
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.Linear(3, 10))
    given = replace(checkpoint.config, model=replace(SMALL.model, name="given"))
    with pytest.raises(ConfigError, match=r"'1.bias' of shape \(3,\) is nowhere in the checkpoint"):
        train(
            SMALL, tmp_path / "branch.zarr", model=other, branch=dataclasses.replace(checkpoint, config=given)
        )


@pytest.mark.parametrize("as_data_set", [False, True])
def test_other_data_are_refused_by_a_resumed_run_and_a_branch(
    tmp_path: Path, monkeypatch, as_data_set: bool
) -> None:
    config = replace(SMALL, data=DataConfig())
    x, y = torch.randn(125, 64, generator=torch.Generator().manual_seed(0)), torch.arange(125) % 10

    def given(x, y):
        data = torch.utils.data.TensorDataset(x, y) if as_data_set else (x, y)
        torch.manual_seed(0)
        layers = torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10)
        return {"data": data, "model": torch.nn.Sequential(*layers)}

    whole = train(config, tmp_path / "whole.zarr", **given(x, y))
    store = tmp_path / "run.zarr"
    train_until(10, config, store, monkeypatch, **given(x, y))
    cases = [(given(x[:50], y[:50]), "data has 40 training samples, and 100 in the checkpoint of step 8;")]
    if not as_data_set:
        cases = [
            (
                given(x + 1, y),
                r"data has the SHA-256 \w{12}\.\.\., and \w{12}\.\.\. in the checkpoint of step 8;",
            ),
            (given(x[:50], y[:50]), "data has the SHA-256"),
        ]
    for other, message in cases:
        with pytest.raises(ConfigError, match=message):
            train(config, store, resume=True, **other)
        with pytest.raises(ConfigError, match=message):
            train(config, tmp_path / "branch.zarr", branch=load_checkpoint(store, 8), **other)
        assert not (tmp_path / "branch.zarr").exists()
    train(config, store, resume=True, **given(x, y))
    assert_same(whole, store)


def test_missing_and_damaged_checkpoints_are_named(tmp_path: Path, monkeypatch) -> None:
    store = tmp_path / "run.zarr"
    train_until(10, SMALL, store, monkeypatch)
    with pytest.raises(InputError, match=r"run\.zarr has no checkpoint of step 5; it has those of .* 4, 8$"):
        load_checkpoint(store, 5)
    newest = tmp_path / "run.zarr.checkpoints" / "8.pt"
    for content in (b"", b"not a checkpoint", newest.read_bytes()[:-200]):
        newest.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint .*8\.pt is damaged: .*; take an") as caught:
            load_checkpoint(store, 8)
        assert "\n" not in str(caught.value)
    with pytest.raises(
        ConfigError, match="is a run of another configuration; take another path, or a branch"
    ):
        train(replace(SMALL, rule="bp"), store, resume=True)
