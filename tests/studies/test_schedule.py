"""Where runs are made: local processes, two studies at once, a cluster, and a disk that is full."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fadiag.errors import ClusterError, FadiagError, StoreError
from fadiag.store import run_info, verify_run
from fadiag.studies import plan_study, run_study
from fadiag.studies.plan import place_of
from fadiag.studies.runs.pool import _held, finish_run, outcome_of, store_of
from tests.studies.small import declared
from tests.training.stores import assert_same


def kill_the_worker_at(checkpoints: Path) -> None:
    """Kill this process's worker when the run there has a checkpoint and its records are committed."""
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(1.2)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_is_named_the_study_goes_on_and_ends_with_the_same_bytes(tmp_path) -> None:
    study = declared(
        "conditions.bp.train={ epochs = 1500, checkpoint_every = 200 }",
        "conditions.bp.record={ every = 2000, state = ['weight'] }",
        "seeds.reported=[0]",
    )
    first = study.runs(study.conditions)[0]
    place = place_of(tmp_path / "pool", first.config)
    killer = threading.Thread(
        target=kill_the_worker_at, args=[store_of(place).with_name("run.zarr.checkpoints")]
    )
    killer.start()
    with pytest.raises(FadiagError, match=r"1 of 2 runs failed, and 1 .* was killed by SIGKILL; if mem"):
        run_study(study, tmp_path, workers=1)
    killer.join()
    assert outcome_of(place) is None
    assert run_info(store_of(place)).status == "killed"
    before = run_info(store_of(place)).run_id
    run_study(study, tmp_path, workers=0)
    assert run_info(store_of(place)).run_id == before
    whole = place_of(tmp_path / "whole", first.config)
    finish_run(whole, first.config)
    assert_same(store_of(place), store_of(whole))


def run_small(folder: str, pool: str) -> list[str]:
    return sorted(map(str, run_study(declared(), folder, pool=pool, workers=0).stores.values()))


@pytest.mark.slow
def test_two_studies_at_once_share_one_pool(tmp_path) -> None:
    pool = tmp_path / "pool"
    with multiprocessing.get_context("spawn").Pool(1) as other:
        theirs = other.apply_async(run_small, (str(tmp_path / "a"), str(pool)))
        while not list(pool.glob("*/run.zarr")):  # the other has begun
            time.sleep(0.001)
        mine = run_small(str(tmp_path / "b"), str(pool))
        assert theirs.get(timeout=120) == mine
    assert len(mine) == 4
    for store in mine:
        assert run_info(store).status == "complete"
        assert verify_run(store).problems == ()
    tables = [(tmp_path / name / "table.csv").read_text() for name in ("a", "b")]
    assert tables[0] == tables[1]


def test_a_run_that_another_study_makes_comes_last_and_is_waited_for(tmp_path) -> None:
    study = declared()
    runs = study.runs(study.conditions)
    places = [place_of(tmp_path / "pool", run.config) for run in runs]
    places[0].mkdir(parents=True)
    done: list[str] = []

    class Bar:
        def __enter__(self):
            return lambda done_, total, note: done.append(note.partition(",")[0])

        def __exit__(self, *_):
            return None

    held = threading.Event()

    def other_study() -> None:
        with _held(places[0] / "lock", wait=True) as mine:
            assert mine
            held.set()
            while not all(outcome_of(place) for place in places[1:]):
                time.sleep(0.01)
            assert finish_run(places[0], runs[0].config).status == "busy"

    thread = threading.Thread(target=other_study)
    thread.start()
    held.wait()
    run_study(study, tmp_path, workers=0, progress=lambda what: Bar())
    thread.join()
    assert [name for name in done if "seed" in name] == ["fa-seed0", "bp-seed1", "fa-seed1", "bp-seed0"]


@pytest.mark.slow
def test_a_cluster_makes_the_same_runs(tmp_path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, protocol="tcp"
    ) as cluster:
        result = run_study(declared(), tmp_path / "a", scheduler=cluster.scheduler_address)
    here = run_study(declared(), tmp_path / "b", workers=0)
    assert result.answer == here.answer
    for name, store in here.stores.items():
        assert_same(result.stores[name], store)


def test_a_cluster_that_is_not_there_is_named(tmp_path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1 "):
        run_study(declared(), tmp_path, scheduler="tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_disk_that_is_really_full_keeps_what_is_finished(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        study = declared("seeds.reported=[0, 1, 2, 3, 4, 5, 6, 7]", "base.record.state=['weight']")
        with pytest.raises(StoreError, match=r"the disk of \S+ is full: \d+ of 16 runs are finished and"):
            run_study(study, tmp_path / "out", pool=disk, workers=0)
        kept = [one for one in plan_study(study, disk) if one.status is not None]
        assert 0 < len(kept) < 16
        whole = shutil.copytree(disk, tmp_path / "larger")
    finally:
        subprocess.run(["umount", disk], check=True)
    before = {one.address: run_info(store_of(whole / str(one.address))).run_id for one in kept}
    assert len(run_study(study, tmp_path / "out", pool=whole, workers=0).stores) == 16
    assert before == {address: run_info(store_of(whole / str(address))).run_id for address in before}
