"""One writer a store."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fadiag.errors import LockedError
from fadiag.store import RunWriter, run_info


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    writer = RunWriter(path, manifest={})
    before = time.monotonic()
    with pytest.raises(LockedError, match=r"run\.zarr is being written by another recorder"):
        RunWriter(path, manifest={}, resume=True)
    assert time.monotonic() - before < 0.5
    code = f"from fadiag.store import RunWriter; RunWriter({str(path)!r}, manifest={{}}, resume=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LockedError" in done.stderr
    writer.close()
    RunWriter(path, manifest={}, resume=True).close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    # A data loader's worker that outlives a killed trainer must not lock its store.
    code = f"""
import os, signal, time
from fadiag.store import RunWriter
writer = RunWriter({str(tmp_path / "run.zarr")!r}, manifest={{}})
if os.fork() == 0:
    os.close(1); os.close(2); time.sleep(20); os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.1)
    assert run_info(tmp_path / "run.zarr").status == "killed"
    RunWriter(tmp_path / "run.zarr", manifest={}, resume=True).close()
