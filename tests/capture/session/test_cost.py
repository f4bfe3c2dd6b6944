"""Test the cost estimates before a recording (sizes, limits, dry run) and the measured time after it."""

import re

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from fadiag.capture import Live, Probe, Recorder, Storage
from fadiag.capture.signals import reduction
from fadiag.cli import main
from fadiag.errors import InputError
from fadiag.store import inspect_run, open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


def network(width=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def stored_bytes(path, stream):
    """The bytes of one record of a stream, from what is in the store."""
    found = next(x for x in inspect_run(path).streams if x.name == stream)
    return sum(signal.nbytes for layer in found.layers for signal in layer.signals) // found.records


def update(model, optimizer):
    optimizer.zero_grad()
    loss_of(model, (X, Y)).backward()
    optimizer.step()


@pytest.mark.parametrize("how", [{}, {"reduction": "factor"}, {"rows": 5}])
def test_a_dry_run_says_what_a_record_takes_and_writes_nothing(how, tmp_path, capsys):
    model = network()
    before = {name: p.clone() for name, p in model.named_parameters()}
    options = {"every": 2, "steps": 5, "probes": {"p": Probe((X, Y), loss_of, **how)}}
    dry = Recorder(model, tmp_path / "run.zarr", optimizer=sgd(model), dry_run=True, **options)
    said = capsys.readouterr().out
    update(model, sgd(model))
    dry.step(loss=1.0)
    dry.log(accuracy=0.5)
    dry.close()
    assert dry.current_step == 1
    assert not list(tmp_path.iterdir())
    assert not any(module._forward_hooks for module in model.modules())
    model.load_state_dict(before)
    optimizer = sgd(model)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, **options) as recorder:
        assert recorder.cost is None
        for _ in range(5):
            update(model, optimizer)
            recorder.step()
    for stream in ("p", "state"):
        cost = dry.cost.streams[stream]
        assert stored_bytes(tmp_path / "run.zarr", stream) == cost.nbytes
        assert cost.records == len(open_run(tmp_path / "run.zarr")[stream]["step"]) == 4
        assert cost.seconds > 0
        assert re.search(rf"^{stream}: \d+\.\d MB and \d\.\d\d\d s a record; 4 records, ", said, re.M)
    assert re.search(r"^memory: \d+\.\d MB at most while recording$", said, re.M)


def test_a_dry_run_reads_probes_that_are_not_due_at_first(tmp_path):
    options = {"probes": {"p": Probe((X, Y), loss_of, every=[3])}, "dry_run": True}
    cost = Recorder(network(), tmp_path / "run.zarr", **options).cost
    assert cost.streams["p"].nbytes > 0
    assert cost.streams["p"].records is None
    Recorder(network(), tmp_path / "run.zarr", **options)  # a dry run holds no lock


def test_a_record_beyond_the_default_buffer_is_recorded(tmp_path):
    """Case 11: 147 MB of state, all sizes known at the start."""
    wide = nn.Linear(1000, 3000), nn.ReLU(), nn.Linear(3000, 2300), nn.ReLU()
    model = nn.Sequential(*wide, nn.Linear(2300, 3))
    x, optimizer = torch.randn(8, 1000), sgd(model)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer) as recorder:
        loss_of(model, (x, Y[:8])).backward()
        optimizer.step()
        recorder.step()
    assert stored_bytes(tmp_path / "run.zarr", "state") > 128 * 2**20
    assert open_run(tmp_path / "run.zarr")["state/0/update"][0].notnull().all()


def test_a_record_beyond_the_users_buffer_is_refused_at_the_start(tmp_path):
    model, probe = network(200), {"p": Probe((X, Y), loss_of)}
    small = Storage(buffer_bytes=20_000)
    for options in ({"optimizer": sgd(model)}, {"probes": probe, "state": ()}):
        for dry_run in (False, True):
            with pytest.raises(
                InputError, match=r"a record of '\w+' has [\d,]+ bytes, more than the 20,000 of"
            ) as got:
                Recorder(model, tmp_path / "run.zarr", storage=small, dry_run=dry_run, **options)
    assert not list(tmp_path.iterdir())
    needed = int(re.search(r"buffer_bytes=(\d+)", str(got.value))[1])
    Recorder(model, tmp_path / "run.zarr", storage=Storage(buffer_bytes=needed), **options).close()
    for i, advice in enumerate(
        (
            {"probes": {"p": Probe((X, Y), loss_of, rows=1, signals=["error"])}, "state": ()},
            {"state": ["bias"], "probes": None},
            {"state": (), "probes": None},
            {"layers": ["2"], "probes": None},
        )
    ):
        Recorder(model, tmp_path / f"{i}.zarr", storage=small, **advice).close()


def test_a_model_beyond_all_buffers_is_refused_with_its_sizes(tmp_path):
    big = nn.utils.skip_init(nn.Linear, 15000, 15000, dtype=torch.float16)
    model = nn.Sequential(big, nn.Linear(1, 1))
    with pytest.raises(
        InputError, match=r"'state' has 3,600,\d+,\d+ bytes, more than the 2,147,483,648 of what"
    ):
        Recorder(model, tmp_path / "run.zarr", optimizer=sgd(model))
    with Recorder(model, tmp_path / "run.zarr", state=()):
        pass


@pytest.mark.parametrize("stream", ["p", "live"])
def test_auto_stores_factors_where_all_values_take_too_much(stream, tmp_path, monkeypatch):
    def record(path):
        model = network()
        options = {"probes": {"p": Probe((X, Y), loss_of)}} if stream == "p" else {"live": Live(every=1)}
        with Recorder(model, path, state=(), **options) as recorder:
            update(model, sgd(model))
            recorder.step()
        return open_run(path)[f"{stream}/0/error"].attrs["reduction"]

    assert record(tmp_path / "raw.zarr") == "raw"
    size = stored_bytes(tmp_path / "raw.zarr", stream)
    monkeypatch.setattr(reduction, "RAW_BYTES", size)
    assert record(tmp_path / "just.zarr") == "raw"
    monkeypatch.setattr(reduction, "RAW_BYTES", size - 1)
    assert record(tmp_path / "factor.zarr") == "factor"


def test_the_store_says_what_share_of_the_run_its_recording_took(tmp_path):
    model, path = network(), tmp_path / "run.zarr"
    options = {"probes": {"p": Probe((X, Y), loss_of)}, "every": 1}
    before = 0.0
    for _ in range(2):
        with Recorder(model, path, **options, if_exists="resume") as recorder:
            update(model, sgd(model))
            recorder.step(loss=1.0)
        spent, whole = (open_run(path)["log"].attrs[f"{what}_seconds"] for what in ("recording", "run"))
        assert before < spent < whole  # both sessions count
        before = spent
    said = CliRunner().invoke(main, ["inspect", str(path)]).output
    share = re.search(
        r"^recording +(\d+\.\d) % of the run's time \((\d+\.\d) s of (\d+\.\d) s\)$", said, re.M
    )
    assert float(share[1]) == pytest.approx(100 * spent / whole, abs=0.06)
