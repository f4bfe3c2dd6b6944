"""Ctrl-C twice in quick succession, at random moments of a small demo."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fadiag.store import run_info, verify_run

pytestmark = pytest.mark.slow

#: Makes the study small in the process that is interrupted, after the command has begun.
SMALL = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
from fadiag.cli import main

def small(**options):
    import fadiag.studies
    load = fadiag.studies.load_study
    given = [
        "only=['bp', 'fa']", "seeds.reported=[0, 1]", "base.train.epochs=1", "base.model.hidden=[16, 16]",
        "base.record={ every = 20, probe_samples = 32, redraws = 5 }",
    ]
    fadiag.studies.load_study = lambda path, overrides, **others: load(path, overrides=given, **others)
    return whole(**options)

whole, main.commands["demo"].callback = main.commands["demo"].callback, small
main(["demo", "--out", sys.argv[1], "--workers", "2"])
"""


def started(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, folder],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_of(group):
    """Return the processes of a group that are still alive."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture(scope="module")
def duration(tmp_path_factory):
    """Return the seconds that the demo takes if nobody interrupts it."""
    begun = time.monotonic()
    demo = started(tmp_path_factory.mktemp("whole"))
    assert demo.communicate(timeout=300)[0].count("report ") == 1
    assert demo.returncode == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("trial", range(20))
def test_two_interrupts_in_a_row(trial, duration, tmp_path):
    chance = random.Random(trial)
    demo = started(tmp_path)
    time.sleep(chance.uniform(min(1.0, duration / 10), 0.8 * duration))
    pause = chance.choice([0.0, 0.0, 0.001, 0.1, 0.5])
    if demo.poll() is not None:
        pytest.skip("the machine is faster now: the demo had ended")
    try:
        for wait in (0.0, pause):
            time.sleep(wait)
            os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    except ProcessLookupError:  # the first was enough
        pass
    try:
        text, _ = demo.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(demo.pid, signal.SIGKILL)
        pytest.fail(f"the demo hangs; it said {demo.communicate()[0]!r}")
    if demo.returncode in (0, -signal.SIGINT) and "\nreport " in text:
        pytest.skip("the demo had ended when the interrupt came, while Python closed down")
    assert demo.returncode == 130, text
    assert text.splitlines()[-1] == "interrupted"
    deadline = time.monotonic() + 10
    while left := left_of(demo.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    for store in tmp_path.glob("pool/*/run.zarr"):
        status = run_info(store).status
        assert status in {"complete", "killed"}
        if status == "complete":
            assert verify_run(store).problems == ()
