"""The pool of processes: results, errors, processes that die, and who hears Ctrl-C."""

import operator
import os
import signal
import time

import pytest

from fadiag.errors import FadiagError
from fadiag.studies.runs.workers import run_each, worker_pool


@pytest.fixture(scope="module")
def pool():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        patch.delenv("NUMBA_NUM_THREADS", raising=False)
        with worker_pool(2) as opened:
            assert os.environ["OMP_NUM_THREADS"] == "7"
            assert "NUMBA_NUM_THREADS" not in os.environ
            for process in opened.values():  # while they start: they do not hear it
                os.kill(process.pid, signal.SIGINT)
            yield opened
    assert [process.exitcode for process in opened.values()] == [0, 0]


def test_each_call_comes_back_by_its_name(pool) -> None:
    calls = {str(number): (number, 2) for number in range(5)}
    assert dict(run_each(pool, operator.mul, calls)) == {"0": 0, "1": 2, "2": 4, "3": 6, "4": 8}
    found = dict(run_each(pool, os.getpid, dict.fromkeys("abcdef", ())))
    assert set(found.values()) <= {process.pid for process in pool.values()}


def test_the_libraries_of_a_worker_have_one_thread(pool) -> None:
    calls = {name: (name,) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    assert dict(run_each(pool, os.getenv, calls)) == dict.fromkeys(calls, "1")


def test_workers_do_not_hear_ctrl_c_and_this_process_does(pool) -> None:
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    calls = dict.fromkeys("ab", (signal.SIG_BLOCK, ()))
    for _, blocked in run_each(pool, signal.pthread_sigmask, calls):
        assert signal.SIGINT in blocked


def run(jobs, function, calls):
    with worker_pool(jobs) as opened:
        list(run_each(opened, function, calls))


def test_the_error_of_a_call_is_raised_with_its_traceback_and_nothing_more_is_begun(pool, tmp_path) -> None:
    folders = [tmp_path / "first", tmp_path / "none" / "second", tmp_path / "third"]
    one = dict([next(iter(pool.items()))])
    with pytest.raises(FileNotFoundError) as caught:
        list(run_each(one, os.mkdir, {str(number): (folder,) for number, folder in enumerate(folders)}))
    assert list(tmp_path.iterdir()) == folders[:1]
    assert "in _answer" in caught.value.__notes__[0]


@pytest.mark.slow
@pytest.mark.parametrize(("error", "exitcode"), [(ValueError, 0), (KeyboardInterrupt, -signal.SIGKILL)])
def test_leaving_with_an_error_waits_and_with_an_interrupt_kills(error, exitcode) -> None:
    opened = {}

    def leave():
        with worker_pool(2) as pool:
            opened.update(pool)
            for _ in run_each(pool, time.sleep, {"short": (0,), "long": (3,)}):
                raise error

    with pytest.raises(error):
        leave()
    assert [process.exitcode for process in opened.values()] == [exitcode, exitcode]


@pytest.mark.slow
def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(FadiagError, match=r"the process of 'run' ended with exit code 3; its output says"):
        run(1, os._exit, {"run": (3,)})
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(
        FadiagError, match=r"the process of 'run' was killed by SIGKILL; if memory ran out, run"
    ):
        run(1, exec, {"run": (kill,)})
