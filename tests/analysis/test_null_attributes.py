"""A null that has no value says why: no draws at this step, or the reason that the recorder stored."""

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag.analysis import analyze
from fadiag.analysis.null_attributes import why_without_draws
from fadiag.capture import Probe, Recorder
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12)
GATE = "error_stable_rank_raw_gate_null_p"
NOBODY = "gate_null of layer '4': no layer reads its output"


def recorded(path, *, units=5, **options):
    """Record two updates; the second layer has so many units."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, units), nn.ReLU(), nn.Linear(units, 3)]
    model = fadiag.convert(nn.Sequential(*layers), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = Probe((X, Y), loss_of, **options)
    meta = {"condition": "fa", "seed": units}
    with Recorder(model, path, optimizer=optimizer, probes={"probe": probe}, every=1, meta=meta) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    return path


def test_a_step_without_draws_says_so(tmp_path):
    path = recorded(tmp_path / "run.zarr", redraws=9, gate_draws=9, null_every=(0, 2))
    probe = analyze(path)["probe"]
    null = probe["error_cosine_null_p"]
    assert np.isfinite(null.sel(step=[0, 2])).all()
    assert np.isnan(null.sel(step=1)).all()
    assert "or no draws at this step (null_every)" in null.attrs["not_a_number"]
    assert "null_left_out" not in null.attrs
    assert "null_every" not in probe["error_cosine"].attrs.get("not_a_number", "")


def test_a_layer_without_draws_has_the_recorders_reason(tmp_path):
    path = recorded(tmp_path / "run.zarr", units=1, redraws=9, gate_draws=9, null_every=1)
    probe = analyze(path)["probe"]
    gate = probe[GATE]
    assert np.isfinite(gate.sel(layer="0")).all()
    single = "gate_null of layer '2': a single unit of it goes to its consumer '4', or to each group there"
    assert gate.attrs["null_left_out"] == f"{single}; {NOBODY}"
    told = gate.attrs["not_a_number"]
    assert "no draws for this run or layer; the attribute null_left_out says why" in told
    assert "null_every" not in told
    # The other null of the same metric has all of its draws.
    other = probe["error_stable_rank_raw_null_p"]
    assert np.isfinite(other).all()
    assert "null_left_out" not in other.attrs
    assert probe["error_stable_rank_raw"].attrs["null_left_out"] == f"{single}; {NOBODY}"


def test_a_run_without_draws_beside_one_with_them_is_named(tmp_path):
    paths = [
        recorded(tmp_path / "drawn.zarr", gate_draws=9, null_every=1),
        recorded(tmp_path / "none.zarr", units=4),
    ]
    gate = analyze(paths)["probe"][GATE]
    named = "no draws of gate_null were recorded (run fa-seed4)"
    assert gate.attrs["null_left_out"] == f"{NOBODY} (run fa-seed5); {named}"


def test_a_reason_that_all_runs_share_names_none(tmp_path):
    paths = [recorded(tmp_path / f"{n}.zarr", units=n, gate_draws=9, null_every=1) for n in (4, 5)]
    assert analyze(paths)["probe"][GATE].attrs["null_left_out"] == NOBODY


def test_draws_of_a_failed_check_are_left_out_with_the_reason(tmp_path, make_run):
    run = make_run(0, drop=("fc1/error_null_cosine",))
    run["probe/fc1"].attrs["error_bp_check"] = "failed"
    null = analyze(run)["probe/error_cosine_null_p"]
    told = "error_null of layer 'fc1': error_bp is not the derivative of the loss there"
    assert null.attrs["null_left_out"] == told


def test_a_store_without_a_reason_says_that(make_run):
    gone = tuple(f"fc2/gate_null_spectrum_{how}" for how in ("raw", "centered"))
    gate = analyze(make_run(0, drop=gone))["probe"][GATE]
    told = "gate_null of layer 'fc2': no draws were recorded, and the store does not say why"
    assert gate.attrs["null_left_out"] == told


@pytest.mark.parametrize(
    ("null", "left_out", "told"),
    [
        ([[1.0, 1.0], [1.0, 1.0]], False, []),
        ([[1.0, np.nan], [1.0, np.nan]], False, ["no draws at this step (null_every)"]),
        ([[1.0, np.nan], [1.0, 1.0]], False, ["each of its draws is zero, which has no direction"]),
        (
            [[1.0, np.nan], [np.nan, np.nan]],
            True,
            [
                "no draws at this step (null_every)",
                "no draws for this run or layer; the attribute null_left_out says why",
            ],
        ),
    ],
)
def test_causes_are_told_apart(null, left_out, told):
    values = np.ones((1, 2, 2))
    assert why_without_draws(values, np.array([null]), left_out=left_out) == told
    assert why_without_draws(np.full((1, 2, 2), np.nan), np.array([null]), left_out=left_out) == []
