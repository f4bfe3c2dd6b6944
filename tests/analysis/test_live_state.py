"""The state of a live run: from committed records only, with numbers that are known."""

import math

import numpy as np
import pytest

from fadiag.analysis import LiveState, live_state
from fadiag.errors import NotAStoreError
from fadiag.store import ArraySpec, RunWriter, open_run
from fadiag.training import Config, DataConfig, ModelConfig, RecordConfig, TrainConfig, train

CONFIG = {"config": {"train": {"epochs": 4}}, "meta": {"primary_layer": "fc2"}}
WIDTH = 6


def begin(path, manifest=CONFIG, **attrs):
    writer = RunWriter(path, manifest=manifest)
    writer.declare_stream("log", attrs={"kind": "log"})
    writer.declare_stream("probe", attrs={"kind": "probe"})
    for order, name in enumerate(("fc1", "fc2", "out")):
        spec = ArraySpec(("sample", "out"), (8, WIDTH), "float32", {"reduction": "raw"})
        writer.declare("probe", name, "error", spec, layer_attrs={"name": name, "order": order})
    return writer


def log(writer, step, *, loss, seconds_a_step=0.5, per_epoch=10):
    writer.append(
        "log",
        step,
        {},
        wall_time=1e9 + step * seconds_a_step,
        epoch=(step + 1) / per_epoch,
        extra={"loss": loss},
    )


def error_of_rank(rank):
    return np.eye(8, WIDTH, dtype=np.float32) * (np.arange(WIDTH) < rank)


def probe(writer, step, ranks):
    values = {
        (name, "error"): error_of_rank(rank) for name, rank in zip(("fc1", "fc2", "out"), ranks, strict=True)
    }
    writer.append("probe", step, values, wall_time=1e9 + step)


def test_a_live_run_and_its_end(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with begin(path) as writer:
        empty = live_state(path)
        assert (empty.status, empty.step, empty.loss, empty.rank, empty.seconds_left) == (
            "recording",
            None,
            None,
            None,
            None,
        )
        probe(writer, 0, (6, 4, 2))
        for step in range(6):
            log(writer, step, loss=6.0 - step)
        writer.flush()
        log(writer, 6, loss=0.0)  # not committed, so nobody sees it
        state = live_state(path)
        assert (state.step, state.steps, state.loss) == (5, 40, 1.0)
        assert state.steps_per_second == pytest.approx(2.0)
        assert state.seconds_left == pytest.approx((40 - 5) / 2)
        assert (state.layer, state.rank_step, state.dead) == ("fc2", 0, ())
        assert state.rank == pytest.approx(4)
        assert state.stored_bytes > 0
        probe(writer, 7, (0, 3, 0))
        writer.flush()
        later = live_state(path, state)
        assert (later.rank_step, later.dead) == (7, ("fc1", "out"))
        assert later.rank == pytest.approx(3)
    done = live_state(path, later)
    assert (done.status, done.seconds_left, done.rank) == ("complete", None, later.rank)


def test_an_earlier_rank_is_taken_for_the_same_record_only(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with begin(path) as writer:
        probe(writer, 0, (6, 4, 2))
        writer.flush()
        state = live_state(path)
        kept = live_state(path, LiveState(path, "recording", 0.0, 0, rank=99.0, measured=state.measured))
        assert kept.rank == 99.0
        other = live_state(
            path, LiveState(path, "recording", 0.0, 0, rank=99.0, measured="another/0/probe/0")
        )
        assert other.rank == pytest.approx(4)


def test_the_speed_is_that_of_the_last_minute(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with begin(path) as writer:
        for step in range(10):  # slow at first: 100 s a step
            log(writer, step, loss=1.0, seconds_a_step=100)
        for step in range(10, 30):
            writer.append("log", step, {}, wall_time=1e9 + 1000 + step * 0.25, extra={"loss": 1.0})
        writer.flush()
        assert live_state(path).steps_per_second == pytest.approx(4.0)


def test_the_steps_of_the_recorder_give_the_time_left(tmp_path) -> None:
    with begin(tmp_path / "run.zarr", manifest={"steps": 101}) as writer:
        for step in (0, 50):
            log(writer, step, loss=1.0)
        writer.flush()
        state = live_state(tmp_path / "run.zarr")
    assert (state.step, state.steps) == (50, 101)
    assert state.seconds_left == pytest.approx(51 * 0.5)


def test_what_is_unknown_is_none(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"config": [1], "meta": {}}) as writer:
        writer.declare_stream("log", attrs={"kind": "log"})
        writer.append("log", 3, {}, extra={"accuracy": 0.5})
        writer.flush()
        state = live_state(path)
    unknown = (
        state.steps,
        state.loss,
        state.steps_per_second,
        state.seconds_left,
        state.rank,
        state.rank_step,
    )
    assert (state.step, *unknown) == (3, *[None] * 6)
    assert (state.layer, state.dead, state.measured) == ("", (), "")


def test_without_a_primary_layer_it_is_the_last_hidden_one(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with begin(path, manifest={"meta": {"primary_layer": "gone"}}) as writer:
        probe(writer, 0, (1, 2, 3))
    assert live_state(path).layer == "fc2"


def test_an_error_that_is_not_finite_has_no_rank_and_is_not_dead(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    with begin(path) as writer:
        nan = np.full((8, WIDTH), np.nan, np.float32)
        writer.append("probe", 0, {(name, "error"): nan for name in ("fc1", "fc2", "out")})
    state = live_state(path)
    assert math.isnan(state.rank)
    assert state.dead == ()


def test_no_store(tmp_path) -> None:
    with pytest.raises(NotAStoreError, match="no such file or directory"):
        live_state(tmp_path / "run.zarr")


def test_the_trainers_run_and_the_rank_of_a_factor(tmp_path) -> None:
    """The trainer's manifest gives the number of steps, and a factor the rank of the values."""

    def trained(reduction):
        record = RecordConfig(
            every=5, probe_samples=20, redraws=0, gate_draws=0, reduction=reduction, state=[]
        )
        config = Config(
            rule="fa",
            data=DataConfig(train_samples=100, test_samples=40),
            model=ModelConfig(hidden=[8, 6]),
            train=TrainConfig(epochs=3, batch_size=20),
            record=record,
        )
        return train(config, tmp_path / f"{reduction}.zarr", device="cpu")

    raw = trained("raw")
    error = open_run(raw)["probe/fc2/error"].isel(step=-1).values.astype(np.float64)
    s = np.linalg.svd(error, compute_uv=False)
    q = s[s > 0] / s.sum()
    for path in (raw, trained("factor")):
        state = live_state(path)
        assert (state.status, state.step, state.steps, state.layer) == ("complete", 15, 15, "fc2")
        assert state.rank == pytest.approx(math.exp(-(q * np.log(q)).sum()), rel=1e-6)
