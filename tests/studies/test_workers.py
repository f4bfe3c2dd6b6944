"""The pool of processes: results, errors, processes that die, and who hears Ctrl-C."""

import operator
import os
import signal
import time
from collections import deque

import pytest

from fadiag.errors import FadiagError
from fadiag.studies.runs.workers import WorkerPool, run_each, worker_pool


@pytest.fixture(scope="module")
def pool():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        patch.delenv("NUMBA_NUM_THREADS", raising=False)
        with worker_pool(2) as opened:
            assert os.environ["OMP_NUM_THREADS"] == "7"
            assert "NUMBA_NUM_THREADS" not in os.environ
            for process in opened.processes.values():  # while they start: they do not hear it
                os.kill(process.pid, signal.SIGINT)
            yield opened
    assert {process.exitcode for process in opened.processes.values()} == {0}


def results(opened, function, calls):
    ended = list(run_each(opened, function, deque(calls.items())))
    assert [error for _, _, error in ended] == [None] * len(calls)
    return {name: result for name, result, _ in ended}


def test_each_call_comes_back_by_its_name(pool) -> None:
    calls = {str(number): (number, 2) for number in range(5)}
    assert results(pool, operator.mul, calls) == {"0": 0, "1": 2, "2": 4, "3": 6, "4": 8}
    found = results(pool, os.getpid, dict.fromkeys("abcdef", ()))
    assert set(found.values()) <= {process.pid for process in pool.processes.values()}


def test_a_call_may_be_added_while_others_run(pool) -> None:
    calls = deque([("first", (1, 2))])
    found = {}
    for name, result, _ in run_each(pool, operator.mul, calls):
        found[name] = result
        if name == "first":
            calls.append(("second", (3, 4)))
    assert found == {"first": 2, "second": 12}


def test_the_libraries_of_a_worker_have_one_thread(pool) -> None:
    calls = {name: (name,) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    assert results(pool, os.getenv, calls) == dict.fromkeys(calls, "1")


def test_workers_do_not_hear_ctrl_c_and_this_process_does(pool) -> None:
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for blocked in results(
        pool, signal.pthread_sigmask, dict.fromkeys("ab", (signal.SIG_BLOCK, ()))
    ).values():
        assert signal.SIGINT in blocked


def test_the_error_of_a_call_has_its_traceback_and_the_others_go_on(pool, tmp_path) -> None:
    folders = [tmp_path / "first", tmp_path / "none" / "second", tmp_path / "third"]
    one = WorkerPool()
    one.processes = dict([next(iter(pool.processes.items()))])
    calls = deque((str(number), (folder,)) for number, folder in enumerate(folders))
    ended = {name: error for name, _, error in run_each(one, os.mkdir, calls)}
    assert sorted(tmp_path.iterdir()) == [folders[0], folders[2]]
    assert isinstance(ended["1"], FileNotFoundError)
    assert "in _answer" in ended["1"].__notes__[0]


def test_a_process_that_dies_is_named_and_another_takes_its_place(pool) -> None:
    one = WorkerPool()
    one.processes = dict([pool.processes.popitem()])
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    calls = deque([("run", (kill,)), ("other", ("pass",))])
    ended = {name: error for name, _, error in run_each(one, exec, calls)}
    assert isinstance(ended["run"], FadiagError)
    assert str(ended["run"]).startswith("the process of 'run' was killed by SIGKILL; if memory ran out, take")
    assert ended["other"] is None
    pool.processes.update(one.processes)


@pytest.mark.slow
@pytest.mark.parametrize(("error", "exitcode"), [(ValueError, 0), (KeyboardInterrupt, -signal.SIGKILL)])
def test_leaving_with_an_error_waits_and_with_an_interrupt_kills(error, exitcode) -> None:
    opened = {}

    def leave():
        with worker_pool(2) as pool:
            opened.update(pool.processes)
            for _ in run_each(pool, time.sleep, deque([("short", (0,)), ("long", (3,))])):
                raise error

    with pytest.raises(error):
        leave()
    assert [process.exitcode for process in opened.values()] == [exitcode, exitcode]


@pytest.mark.slow
def test_an_exit_code_is_named() -> None:
    with worker_pool(1) as opened:
        ((_, _, error),) = run_each(opened, os._exit, deque([("run", (3,))]))
    assert "the process of 'run' ended with exit code 3; its output says" in str(error)
