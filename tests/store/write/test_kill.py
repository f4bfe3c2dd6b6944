"""SIGKILL at random moments, resume, set back: what was committed is there, bit for bit, and nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fadiag.store import inspect_run, open_run, run_info, verify_run

# From 40 bytes to some 5 MB a step (beyond the 4 MiB of a chunk), a dead layer among them.
WRITER = """
import os, sys, time
import numpy as np
from fadiag.store import ArraySpec, RunWriter
path, log, big = sys.argv[1], sys.argv[2], int(sys.argv[3])
shapes = {"tiny": (10,), "middle": (64, 50), "dead": (64, 50), "big": (big, 1000)}
writer = RunWriter(path, manifest={"meta": {}}, resume=True, commit_every=0.1)
writer.declare_stream("probe", attrs={"kind": "probe"})
writer.declare_stream("log", attrs={"kind": "log"})
for name, shape in shapes.items():
    dims = ("sample", "out")[-len(shape):]
    writer.declare("probe", name, "error", ArraySpec(dims, shape, "float32"))
descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
# A commit may fall between two streams' records of one step: each goes on behind its own last.
probed, logged = (-1 if writer.last_step(s) is None else writer.last_step(s) for s in ("probe", "log"))
step = min(probed, logged)
last = int(sys.argv[4])
while step < last:
    step += 1
    values = {}
    for index, (name, shape) in enumerate(shapes.items()):
        row = np.arange(shape[-1], dtype="float32") + step * 10 + index
        values[name, "error"] = np.zeros(shape, "float32") if name == "dead" else np.broadcast_to(row, shape)
    if step > probed:
        writer.append("probe", step, values)
    if step > logged:
        writer.append("log", step, {}, extra={"loss": step / 7})
    os.write(descriptor, f"{step} {time.monotonic()}\\n".encode())
    time.sleep(0.05)
writer.close()
"""


def expected(name: str, steps: int) -> np.ndarray:
    index = ["tiny", "middle", "dead", "big"].index(name)
    width = {"tiny": 10, "middle": 50, "dead": 50, "big": 1000}[name]
    rows = np.arange(width, dtype=np.float32) + (np.arange(steps)[:, None] * 10 + index).astype(np.float32)
    return rows * (name != "dead")


def check(tree: xr.DataTree) -> int:
    """Hold every committed record against what was recorded; return their number."""
    count = tree["probe"].sizes["step"]
    np.testing.assert_array_equal(tree["probe/step"], np.arange(count))
    np.testing.assert_array_equal(tree["log/step"], np.arange(tree["log"].sizes["step"]))
    for name in ("tiny", "middle", "dead", "big"):
        error = tree["probe"][name]["error"]
        wanted = expected(name, count)
        if name == "tiny":
            np.testing.assert_array_equal(error, wanted)
            continue
        # The last row of the youngest records; all of them are compared as bytes in the end.
        np.testing.assert_array_equal(error[-10:, -1], wanted[-10:])
        if count:
            np.testing.assert_array_equal(error[-1], np.broadcast_to(wanted[-1], error.shape[1:]))
    return count


def start(path: Path, log: Path, big: int, last: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(log), str(big), str(last)])


def kill_again_and_again(folder: Path, kills: int, big: int, seed: int = 0) -> None:
    path, log = folder / "run.zarr", folder / "log"
    rng = random.Random(seed)
    done = 0
    for _ in range(kills):
        process = start(path, log, big, 10**9)
        try:
            lines = log.read_bytes().count(b"\n") if log.exists() else 0
            while not log.exists() or log.read_bytes().count(b"\n") <= lines:  # it records
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            for opener in (open_run, lambda p: xr.open_datatree(p, engine="zarr")):
                if any(run_info(path).committed.values()):
                    assert check(opener(path)) >= done
            assert run_info(path).status == "recording"
            time.sleep(rng.uniform(0, 0.3))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            process.wait()
        assert run_info(path).status == "killed"
        # Only this process's: what an earlier one lost at its kill was young then.
        written = [line.split() for line in log.read_text().splitlines()[lines:]]
        old = [int(step) for step, at in written if float(at) < killed - 2]
        if any(run_info(path).committed.values()):
            done = check(open_run(path))
            assert check(xr.open_datatree(path, engine="zarr")) == done
        assert verify_run(path).problems == ()
        assert done > max(old, default=-1)
    assert done > 0
    last = done + 5
    process = start(path, log, big, last)
    assert process.wait() == 0
    whole = folder / "uninterrupted.zarr"
    assert start(whole, folder / "log2", big, last).wait() == 0
    assert check(open_run(path)) == last + 1
    for name in ("tiny", "middle", "dead", "big"):
        for chunk in sorted((whole / "probe" / name / "error").glob("c.*")):
            assert (path / "probe" / name / "error" / chunk.name).read_bytes() == chunk.read_bytes(), chunk
    assert inspect_run(path).streams[0].gaps == ()
    assert len(open_run(path).attrs["resumes"]) >= kills - 1


def test_ten_kills(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=10, big=1100)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_kills(seed: int, tmp_path: Path) -> None:
    # In four runs: each kill is checked by reading the whole run, which grows.
    kill_again_and_again(tmp_path, kills=25, big=2000, seed=seed)
