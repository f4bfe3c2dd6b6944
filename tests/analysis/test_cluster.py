"""A dask cluster: the same numbers as here, and one clear line where there is none."""

import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from fadiag.analysis import analyze, cluster_executor
from fadiag.cli import main
from fadiag.errors import ClusterError
from fadiag.results import load_results

pytest.importorskip("distributed")


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.filterwarnings("default")  # distributed closes its sockets when it likes
def test_a_cluster_gives_the_same_numbers(make_run, record, tmp_path, monkeypatch):
    import distributed

    record(make_run(0), tmp_path / "a.zarr")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.chdir(tmp_path)  # the workers' directory stays another
        words = ["analyze", "a.zarr", "-o", "there.zarr", "--scheduler", cluster.scheduler_address]
        done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0
    there, here = load_results("there.zarr"), analyze("a.zarr")
    for group in here.children:
        assert set(there[group].data_vars) == set(here[group].data_vars)
        for name in here[group].data_vars:
            np.testing.assert_allclose(there[group][name], here[group][name], rtol=1e-12, err_msg=name)


@pytest.mark.filterwarnings("default")
def test_a_scheduler_without_workers_is_refused(make_run):
    import distributed

    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(ClusterError, match=r"has no worker after 0\.2 s; start one: dask worker tcp://"),
        cluster_executor(cluster.scheduler_address, timeout=0.2),
    ):
        raise AssertionError("no worker can be had")


def test_no_scheduler_is_one_line_within_seconds(make_run, record, tmp_path, free_port):
    path, address = record(make_run(0), tmp_path / "a.zarr"), f"tcp://127.0.0.1:{free_port}"
    words = [
        sys.executable,
        "-m",
        "fadiag",
        "analyze",
        path,
        "-o",
        tmp_path / "r.zarr",
        "--scheduler",
        address,
    ]
    start = time.monotonic()
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no scheduler answers at {address} (")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - start < 20
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.parametrize("address", ["nonsense", "bla://x:1"])
def test_what_is_no_address_is_refused(address):
    with (
        pytest.raises(ClusterError, match=f"'{address}' is no scheduler's address, such as tcp://"),
        cluster_executor(address),
    ):
        raise AssertionError("there is no such cluster")


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ClusterError, match=r"needs dask.distributed: pip install 'fadiag\[dask\]'"),
        cluster_executor("tcp://127.0.0.1:1"),
    ):
        raise AssertionError("there is no dask")


def test_a_worker_that_dies_is_told():
    """As dask tells it; really killing one trips over dask's own clean-up."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp://"
        ) as cluster,
        pytest.raises(ClusterError, match="was lost while it measured"),
        cluster_executor(cluster.scheduler_address),
    ):
        raise distributed.KilledWorker("measure-1", SimpleNamespace(address="tcp://127.0.0.1:9"), 3)
