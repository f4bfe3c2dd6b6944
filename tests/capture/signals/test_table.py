"""Test that the recorder records every row of the table of signals and no other signal."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.streams.live import LIVE_SIGNALS
from fadiag.capture.streams.probe import PROBE_SIGNALS
from fadiag.rules import convert
from fadiag.signals import NULLS, PARTS, SIGNALS, role_of, signals_of, under_feedback
from fadiag.store import ROW_COUNT_SIGNAL, open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Record two steps of a small network in all streams; return the names of the arrays of each stream."""
    torch.manual_seed(0)
    layers = [m for i, o in pairwise((6, 8, 7, 3)) for m in (nn.Linear(i, o), nn.ReLU())][:-1]
    # One layer has a fixed feedback, for the static stream; that of another changes, for the state stream.
    model = convert(convert(nn.Sequential(*layers), rule="fa", layers=["0"]), rule="usf", layers=["2"])
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    signals, feedbacks = (*PROBE_SIGNALS, "input"), {"mine": {"0": torch.ones(8, 6)}}
    probes = {
        "probe": Probe(
            (X, Y), loss_of, signals=signals, redraws=2, gate_draws=2, jacobian_vectors=3, feedbacks=feedbacks
        ),
        "factors": Probe((X, Y), loss_of, signals=signals, reduction="factor"),
    }
    path = tmp_path_factory.mktemp("table") / "run.zarr"
    with Recorder(
        model, path, optimizer=optimizer, probes=probes, every=1, live=Live(LIVE_SIGNALS, every=1)
    ) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    run = open_run(path)
    return {
        stream: {str(name) for layer in run[stream].children.values() for name in layer.data_vars}
        for stream in ("probe", "factors", "live", "state", "static")
    }


@pytest.mark.parametrize("stream", ["probe", "live", "state", "static"])
def test_every_row_of_the_table_is_recorded(recorded, stream):
    assert {signal.name for signal in signals_of(stream)} <= recorded[stream]


def test_every_part_and_null_of_the_table_is_recorded(recorded):
    assert {role_of(name).part for name in recorded["factors"]} - {""} == set(PARTS)
    for null in NULLS.values():
        assert set(null.arrays) <= recorded["probe"]


def test_a_label_of_other_feedback_is_recorded_for_each_signal_with_a_twin(recorded):
    labelled = {name for name in recorded["probe"] if role_of(name).feedback == "mine"}
    assert labelled == {under_feedback(signal.name, "mine") for signal in SIGNALS.values() if signal.twin}


def test_nothing_is_recorded_that_the_table_does_not_know(recorded):
    for stream, names in recorded.items():
        kind = "probe" if stream == "factors" else stream
        for name in names - {ROW_COUNT_SIGNAL}:
            assert role_of(name).signal in signals_of(kind), (stream, name)
