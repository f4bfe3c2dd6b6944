"""Test that a recorder that nobody closes saves its records and releases the path, threads and model."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import FadiagError, InputError, LockedError, NotAStoreError, StoreError
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

X, Y = labelled(8)


def begun(path, *, updates=3, model=None, every=1, **options):
    """A recorder in the middle of its run, with all streams."""
    model = nn.Linear(6, 3) if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"optimizer": optimizer, "probes": {"p": Probe((X, Y), loss_of)}, **options}
    recorder = Recorder(model, path, every=every, live=Live(every=every), **options)
    for _ in range(updates):
        optimizer.zero_grad()
        loss_of(model, (X, Y)).backward()
        optimizer.step()
        recorder.step(loss=1.0)
    return recorder


def records(path):
    return {
        name: node["step"].values.tolist()
        for name, node in open_run(path).children.items()
        if name != "static"
    }


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


KEPT = {"p": [0, 1, 2, 3], "state": [0, 1, 2], "live": [0, 1, 2], "log": [0, 1, 2]}


def test_a_script_that_ends_without_close_keeps_its_records(tmp_path):
    script = (
        "import sys\nfrom tests.capture.session.test_unclosed import begun\n"
        "recorder = begun(sys.argv[1])\nrecorder.log(accuracy=0.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "run.zarr"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert run_info(tmp_path / "run.zarr").status == "unfinished"
    assert records(tmp_path / "run.zarr") == {**KEPT, "log": [0, 1, 2, 3]}
    assert open_run(tmp_path / "run.zarr")["log/accuracy"].values[-1] == 0.5


def test_a_deleted_recorder_frees_its_path_its_thread_and_its_hooks(tmp_path):
    model = nn.Linear(6, 3)
    before = threading.active_count(), descriptors()
    recorder = begun(tmp_path / "run.zarr", model=model)
    gone = weakref.ref(recorder)
    gc.disable()
    try:
        del recorder
        assert gone() is None  # no cycle holds it
    finally:
        gc.enable()
    assert (threading.active_count(), descriptors()) == before
    assert not model._forward_hooks
    assert run_info(tmp_path / "run.zarr").status == "unfinished"
    assert records(tmp_path / "run.zarr") == KEPT
    with begun(tmp_path / "run.zarr", updates=0, model=model, if_exists="resume") as recorder:
        assert recorder.current_step == 3
    assert run_info(tmp_path / "run.zarr").status == "complete"


def test_a_recorder_in_a_cycle_is_closed_by_the_collector(tmp_path):
    recorder = begun(tmp_path / "run.zarr")
    recorder.callback = [recorder]
    del recorder
    gc.collect()
    assert run_info(tmp_path / "run.zarr").status == "unfinished"


def test_the_collector_may_run_on_the_writers_own_thread(tmp_path):
    recorder = begun(tmp_path / "run.zarr")
    recorder.callback = [recorder]
    queue = recorder._session._writer
    del recorder
    collected = threading.Thread(target=gc.collect, name="fadiag-writer")
    collected.start()
    collected.join()
    for thread in threading.enumerate():
        if thread.name == "fadiag-close":
            thread.join()
    assert run_info(tmp_path / "run.zarr").status == "unfinished"
    queue.close()


def test_a_forked_copy_of_a_recorder_writes_nothing(tmp_path):
    recorder = begun(tmp_path / "run.zarr")
    child = os.fork()
    if child == 0:
        recorder._at_end()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert run_info(tmp_path / "run.zarr").status == "recording"
    recorder.close()
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.parametrize("end", ["close", "fail"])
def test_a_closed_recorder_keeps_its_status(end, tmp_path):
    recorder = begun(tmp_path / "run.zarr")
    recorder.__exit__(*((None,) * 3 if end == "close" else (ValueError, ValueError(), None)))
    del recorder
    gc.collect()
    assert run_info(tmp_path / "run.zarr").status == {"close": "complete", "fail": "failed"}[end]


def test_replace_deletes_a_store_of_any_status(tmp_path):
    path = tmp_path / "run.zarr"
    for updates in (3, 2, 1):
        recorder = begun(path, updates=updates, if_exists="replace")
        assert records_after_flush(recorder, path)["p"] == list(range(updates + 1))
        if updates == 3:
            recorder.close()
        del recorder  # or it is unfinished
    with begun(path, updates=0, if_exists="replace"):
        pass
    assert records(path)["p"] == [0]


def records_after_flush(recorder, path):
    recorder._session._writer.flush()
    return records(path)


def test_what_is_not_deleted(tmp_path):
    recorder = begun(tmp_path / "live.zarr")
    with pytest.raises(LockedError, match=r"live.zarr is being written by another recorder and is not repl"):
        begun(tmp_path / "live.zarr", if_exists="replace")
    recorder.close()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").touch()
    (tmp_path / "file").touch()
    for path in ("photos", "file"):
        with pytest.raises(NotAStoreError, match=path):
            begun(tmp_path / path, if_exists="replace")
    assert (tmp_path / "photos" / "me.png").exists()
    with pytest.raises(
        FadiagError, match="shapes cannot be multiplied"
    ):  # refused before anything is deleted
        begun(tmp_path / "live.zarr", probes={"p": Probe((X[:, :4], Y), loss_of)}, if_exists="replace")
    assert records(tmp_path / "live.zarr")["p"] == KEPT["p"]


def test_the_choices_are_told(tmp_path):
    begun(tmp_path / "run.zarr").close()
    with pytest.raises(StoreError, match=r"run.zarr exists; take another path, or give if_exists='resume'"):
        begun(tmp_path / "run.zarr")
    with pytest.raises(InputError, match=r"if_exists is 'append'; it is 'error', 'resume' or 'replace'"):
        begun(tmp_path / "run.zarr", if_exists="append")
    with pytest.raises(InputError, match=r"if_exists='replace' deletes the records that resume_from needs"):
        begun(tmp_path / "run.zarr", if_exists="replace", resume_from=2)
