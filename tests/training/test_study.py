"""Studies: pairing, what a rerun keeps and what it refuses, and the demonstration's own declaration."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from fadiag.errors import ConfigError, InputError, LockedError
from fadiag.store import RunWriter, open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    DivergedError,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    Study,
    TrainConfig,
    demo_study,
    run_study,
    train,
)

SMALL = Config(
    train=TrainConfig(epochs=1, batch_size=20),
    data=DataConfig(train_samples=60, test_samples=40),
    model=ModelConfig(hidden=(8, 8)),
    optimizer=OptimizerConfig(learning_rate=0.02),
    record=RecordConfig(every=2, probe_samples=20, redraws=0, gate_draws=0),
)


#: Its loss is soon not finite: there are no gates that could all close.
WILD = replace(
    SMALL,
    train=TrainConfig(epochs=5, batch_size=20),
    model=ModelConfig(hidden=(8, 8), gate="linear"),
    optimizer=OptimizerConfig(learning_rate=1e6),
)


def study(**changes: object) -> Study:
    given = {
        "name": "small",
        "question": "?",
        "conditions": {"bp": replace(SMALL, rule="bp"), "fa": SMALL},
        "seeds": (0, 1),
        "primary_metric": "error_cosine",
        "primary_layer": "fc2",
    }
    return Study(**{**given, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_study(study(), folder, jobs=2)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_runs_are_there_paired_by_seed_and_say_what_they_are_for(finished: Path) -> None:
    names = sorted(path.name for path in finished.glob("*.zarr"))
    assert names == ["bp-seed0.zarr", "bp-seed1.zarr", "fa-seed0.zarr", "fa-seed1.zarr"]
    runs = {name: open_run(finished / name) for name in names}
    first = {name: run["static/fc2/weight_init"].values for name, run in runs.items()}
    assert np.array_equal(first["bp-seed0.zarr"], first["fa-seed0.zarr"])
    assert not np.array_equal(first["fa-seed0.zarr"], first["fa-seed1.zarr"])
    # The same first batch too: before any update, the forward pass does not know the rule.
    losses = {name: float(run["log/loss"].dropna("step")[0]) for name, run in runs.items()}
    assert losses["bp-seed0.zarr"] == losses["fa-seed0.zarr"]
    meta = run_info(finished / "fa-seed1.zarr").manifest["meta"]
    assert (meta["condition"], meta["seed"], meta["study"]) == ("fa", 1, "small")
    assert (meta["primary_metric"], meta["primary_layer"]) == ("error_cosine", "fc2")
    declared = msgspec.json.decode((finished / "study.json").read_bytes())
    assert declared["primary_metric"] == "error_cosine"
    assert declared["seeds"] == [0, 1]


def test_a_rerun_keeps_complete_runs_and_redoes_killed_ones(folder: Path) -> None:
    kept = {path: run_info(path).run_id for path in folder.glob("*.zarr")}
    broken = folder / "fa-seed0.zarr"
    root = broken / "zarr.json"
    root.write_text(root.read_text().replace('"complete"', '"failed"'))
    calls: list[tuple[int, int, str]] = []
    run_study(study(), folder, jobs=1, progress=lambda *call: calls.append(call))
    assert calls == [(3, 4, "already there"), (4, 4, "fa-seed0")]
    for path, run_id in kept.items():
        assert (run_info(path).run_id == run_id) is (path != broken)
    assert (folder / "fa-seed0.zarr.incomplete").is_dir()


def test_runs_of_a_study_are_the_trainers_own(folder: Path, tmp_path: Path) -> None:
    alone = open_run(train(study().runs()["fa-seed1"], tmp_path / "alone.zarr", device="cpu"))
    together = open_run(folder / "fa-seed1.zarr")
    np.testing.assert_allclose(
        alone["state/fc2/weight"].values, together["state/fc2/weight"].values, rtol=1e-5, atol=1e-6
    )


def test_another_configuration_or_question_in_the_same_folder_is_refused(folder: Path) -> None:
    changed = {"fa": replace(SMALL, optimizer=OptimizerConfig(learning_rate=0.03))}
    with pytest.raises(
        ConfigError,
        match=r"fa-seed0\.zarr is a run with optimizer\.learning_rate 0\.02, this study asks for 0\.03; take",
    ):
        run_study(study(conditions=changed), folder)
    with pytest.raises(ConfigError, match=r"declares primary_layer 'fc2', this study 'fc1': the question is"):
        run_study(study(primary_layer="fc1"), folder)
    (folder / "study.json").write_text("{")
    with pytest.raises(ConfigError, match=r"study\.json is damaged"):
        run_study(study(), folder)


def test_a_run_that_diverges_is_named_and_none_is_begun_after_it(tmp_path: Path) -> None:
    wild = {"wild": WILD, **study().conditions}
    with pytest.raises(DivergedError, match=r"learning_rate 1e\+06 \(condition wild\); take a smaller one"):
        run_study(study(conditions=wild), tmp_path, jobs=1)
    assert [path.name for path in tmp_path.glob("*.zarr")] == ["wild-seed0.zarr"]


def test_after_an_interrupt_no_run_is_begun(tmp_path: Path) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(), tmp_path, jobs=1, progress=interrupt)
    assert [path.name for path in tmp_path.glob("*.zarr")] == ["bp-seed0.zarr"]


def test_empty_and_doubled_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="study 'small' has no conditions"):
        study(conditions={})
    with pytest.raises(InputError, match="study 'small' has no seeds"):
        study(seeds=())
    with pytest.raises(InputError, match=r"names a seed twice: \(1, 1\)"):
        study(seeds=(1, 1))
    with pytest.raises(InputError, match="jobs is 0"):
        run_study(study(), tmp_path, jobs=0)


def test_the_demonstration_compares_six_conditions_with_a_declared_question() -> None:
    demo = demo_study()
    assert list(demo.conditions) == ["bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen"]
    assert len(demo.seeds) == 3
    assert demo.primary_layer is None  # the last hidden layer of a forward pass
    assert not set(demo.seeds) & {100, 101, 102}  # those tuned the learning rates
    for config in demo.conditions.values():
        assert config.record.redraws >= 99
    assert demo_study("cifar10", "/x").conditions["bp"].data.folder == "/x"
    with pytest.raises(ConfigError, match="no data set 'mnist' for the demonstration; there are digits"):
        demo_study("mnist")


def test_a_run_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "fa-seed0.zarr"
    with RunWriter(store, manifest={}) as writer:
        with pytest.raises(LockedError, match=r"fa-seed0.zarr is being written, by another study in this fo"):
            run_study(study(), tmp_path, jobs=1)
        writer.flush()
    assert [path.name for path in tmp_path.glob("*.zarr*")] == [store.name]
    assert run_info(store).status == "complete"
