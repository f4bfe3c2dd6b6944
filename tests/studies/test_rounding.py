"""Muon's steps from the same gradients in several precisions: their rank, and what rounding adds to them."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from fadiag.errors import ConfigError
from fadiag.spectra import effective_rank_energy
from fadiag.store import open_run
from fadiag.studies.rounding.measure import rows_of_gradient, rows_of_store
from fadiag.studies.rounding.runs import recording_gradients
from fadiag.studies.rounding.steps import Space, placebo_of, steps_of
from fadiag.training import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig, train
from fadiag.training.optimizers.muon import polar_factor

ROOT = Path(__file__).parents[2]


def gradient(rank, seed=0):
    """Return a float32 matrix of 128 rows and 64 columns, in float64."""
    rng = np.random.default_rng(seed)
    product = rng.standard_normal((128, rank)) @ rng.standard_normal((rank, 64))
    return product.astype(np.float32).astype(np.float64)


def rows(matrix, exact=None, draws=20):
    exact = gradient(64, seed=9) if exact is None else exact
    found = rows_of_gradient(matrix, exact, np.random.default_rng(1), draws=draws)
    return {row["method"]: row for row in found}


def test_bf16_makes_rank_of_a_rank_one_gradient() -> None:
    """A rank-1 gradient of 128 x 64: 1.0 in float32, about 17.8 in bf16."""
    found = [rows(gradient(1, seed)) for seed in range(4)]
    for method in ("float32", "float64", "polar"):
        for one in found:
            assert one[method]["effective_rank_energy"] == pytest.approx(1, abs=1e-4), method
    assert 14 < np.mean([one["bf16"]["effective_rank_energy"] for one in found]) < 21
    for one in found:
        assert one["bf16"]["gradient_numerical_rank"] == 1
        assert one["bf16"]["outside_share"] > 0.5
        assert one["bf16"]["rounding_share"] == pytest.approx(one["bf16"]["outside_share"], rel=1e-3)
        assert one["float32"]["outside_share"] < 1e-6
        bf16, placebo = (one[name]["effective_rank_energy"] for name in ("bf16", "placebo"))
        assert placebo == pytest.approx(bf16, rel=0.05)
        assert one["placebo"]["placebo_scale"] > 0


def test_a_full_gradient_leaves_nothing_to_add() -> None:
    found = rows(gradient(64))
    for method in ("bf16", "float32", "float64"):
        assert found[method]["effective_rank_energy"] == pytest.approx(60, abs=1)
    assert found["polar"]["effective_rank_energy"] == pytest.approx(64)
    assert found["bf16"]["rounding_share"] < 1e-3
    assert found["placebo"]["placebo_scale"] == 0
    # Its random directions are compared with backpropagation's all the same.
    assert found["placebo"]["rounding_cosine_bp_low"] < 0 < found["placebo"]["rounding_cosine_bp_high"]


def test_the_exact_step_is_muons_own_polar_factor() -> None:
    for rank in (1, 10, 64):
        matrix = gradient(rank)
        expected = polar_factor(torch.from_numpy(matrix)[None])[0].numpy()
        np.testing.assert_allclose(Space.of(matrix).polar, expected, atol=1e-7)


def test_the_placebo_has_the_effective_rank_that_it_is_given() -> None:
    space, rng = Space.of(gradient(5)), np.random.default_rng(0)
    placebo = placebo_of(space, 20.0, rng)
    drawn = [effective_rank_energy(placebo.step(placebo.directions(rng))) for _ in range(5)]
    np.testing.assert_allclose(drawn, 20, rtol=0.05)
    np.testing.assert_allclose(np.linalg.svd(placebo.directions(rng), compute_uv=False), 1, atol=1e-12)


def test_what_is_outside_is_all_but_the_projection_on_both_spaces() -> None:
    space = Space.of(np.diag([2.0, 1.0, 0.0])[:, :3])
    matrix = np.arange(1.0, 10).reshape(3, 3)
    expected = matrix.copy()
    expected[:2, :2] = 0
    np.testing.assert_allclose(space.outside(matrix), expected, atol=1e-12)


def test_a_part_that_points_to_backpropagations_gradient_is_seen() -> None:
    """The gradient has one direction, and backpropagation's is where bf16 rounded."""
    matrix = gradient(1)
    steps = steps_of(matrix, Space.of(matrix))
    exact = steps["bf16"] - steps["float64"]
    found = rows(matrix, exact)
    assert found["bf16"]["rounding_cosine_bp"] == pytest.approx(1, abs=1e-9)
    assert abs(found["placebo"]["rounding_cosine_bp"]) < 0.05
    assert found["placebo"]["rounding_cosine_bp_high"] < 0.1


