"""What was not recorded, at a step or at all, is told apart from what is not a number."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fadiag
from fadiag.analysis import Metric
from fadiag.analysis.metrics.view import View
from fadiag.capture import Live, Recorder
from fadiag.errors import AnalysisWarning, InputError, MissingSignalError
from fadiag.store import ArraySpec, RunWriter, open_run

RANK = "error_participation_ratio_raw"


def with_values(
    run: xr.DataTree, path: str, signal: str, change: Callable[[xr.DataArray], xr.DataArray]
) -> None:
    dataset = run[path].to_dataset(inherit=False)
    run[path] = dataset.assign({signal: change(dataset[signal].copy(deep=True))})


def gap(array: xr.DataArray, *, count: int | None) -> xr.DataArray:
    """Return the signal without its record at the second step."""
    array[1] = np.nan
    return array.assign_attrs({} if count is None else {"nan_count": count})


def test_a_step_without_a_signal_is_absent(make_run: Callable[..., xr.DataTree]) -> None:
    run = make_run()
    with_values(run, "probe/fc1", "error", partial(gap, count=0))
    found = fadiag.analyze(run)["probe"].to_dataset()
    values = found["error_cosine"].sel(layer="fc1", run="fa-seed0").values
    assert np.isnan(values).tolist() == [False, True, False, False]
    assert "step without the signals" in found["error_cosine"].attrs["not_a_number"]
    whole = fadiag.analyze(make_run())["probe"].to_dataset()
    kept = found[RANK].sel(step=[0, 20, 30])
    xr.testing.assert_equal(kept, whole[RANK].sel(step=[0, 20, 30]))


@pytest.mark.parametrize(
    ("count", "told"), [(192, ""), (None, ", or was not recorded there (the store is not closed)")]
)
def test_a_signal_that_became_nan_is_left_out(
    make_run: Callable[..., xr.DataTree], count: int | None, told: str
) -> None:
    run = make_run()
    with_values(run, "probe/fc1", "error", partial(gap, count=count))
    words = f"error of layer 'fc1' at step 10 holds 192 NaN of 192 values{told}"
    with pytest.raises(InputError, match=re.escape(words)):
        fadiag.analyze(run, strict=True)
    with pytest.warns(AnalysisWarning, match=re.escape(words)):
        fadiag.analyze(run)


def test_a_stream_without_a_record(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    attrs = {"name": "fc", "order": 0, "out_features": 3, "feedback_kind": "exact"}
    matrix = ArraySpec(("out", "in"), (3, 4), "float32")
    with RunWriter(path, manifest={"meta": {}}) as writer:
        for stream, signals in (("probe", ("gradient", "gradient_bp")), ("state", ("weight", "update"))):
            writer.declare_stream(stream, attrs={"kind": stream}, planned=4)
            for signal in signals:
                writer.declare(stream, "fc", signal, matrix, layer_attrs=attrs)
        values = np.ones((3, 4), np.float32)
        writer.append("probe", 0, {("fc", "gradient"): values, ("fc", "gradient_bp"): values})
    results = fadiag.analyze(path)
    assert results["probe/gradient_cosine"].item() == pytest.approx(1.0)
    assert "update_progress" not in results["probe"]
    with pytest.raises(MissingSignalError, match="update_progress needs the signal 'state/update'; run"):
        fadiag.analyze(path, metrics=["update_progress"])


def test_too_few_records_for_a_window(make_run: Callable[..., xr.DataTree]) -> None:
    with pytest.raises(
        MissingSignalError, match=r"update_exploration_10 needs 10 records of .*; run .* has 4"
    ):
        fadiag.analyze(make_run(), metrics=["update_exploration_10"])


def _norm(view: View) -> np.ndarray:
    return np.linalg.norm(view.flat("static/weight_init").astype(np.float64), axis=-1)


def test_a_metric_of_what_does_not_change(make_run: Callable[..., xr.DataTree]) -> None:
    run = make_run()
    metric = Metric("norm", ("state",), ("static/weight_init",), _norm, "norm", "|W_0|", "definition")
    values = fadiag.analyze(run, metrics=[metric])["state/norm"].sel(layer="fc2").values
    expected = np.linalg.norm(run["static/fc2/weight_init"].values.astype(np.float64))
    np.testing.assert_allclose(values, np.full((1, 4), expected))


def _rows(view: View) -> np.ndarray:
    values = view.values("recent/error")
    assert np.isfinite(values).all()
    return np.full(len(view.steps), values.shape[2], np.float64)


def test_a_window_of_samples_has_no_padding(make_run: Callable[..., xr.DataTree]) -> None:
    run = make_run(steps=tuple(range(12)), rows_valid=14)
    for layer in ("fc1", "fc2", "out"):

        def padded(array: xr.DataArray) -> xr.DataArray:
            array[:, 14:] = np.nan
            return array

        with_values(run, f"probe/{layer}", "error", padded)
    metric = Metric("rows", ("probe",), ("recent/error",), _rows, "rows", "N", "definition")
    values = fadiag.analyze(run, metrics=[metric])["probe/rows"].sel(layer="fc1").values
    np.testing.assert_array_equal(values, [[np.nan] * 9 + [14.0] * 3])
    # Records of other samples, and not as many, make no window.
    probe = run["probe"].to_dataset(inherit=False)
    probe["rows_valid"][10] = 13
    run["probe"].dataset = probe
    values = fadiag.analyze(run, metrics=[metric])["probe/rows"].sel(layer="fc1").values
    np.testing.assert_array_equal(values, [[np.nan] * 9 + [14.0] + [np.nan] * 2])


class Dropping(nn.Module):
    """A net whose middle layer is left out in every second pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.first(x))
        if self.passes % 2 == 0:
            h = torch.relu(self.middle(h))
        self.passes += 1
        return self.last(h)


def train(path: Path, updates: int, *, if_exists: str = "error", poison: bool = False) -> None:
    torch.manual_seed(0)
    model = fadiag.convert(Dropping(), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(8, 6), torch.randint(3, (8,))
    # No state: the weights that the first session left are not kept here, and would be asked for.
    with Recorder(model, path, live=Live(every=1), state=(), if_exists=if_exists) as recorder:
        for _ in range(updates):
            if poison:
                x = x * torch.nan
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            recorder.step()


def test_a_layer_that_is_dropped_at_random(tmp_path: Path) -> None:
    train(tmp_path / "run.zarr", 5)
    ranks = fadiag.analyze(tmp_path / "run.zarr")[f"live/{RANK}"]
    assert ranks.sel(layer="middle").isnull().values.tolist() == [[False, True, False, True, False]]
    assert not ranks.sel(layer=["first", "last"]).isnull().any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_resumed_run_keeps_the_count_of_what_was_not_a_number(tmp_path: Path) -> None:
    train(tmp_path / "run.zarr", 1, poison=True)
    train(tmp_path / "run.zarr", 3, if_exists="resume")
    assert open_run(tmp_path / "run.zarr")["live/last/activation"].attrs["nan_count"] == 24
    with pytest.warns(AnalysisWarning, match=r"of layer '.*' at step 0 .*holds .* NaN of"):
        fadiag.analyze(tmp_path / "run.zarr")
