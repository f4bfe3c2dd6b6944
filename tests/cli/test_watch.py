"""``fadiag watch``: one state, a line a change, and the end of the run."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.store import RunWriter
from tests.analysis.test_live_state import begin, log, probe


def watch(*words):
    return CliRunner().invoke(main, ["watch", *map(str, words)])


def test_once_prints_one_state(tmp_path) -> None:
    with begin(tmp_path / "run.zarr") as writer:
        probe(writer, 0, (0, 4, 2))
        for step in range(6):
            log(writer, step, loss=2.5)
        writer.flush()
        done = watch(tmp_path / "run.zarr", "--once")
    assert (done.exit_code, done.stderr) == (0, "")
    (line,) = done.output.splitlines()
    assert line.startswith("status recording, committed ")
    assert (
        ", step 5 of 40, loss 2.5, speed 2 steps/s, left 18 s, rank 4.0 at fc2 (step 0), dead fc1, disk "
        in line
    )


def test_an_empty_run_has_no_numbers(tmp_path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}):
        done = watch(tmp_path / "run.zarr", "--once")
    assert (done.exit_code, done.output) == (0, "status recording, nothing committed yet\n")


def test_a_rank_that_is_not_finite_is_said(tmp_path) -> None:
    with begin(tmp_path / "run.zarr") as writer:
        nan = np.full((8, 6), np.nan, np.float32)
        writer.append("probe", 0, {(name, "error"): nan for name in ("fc1", "fc2", "out")})
    assert "rank not finite at fc2 (step 0), dead none" in watch(tmp_path / "run.zarr").output


def test_it_follows_a_run_to_its_end_with_a_line_a_change(tmp_path) -> None:
    path = tmp_path / "run.zarr"
    begun = threading.Event()

    def record() -> None:
        with begin(path) as writer:
            for step in range(4):
                log(writer, step, loss=float(step))
                writer.flush()
                begun.set()
                time.sleep(0.4)

    thread = threading.Thread(target=record)
    thread.start()
    begun.wait(30)
    done = watch(path, "--every", "0.1")
    thread.join()
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.output.splitlines()
    assert lines[-1].startswith("status complete, ")
    assert "step 3 of 40, loss 3" in lines[-1]
    assert all(line.startswith("status recording, ") for line in lines[:-1])
    assert 2 <= len(lines) <= 6


def test_a_killed_run_ends_it(tmp_path) -> None:
    code = (
        "import os, sys, signal\n"
        "from tests.analysis.test_live_state import begin, log\n"
        "writer = begin(sys.argv[1])\n"
        "log(writer, 0, loss=1.0)\n"
        "writer.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run.zarr"], check=False)
    assert done.returncode == -signal.SIGKILL
    shown = watch(tmp_path / "run.zarr", "--every", "0.1")
    assert shown.exit_code == 0
    assert shown.output.startswith("status killed, committed ")
    assert "speed" not in shown.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("none.zarr",), 1, "error: "),
        (("none.zarr", "--every", "0"), 2, "Invalid value for '--every'"),
        ((), 2, "Missing argument 'RUN'"),
    ],
)
def test_wrong_words(words, code, said, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = watch(*words)
    assert (done.exit_code, said in done.stderr) == (code, True)


def test_an_interrupt_on_a_terminal_is_quiet_and_130(tmp_path) -> None:
    """A real terminal: the state is drawn in its place, and Ctrl-C ends it."""
    path = tmp_path / "run.zarr"
    with begin(path) as writer:
        log(writer, 0, loss=1.5)
        writer.flush()
        process, terminal = pty.fork()
        if process == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ |= {"TERM": "xterm", "COLUMNS": "80"}
            os.execv(sys.executable, [sys.executable, "-m", "fadiag", "watch", str(path), "--every", "0.2"])
        shown = b""
        while b"disk" not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        rest = b""
        while True:
            try:
                read = os.read(terminal, 4096)
            except OSError:  # the terminal is closed
                break
            if not read:
                break
            rest += read
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert b"loss      1.5" in shown
    assert code == 130
    assert b"Traceback" not in rest
    assert b"interrupted" not in rest
