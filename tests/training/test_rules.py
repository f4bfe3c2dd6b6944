"""Every rule in the reference trainer: it learns and is recorded, with the feedback that was asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from fadiag.errors import ConfigError
from fadiag.rules import INTERVENTIONS, RULES, convert, targets
from fadiag.store import open_run, run_info
from fadiag.training import (
    Config,
    DataConfig,
    DivergedError,
    FeedbackConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    TrainConfig,
    load_checkpoint,
    make_config,
    train,
)
from fadiag.training.loss import loss_of
from fadiag.training.models import build_model

SMALL = Config(
    train=TrainConfig(epochs=6, batch_size=20),
    data=DataConfig(train_samples=400, test_samples=200),
    model=ModelConfig(hidden=(32, 32), gate="tanh"),
    optimizer=OptimizerConfig(learning_rate=0.02, weight_decay=1e-3),
    record=RecordConfig(every=60, probe_samples=12, redraws=2, gate_draws=2),
)
NAMES = [rule.name for rule in (*RULES, *INTERVENTIONS)]


def under(rule: str) -> Config:
    return replace(SMALL, rule=rule, error_rank=4 if rule == "rank_limited" else None)


@pytest.mark.parametrize("rule", NAMES)
def test_a_network_learns_under_every_rule_and_is_recorded(tmp_path: Path, rule: str) -> None:
    with open_run(train(under(rule), tmp_path / "run.zarr")) as run:
        accuracy = run["log/test_accuracy"].dropna("step").values
        assert accuracy[-1] > 0.5 > accuracy[0]
        errors = [run[f"probe/{layer}/error"].values for layer in ("fc1", "fc2", "out")]
        assert all(np.isfinite(error).all() and error.any() for error in errors)
        assert run["probe/fc1"].attrs["error_bp_check"] == "passed"


def test_a_twin_whose_loss_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    config = replace(
        under("borrowed_gates"), model=ModelConfig(hidden=(32, 32)), feedback=FeedbackConfig(scale=1e6)
    )
    with pytest.raises(DivergedError, match=r"the loss of the twin is (nan|inf) at step \d+"):
        train(config, tmp_path / "run.zarr")
    assert run_info(tmp_path / "run.zarr").status == "failed"


def test_the_feedback_has_the_law_and_the_scale_of_the_configuration(tmp_path: Path) -> None:
    tenth = replace(SMALL, model=replace(SMALL.model, weight_scale=0.1), train=TrainConfig(epochs=1))

    def feedback(config: Config, name: str) -> np.ndarray:
        with open_run(train(config, tmp_path / f"{name}.zarr")) as run:
            return run["static/fc2/feedback"].values

    own = feedback(replace(tenth, model=SMALL.model), "own")
    np.testing.assert_allclose(feedback(tenth, "follows"), own / 10, rtol=1e-6)
    np.testing.assert_allclose(
        feedback(replace(tenth, feedback=FeedbackConfig(scale=1.0)), "apart"), own, rtol=1e-6
    )
    rows = feedback(replace(tenth, feedback=FeedbackConfig(law="orthogonal")), "orthogonal")
    np.testing.assert_allclose(rows @ rows.T, np.eye(32) * (rows[0] @ rows[0]), atol=1e-6)


def test_targets_reach_drtp_in_full_also_in_parts_of_a_batch() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 5), torch.arange(12) % 3
    model = convert(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), "drtp", example=x)
    loss = loss_of(Config(rule="drtp"))

    def gradient(parts: int) -> torch.Tensor:
        model.zero_grad()
        for each in torch.arange(12).chunk(parts):
            loss(model, (x[each], y[each]), 1 / parts).backward()
        return model[0].weight.grad.clone()

    whole = gradient(1)
    torch.testing.assert_close(gradient(3), whole)
    model.zero_grad()
    with targets(model, y):
        nn.functional.cross_entropy(model(x), y).backward()
    assert torch.equal(model[0].weight.grad, whole)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rule": "rank_limited"}, "error_rank is missing, and rule is 'rank_limited'"),
        ({"rule": "fa", "error_rank": 3}, "error_rank is given, and rule is 'fa'"),
        ({"rule": "drtp", "train": {"amp": "fp16"}}, "does not reach; take 'bf16'"),
        ({"feedback": {"law": "cauchy"}}, "'feedback.law' is 'cauchy'; there are 'gaussian', "),
    ],
)
def test_a_rule_and_its_keys_go_together(table: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(table)


@pytest.mark.slow
@pytest.mark.parametrize("rule", NAMES)
def test_resnet18_trains_under_every_rule_and_is_recorded_with_factors(tmp_path: Path, rule: str) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(64) % 4
    # Each class has its own mean color, so a few steps are enough to learn something.
    x = torch.randn(64, 3, 32, 32, generator=generator) + torch.randn(4, 3, 1, 1, generator=generator)[y]
    config = replace(
        under(rule),
        model=ModelConfig(name="resnet18", width=8, norm="batch"),
        data=DataConfig(),
        train=TrainConfig(epochs=4, batch_size=17),
        record=RecordConfig(
            every=6, probe_samples=8, redraws=0, gate_draws=0, reduction="factor", unfolding="channels"
        ),
    )
    model = build_model(config.model, (3, 32, 32), 4, seed=0)
    store = train(config, tmp_path / "run.zarr", model=model, data=(x, y))
    with open_run(store) as run:
        losses = run["log/loss"].dropna("step").values
        assert losses[-3:].mean() < losses[:3].mean()
        assert len(run["probe"].children) == 21
        for layer in run["probe"].children.values():
            assert layer["error"].attrs["reduction"] == "factor"
            assert np.isfinite(layer["error"]).all()


def test_the_twin_is_a_run_of_feedback_alignment_and_goes_on_with_its_run(tmp_path: Path) -> None:
    config = replace(under("borrowed_gates"), train=replace(SMALL.train, epochs=2, checkpoint_every=15))
    whole = train(config, tmp_path / "whole.zarr")
    killed = tmp_path / "killed.zarr"

    def kill(step: int, *_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, killed, progress=kill)
    train(config, killed, resume=True)
    with open_run(whole) as one, open_run(killed) as other:
        assert np.array_equal(one["state/fc1/weight"], other["state/fc1/weight"])
        assert np.array_equal(one["probe/fc1/error"], other["probe/fc1/error"])
    # The twin's weights in the checkpoint are those of a run of FA.
    fa = train(replace(config, rule="fa"), tmp_path / "fa.zarr")
    held = [load_checkpoint(store, 30).contents["model"] for store in (whole, fa)]
    assert torch.equal(held[0]["1.fc1.weight"], held[1]["fc1.weight"])
    assert not torch.equal(held[0]["0.fc1.weight"], held[1]["fc1.weight"])


def test_borrowed_gates_are_the_twins(tmp_path: Path) -> None:
    """At step 0 the twin has the same weights, so the gates are the same, and later they are not."""
    config = replace(under("borrowed_gates"), model=replace(SMALL.model, gate="relu"))
    with open_run(train(config, tmp_path / "run.zarr")) as run:
        error, exact = (run[f"probe/fc1/{name}"].values for name in ("error", "error_bp"))
        np.testing.assert_array_equal(error[0], exact[0])
        assert np.abs(error[-1] - exact[-1]).max() > 0.1 * np.abs(exact[-1]).max()