MUON = Config(
    rule="fa",
    data=DataConfig(name="digits", train_samples=300),
    model=ModelConfig(hidden=(32, 24)),
    optimizer=OptimizerConfig(name="muon", learning_rate=0.03, momentum=0.95, schedule="constant"),
    train=TrainConfig(epochs=2, batch_size=50),
)


def test_the_step_of_the_momentum_is_the_one_that_the_trainer_made(tmp_path) -> None:
    config = recording_gradients(MUON)
    record = replace(config.record, state=("gradient", "momentum", "update"))
    store = train(replace(config, record=record), tmp_path / "run.zarr")
    found = [row for row in rows_of_store(store, draws=2) if row["method"] == "bf16"]
    assert {row["layer"] for row in found} == {"fc1", "fc2"}
    assert [row["step"] for row in found if (row["layer"], row["source"]) == ("fc1", "gradient")] == [
        0,
        2,
        6,
        12,
    ]
    assert [row["step"] for row in found if (row["layer"], row["source"]) == ("fc1", "momentum")] == [0, 2, 6]
    state = open_run(store)["state/fc2"].to_dataset().load()
    for step in (0, 2, 6):
        at = {name: state[name].sel(step=step).values.astype(np.float64) for name in state.data_vars}
        matrix = 0.05 * at["gradient"] + 0.95 * at["momentum"]
        expected = -0.03 * steps_of(matrix.astype(np.float32), Space.of(matrix))["bf16"]
        size = np.linalg.norm(at["update"])
        assert np.linalg.norm(at["update"] - expected) < 0.02 * size
    for row in found:
        assert row["gradient_cosine_bp"] < 0.9  # backpropagation's gradient is another one
        assert row["gradient_numerical_rank"] <= min(row["rows"], row["columns"])


def test_other_optimizers_and_a_run_of_unknown_length_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name is 'sgd'; its steps are not orthogonalized"):
        recording_gradients(Config(rule="fa"))
    with pytest.raises(ConfigError, match=r"data\.train_samples is not given; it has to be"):
        recording_gradients(Config(rule="fa", optimizer=OptimizerConfig(name="muon")))


@pytest.mark.slow
def test_the_script_writes_table_and_figure(tmp_path) -> None:
    words = ["analyses/muon_rounding.py", "--profile", "ci", "--draws", "3", "-o", str(tmp_path / "out")]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    with (tmp_path / "out" / "steps.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["method"] for row in table} == {"bf16", "float32", "float64", "polar", "placebo"}
    assert {row["seed"] for row in table} == {"0", "1"}
    with (tmp_path / "out" / "means.csv").open(encoding="utf-8", newline="") as file:
        means = {(row["source"], row["method"]): row for row in csv.DictReader(file)}
    ranks = [
        float(row["effective_rank"])
        for row in table
        if (row["source"], row["method"]) == ("momentum", "polar")
    ]
    assert float(means["momentum", "polar"]["effective_rank"]) == pytest.approx(np.mean(ranks))
    assert not means["momentum", "polar"]["rounding_share"]
    with (tmp_path / "out" / "rounding.csv").open(encoding="utf-8", newline="") as file:
        drawn = list(csv.DictReader(file))
    shown = next(
        row for row in drawn if (row["kind"], row["condition"], row["layer"]) == ("mean", "bf16", "fc2")
    )
    own = [
        float(row["effective_rank_energy"])
        for row in table
        if (row["method"], row["layer"], row["source"], row["step"]) == ("bf16", "fc2", "gradient", "0")
    ]
    assert float(shown["value"]) == pytest.approx(np.mean(own))
    assert (tmp_path / "out" / "rounding.pdf").stat().st_size > 5000
    assert "\\caption{" in (tmp_path / "out" / "rounding.tex").read_text(encoding="utf-8")
