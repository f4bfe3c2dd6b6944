"""Test that bad input raises an error that names it and the remedy, or is recorded unchanged."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder, exact_layers
from fadiag.errors import CaptureError, CaptureWarning, FadiagError, InputError, StoreError
from fadiag.rules import convert
from fadiag.store import inspect_run, open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


def small():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_signals_that_are_not_finite_are_recorded_as_they_are_counted_and_named(bad, tmp_path):
    model = small()
    probe = Probe((X, Y), loss_of, redraws=2, gate_draws=2)
    options = {"probes": {"probe": probe}, "live": Live(every=1), "optimizer": sgd(model), "every": 1}
    with Recorder(model, tmp_path / "run.zarr", **options) as recorder:
        with torch.no_grad():
            model[0].weight[3, 2] = bad
        loss_of(model, (X, Y)).backward()
        options["optimizer"].step()
        recorder.step(loss=bad)
    run = open_run(tmp_path / "run.zarr")
    assert run["log/loss"].values[0] == bad or np.isnan(bad)
    counted = {}
    for stream in inspect_run(tmp_path / "run.zarr").streams:
        for layer in stream.layers:
            for signal in layer.signals:
                path = f"{stream.name}/{layer.name}/{signal.name}"
                counted[path] = signal.nan_count
                if stream.name in {"probe", "live"} and "null" not in signal.name:
                    found = np.count_nonzero(~np.isfinite(run[path].values))
                    assert signal.nan_count == found, path
    for path in ("probe/0/gradient", "live/0/error", "live/2/activation") if np.isnan(bad) else ():
        assert counted[path] > 0, path
    assert counted["state/0/weight"] >= 1
    assert not np.isfinite(run["state/0/weight"].values[-1, 3, 2])


def test_counts_are_in_the_store_at_each_commit_and_after_an_exception(tmp_path):
    def counts():
        streams = inspect_run(tmp_path / "run.zarr").streams
        return {
            f"{stream.name}/{layer.name}/{signal.name}": signal.nan_count
            for stream in streams
            for layer in stream.layers
            if stream.name != "static"
            for signal in layer.signals
        }

    model = small()
    recorder = Recorder(model, tmp_path / "run.zarr", every=1)
    recorder.step()
    recorder._session._writer.flush()
    assert set(counts().values()) == {0}  # as a run that is killed now would leave it
    with torch.no_grad():
        model[0].weight[3, 2] = torch.nan
    recorder.step()
    recorder.step()
    recorder._session._writer.flush()
    assert counts()["state/0/weight"] == 1
    recorder.step()
    with pytest.raises(ZeroDivisionError), recorder:
        raise ZeroDivisionError
    assert counts()["state/0/weight"] == 2
    with Recorder(model, tmp_path / "run.zarr", every=1, if_exists="resume") as recorder:
        recorder.step()
    assert counts()["state/0/weight"] == np.isnan(open_run(tmp_path / "run.zarr")["state/0/weight"]).sum()
    assert counts()["state/0/bias"] == 0


@pytest.mark.filterwarnings("ignore:probe 'probe'. batch.0. was replaced")
def test_after_an_error_the_recorder_stops_and_no_step_is_shifted(tmp_path):
    model = small()
    batch = [X, Y]
    options = {"optimizer": sgd(model), "every": 1, "probes": {"probe": Probe(batch, loss_of)}}
    errors = []
    with Recorder(model, tmp_path / "run.zarr", **options) as recorder:
        for step in range(4):
            batch[0] = X[:, :4] if step == 1 else X  # it fits again, but a step is lost
            loss_of(model, (X, Y)).backward()
            options["optimizer"].step()
            try:
                recorder.step(loss=1.0)
            except CaptureError as error:
                errors.append(str(error))
    assert len(errors) == 3
    assert "probe 'probe': loss(model, batch) raised RuntimeError" in errors[0]
    for error in errors[1:]:
        assert error.startswith(
            "the recorder stopped at step 2: CaptureError: probe 'probe': loss(model, batch) raised"
        )
        assert error.endswith("recorded before is in the store, and the training may go on without it")
    with pytest.raises(CaptureError, match="the recorder stopped at step 2"):
        recorder.log(loss=1.0)
    run = open_run(tmp_path / "run.zarr")
    assert run.attrs["status"] == "failed"
    assert list(run["state"]["step"].values) == list(run["probe"]["step"].values) == [0, 1]
    weight, update = (run[f"state/0/{signal}"].values for signal in ("weight", "update"))
    np.testing.assert_allclose(weight[0] + update[0], weight[1], atol=1e-7)
    assert not options["optimizer"]._optimizer_step_pre_hooks


def test_what_fails_first_is_what_is_told(tmp_path):
    class Gone:
        def attrs(self, place):
            return {}

        def set_attrs(self, place, attrs):
            raise StoreError("the disk is gone")

        def close(self, status):
            self.closed = status  # a writer reports its failure once

    model = small()
    recorder = Recorder(model, tmp_path / "run.zarr", every=1)
    gone = Gone()
    writer, recorder._session._writer = recorder._session._writer, gone
    model[0] = nn.Linear(6, 8)
    with (
        pytest.warns(RuntimeWarning, match="the disk is gone"),
        pytest.raises(CaptureError, match="layer '0' was replaced"),
    ):
        recorder.step()
    assert gone.closed == "failed"
    writer.close()


def test_a_weight_of_another_shape_or_type_in_mid_run_is_told(tmp_path):
    def wider(model):
        model[0].weight = nn.Parameter(torch.randn(9, 6))

    for i, (change, match) in enumerate(
        [
            (wider, r"weight of layer '0' was torch.float32 (8, 6) and is now torch.float32 (9, 6)"),
            (
                lambda model: model.double(),
                "weight of layer '0' was torch.float32 (8, 6) and is now torch.float64",
            ),
        ]
    ):
        for optimizer_of in (sgd, lambda model: None):
            model = small()
            path = tmp_path / f"{i}-{optimizer_of.__name__}.zarr"
            recorder = Recorder(model, path, optimizer=optimizer_of(model), every=1)
            change(model)
            with pytest.raises(CaptureError, match=re.escape(match)) as caught:
                recorder.step()
            assert "separate store" in str(caught.value)
            recorder._abandon()


def test_a_batch_that_stops_to_fit_in_mid_run_is_told_by_name(tmp_path):
    batch = [X, Y]
    recorder = Recorder(small(), tmp_path / "run.zarr", probes={"probe": Probe(batch, loss_of)}, every=1)
    batch[0] = X[:, :4]
    with (
        pytest.warns(CaptureWarning, match=r"probe 'probe': batch\[0\] was replaced since the last"),
        pytest.raises(CaptureError, match=r"probe 'probe': loss\(model, batch\) .*shapes cannot be"),
    ):
        recorder.step()
    recorder._abandon()


@pytest.mark.parametrize(
    ("probe", "match"),
    [
        (Probe((X[:0], Y[:0]), loss_of), r"the batch is empty; give Probe a batch with at least one"),
        (Probe({"x": X}, lambda m, b: m(b["y"]).sum()), r"raised KeyError: 'y'; give Probe a batch"),
        (Probe((X, Y), lambda m, b: loss_of(m, b).repeat(2)), r"not a scalar but has shape \(2,\)"),
    ],
)
def test_a_probe_that_cannot_be_read_is_told(probe, match, tmp_path):
    with pytest.raises(CaptureError, match=match):
        Recorder(small(), tmp_path / "run.zarr", probes={"probe": probe})
    assert not (tmp_path / "run.zarr").exists()


def test_an_optimizer_of_another_model_is_told(tmp_path):
    with pytest.raises(
        InputError, match=r"optimizer has none of the recorded weights \('0', ...\).*this model's"
    ):
        Recorder(small(), tmp_path / "run.zarr", optimizer=sgd(small()))
    frozen = small().requires_grad_(False)
    Recorder(frozen, tmp_path / "run.zarr", optimizer=sgd(nn.Linear(1, 1))).close()


def test_layers_without_a_weight_to_read_are_told(tmp_path):
    def refused(model, match, **options):
        with pytest.raises(FadiagError, match=match):
            Recorder(model, tmp_path / "run.zarr", **options)
        assert not (tmp_path / "run.zarr").exists()

    with torch.device("meta"):
        nowhere = nn.Linear(3, 3)
    refused(nowhere, r"layer '' is on the meta device.*to_empty\(\)")
    declared = {"layers": [""], "adapters": [exact_layers(nn.Sequential)]}
    refused(small(), r"Sequential has no tensor named weight; give its adapter a weight=", **declared)


def test_a_live_schedule_without_a_step_of_the_run_is_told_at_the_end(tmp_path):
    recorder = Recorder(small(), tmp_path / "run.zarr", live=Live(every=[50]))
    recorder.step(loss=1.0)
    recorder.step(loss=2.0)
    with pytest.raises(CaptureError, match=r"live recorded nothing: .*steps 0 to 1; give Live\(every=...\)"):
        recorder.close()
    run = open_run(tmp_path / "run.zarr")
    assert list(run["log/loss"].values) == [1.0, 2.0]
    assert run.attrs["status"] == "complete"
    recorder.close()


def test_a_step_that_goes_back_is_refused_by_the_store(tmp_path):
    with Recorder(small(), tmp_path / "run.zarr", every=1) as recorder:
        recorder.step()
        recorder.step()
    with pytest.raises(InputError, match=r"step -2: give a whole number, 0 or more"):
        Recorder(small(), tmp_path / "run.zarr", every=1, resume_from=-2)
    # To go back on purpose is to resume there: what lay beyond is cut away.
    with Recorder(small(), tmp_path / "run.zarr", every=1, resume_from=1) as recorder:
        assert recorder.current_step == 1
    assert list(open_run(tmp_path / "run.zarr")["state"]["step"].values) == [0, 1]


def test_a_loss_with_its_graph_is_a_number(tmp_path):
    model = small()
    with Recorder(model, tmp_path / "run.zarr", every=1) as recorder:
        loss = loss_of(model, (X, Y))
        recorder.step(loss=loss)
        with pytest.raises(InputError, match=r"scalar 'losses' is a Tensor; give a number"):
            recorder.log(losses=torch.ones(2))
    assert open_run(tmp_path / "run.zarr")["log/loss"].values[0] == loss.item()


def test_the_step_at_which_a_resumed_run_was_closed_lacks_its_update_and_that_is_told(tmp_path):
    model = small()
    options = {"optimizer": sgd(model), "every": 2}

    def train(**resume):
        with Recorder(model, tmp_path / "run.zarr", **options, **resume) as recorder:
            for _ in range(2):
                loss_of(model, (X, Y)).backward()
                options["optimizer"].step()
                recorder.step()
        state = open_run(tmp_path / "run.zarr")["state"]
        return list(state["step"].values), np.isfinite(state["0/update"].values).all(axis=(1, 2)).tolist()

    train()
    with pytest.warns(
        CaptureWarning, match=r"state of step 2 has no gradient .*; give resume_from=2 to record"
    ):
        steps, whole = train(if_exists="resume")
    assert (steps, whole) == ([0, 2, 4], [True, False, False])
    steps, whole = train(resume_from=4)
    assert (steps, whole) == ([0, 2, 4, 6], [True, False, True, False])
