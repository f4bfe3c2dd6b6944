"""The conserved quantity of Feedback Alignment, in runs of the trainer with every step recorded."""

import numpy as np
import pytest

from fadiag.analysis import analyze
from fadiag.errors import MissingSignalError
from fadiag.store import open_run
from fadiag.training import Config, train
from fadiag.training.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    TrainConfig,
)

DRIFT = "weight_conservation_drift"
HIDDEN = {"fc1": "fc2", "fc2": "out"}


def run(path, *, momentum=0.0, rate=0.1, rule="fa", state=("weight", "bias"), gate="relu"):
    """Train a small net on digits, and record its weights and biases at every step."""
    config = Config(
        rule=rule,
        data=DataConfig(name="digits", train_samples=200, test_samples=50),
        model=ModelConfig(hidden=(24, 16), gate=gate),
        optimizer=OptimizerConfig(learning_rate=rate, momentum=momentum, schedule="constant"),
        train=TrainConfig(epochs=4, batch_size=20),
        record=RecordConfig(
            every=1, probe_samples=16, redraws=0, gate_draws=0, signals=("error",), state=state
        ),
    )
    return train(config, path)


def moved(store):
    """Return C_T - C_0 and the sum of squared steps of every unit, by layer, in float64."""
    tree = open_run(store).load()
    found = {}
    for layer, above in HIDDEN.items():
        w, b = (tree[f"state/{layer}/{name}"].values.astype(np.float64) for name in ("weight", "bias"))
        consumer = tree[f"state/{above}/weight"].values.astype(np.float64)
        feedback = tree[f"static/{above}/feedback"].values.astype(np.float64)
        conserved = (w**2).sum(-1) + b**2 - 2 * (feedback * consumer).sum(-2)
        steps = (np.diff(w, axis=0) ** 2).sum((0, -1)) + (np.diff(b, axis=0) ** 2).sum(0)
        found[layer] = conserved[-1] - conserved[0], steps
    return found


def test_plain_sgd_changes_it_by_the_squares_of_its_steps_only(tmp_path) -> None:
    for change, squares in moved(run(tmp_path / "run.zarr")).values():
        assert change.sum() == pytest.approx(squares.sum(), rel=1e-5)
        # A unit's squared norm is about one, and float32 rounds it.
        np.testing.assert_allclose(change, squares, rtol=1e-5, atol=1e-6)
        assert squares.mean() > 1e-3


@pytest.mark.parametrize("other", [{"momentum": 0.9}, {"gate": "tanh"}])
def test_momentum_and_another_gate_break_the_law(tmp_path, other) -> None:
    for change, squares in moved(run(tmp_path / "run.zarr", rate=0.05, **other)).values():
        assert np.abs(change - squares).mean() > 0.1 * squares.mean()


def test_the_drift_falls_with_the_rate_and_is_that_of_the_formula(tmp_path) -> None:
    store = {rate: run(tmp_path / f"{rate}.zarr", rate=rate) for rate in (0.1, 0.01)}
    found = {
        rate: analyze(path, metrics=[DRIFT])[f"state/{DRIFT}"].isel(run=0) for rate, path in store.items()
    }
    for layer in HIDDEN:
        large, small = (float(found[rate].sel(layer=layer)[-1]) for rate in (0.1, 0.01))
        assert 0 < small < 0.3 * large < 0.3
    assert found[0.1].sel(layer="out").isnull().all()
    assert found[0.1].isel(step=0).isnull().all()
    change, _ = moved(store[0.1])["fc2"]
    tree = open_run(store[0.1]).load()
    w, b = (tree[f"state/fc2/{name}"].values.astype(np.float64) for name in ("weight", "bias"))
    norms = ((w[-1] ** 2).sum(-1) + b[-1] ** 2) - ((w[0] ** 2).sum(-1) + b[0] ** 2)
    expected = np.abs(change).sum() / (np.abs(norms) + np.abs(norms - change)).sum()
    assert float(found[0.1].sel(layer="fc2")[-1]) == pytest.approx(expected, rel=1e-9)


def test_what_lacks_a_bias_or_a_fixed_feedback_has_no_value(tmp_path) -> None:
    without = analyze(run(tmp_path / "a.zarr", state=("weight",)), metrics=[DRIFT])[f"state/{DRIFT}"]
    assert without.isnull().all()
    assert "a layer whose bias was not recorded" in without.attrs["not_a_number"]
    with pytest.raises(MissingSignalError, match="needs the signal 'above/static/feedback'"):
        analyze(run(tmp_path / "b.zarr", rule="bp"), metrics=[DRIFT])
