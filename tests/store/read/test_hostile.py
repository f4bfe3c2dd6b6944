"""Stores that somebody made to do harm: an error or a correct read, nothing else."""

import copy
import dataclasses
import json
import os
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from fadiag.errors import DamagedError, FadiagError, InputError
from fadiag.store import ArraySpec, RunWriter, compact, inspect_run, open_run, run_info, verify_run
from fadiag.store.read.arrays import read_steps
from fadiag.store.read.metadata import read_snapshot

VALUES = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"meta": {}}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", ArraySpec(("sample", "out"), (4, 3), "float32"))
        writer.put_static("a", "w", np.ones((3, 2)), dims=("out", "in"))
        for step in range(2):
            writer.append("s", step, {("a", "x"): VALUES[step].copy()})
    return path


STRANGE: list[Any] = [
    None, True, -1, 0, 1, 3, 2**31, 2**62, 2**64, 1e300, "", "..", "../../etc/passwd", "/etc/passwd",
    "a/../..",
    "\x00", "x" * 5000, [], [0], [2**40, 2**40], [-1], {}, {"name": "pickle"}, "object", "|O", "complex128",
    [{"name": "numcodecs.pickle"}], [{"name": "bytes", "configuration": {"endian": "big"}}],
    "s/a", "group", "array",
]  # fmt: skip


def mutate(document: Any, rng: random.Random) -> None:
    """Change one place of a JSON document: a value, a key, something gone, something more."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        change = rng.random()
        if change < 0.6:
            node[key] = copy.deepcopy(rng.choice(STRANGE))
        elif change < 0.75:
            del node[key]
        elif isinstance(node, dict):
            node[rng.choice([s for s in STRANGE if isinstance(s, str)])] = node.pop(key)
        else:
            node.append(copy.deepcopy(rng.choice(STRANGE)))
        return


def try_it(path: Path, count: int, seed: int, *, deep: int) -> tuple[int, int]:
    """Mutate the root document `count` times; every `deep`-th that is accepted is opened and read."""
    rng = random.Random(seed)
    root = path / "zarr.json"
    good = root.read_text()
    refused = accepted = 0
    for _ in range(count):
        if rng.random() < 0.15:
            data = bytearray(good.encode())
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            root.write_bytes(data)
        else:
            document = json.loads(good)
            for _ in range(rng.randint(1, 3)):
                mutate(document, rng)
            root.write_text(json.dumps(document))
        try:
            snapshot = read_snapshot(path)
            accepted += 1
            if accepted % deep == 0:
                tree = open_run(path)
                inspect_run(path)
                for array in snapshot.arrays.values():
                    assert array.layout.shape[0] * array.layout.record_bytes < 10**6
                    _ = tree[array.path].values
                if "s/a/x" in snapshot.arrays and snapshot.arrays["s/a/x"].layout.dtype == "float32":
                    assert tree["s/a/x"].values.size <= VALUES.size
        except FadiagError:
            refused += 1
    root.write_text(good)
    return refused, accepted


def test_mutated_metadata(run: Path) -> None:
    before = set(run.parent.rglob("*"))
    tracemalloc.start()
    refused, accepted = try_it(run, 1000, seed=1, deep=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > 500
    assert accepted > 20
    assert peak < 64 * 2**20
    assert set(run.parent.rglob("*")) == before
    np.testing.assert_array_equal(open_run(run)["s/a/x"], VALUES)


@pytest.mark.slow
def test_ten_thousand_mutations(run: Path) -> None:
    refused, accepted = try_it(run, 10_000, seed=2, deep=1)
    assert refused > 5000
    assert accepted > 100


def rewrite(run: Path, old: str, new: str) -> None:
    root = run / "zarr.json"
    text = root.read_text()
    assert old in text
    root.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "name", ["s/../../x", "/etc/x", "s/a/..", "s//x", "s/.hidden", "a/b/c/d", "s/a/zarr.json"]
)
def test_names_that_climb(run: Path, name: str) -> None:
    rewrite(run, '"s/a/x":', f'"{name}":')
    with pytest.raises(DamagedError, match="is damaged"):
        open_run(run)
    with pytest.raises(DamagedError):
        RunWriter(run, manifest={}, resume=True)


def test_huge_shapes(run: Path) -> None:
    text = (run / "zarr.json").read_text()
    for old, new in [
        ('"shape":[2,4,3]', '"shape":[2,4,4611686018427387904]'),
        ('"shape":[2,', '"shape":[2000000000000,'),
        ('"shape":[2', '"shape":[99999'),
        ('"committed":{"s":2}', '"committed":{"s":99999999999}'),
    ]:
        (run / "zarr.json").write_text(text)
        rewrite(run, old, new)
        with pytest.raises(DamagedError):
            open_run(run)
    (run / "zarr.json").write_text(
        text.replace('"shape":[2', '"shape":[9999999').replace('{"s":2}', '{"s":9999999}')
    )
    with pytest.raises(DamagedError, match=r"chunk c\.\d+[.0]* of s/.* is missing"):
        open_run(run)
    with pytest.raises(DamagedError, match="is missing"):
        inspect_run(run)
    assert len(verify_run(run).problems) < 1000


def test_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    chunk = run / "s/a/x/c.0.0.0"
    shutil.copy(chunk, outside / "chunk")
    chunk.unlink()
    chunk.symlink_to(outside / "chunk")
    with pytest.raises(DamagedError, match=r"chunk c\.0\.0\.0 of s/a/x is not a regular file"):
        open_run(run)
    with pytest.raises(InputError, match="is a symbolic link; a store that is resumed must hold none"):
        RunWriter(run, manifest={}, resume=True)
    assert run_info(run).status == "complete"  # and the lock was given back


def test_a_linked_folder_is_not_read(run: Path, tmp_path: Path) -> None:
    (run / "s/a/x").rename(tmp_path / "x")
    (run / "s/a/x").symlink_to(tmp_path / "x")
    tree = open_run(run)
    with pytest.raises(DamagedError, match="is reached through a link"):
        _ = tree["s/a/x"].values
    with pytest.raises(InputError, match="is a symbolic link"):
        RunWriter(run, manifest={}, resume=True)


def test_a_pipe_or_a_device_is_not_read(run: Path) -> None:
    chunk = run / "s/a/x/c.0.0.0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(DamagedError, match="is not a regular file"):
        open_run(run)
    (run / "zarr.json").unlink()
    os.mkfifo(run / "zarr.json")
    with pytest.raises(DamagedError, match=r"zarr\.json is not a regular file"):
        open_run(run)


def test_a_chunk_of_endless_length_is_not_read(run: Path) -> None:
    os.truncate(run / "s/a/x/c.0.0.0", 2**40)
    with pytest.raises(DamagedError, match=r"has 1,099,511,627,776 bytes instead of"):
        open_run(run)


def test_a_sealed_record_that_would_unfold_without_end(run: Path, tmp_path: Path) -> None:
    compact(run, tmp_path / "sealed.zarr")
    chunk = tmp_path / "sealed.zarr/s/a/x/c.0.0.0"
    bomb = zarr.create_array(
        tmp_path / "bomb.zarr",
        shape=(2, 40, 300_000),
        dtype="float32",
        chunks=(1, 40, 300_000),
        shards=(2, 40, 300_000),
        compressors=(ZstdCodec(), Crc32cCodec()),
        fill_value=float("nan"),
    )
    bomb[...] = 0.0
    # Every checksum holds, and some kilobytes would become 96 MB instead of 48 bytes.
    shutil.copy(tmp_path / "bomb.zarr/c/0/0/0", chunk)
    assert chunk.stat().st_size < 10**5
    tree = open_run(tmp_path / "sealed.zarr")
    assert (tree["static/a/w"].values == 1).all()  # what reading imports is none of the record's memory
    tracemalloc.start()
    with pytest.raises(
        DamagedError, match=r"c\.0\.0\.0 of s/a/x is damaged \(a record claims to have 48,000,000"
    ):
        _ = tree["s/a/x"].values
    assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    tracemalloc.stop()


def test_steps_that_do_not_grow(run: Path) -> None:
    chunk = run / "s/step/c.0"
    data = bytearray(chunk.read_bytes())
    data[0] = 200
    chunk.write_bytes(data)
    assert "do not grow" in verify_run(run).problems[0]
    for read in (inspect_run, open_run):
        with pytest.raises(DamagedError, match="the steps of stream 's' do not grow"):
            read(run)


def test_a_number_of_steps_that_nobody_wrote_asks_for_no_memory(run: Path) -> None:
    snapshot = read_snapshot(run)
    step = snapshot.arrays["s/step"]
    long = dataclasses.replace(step, layout=dataclasses.replace(step.layout, shape=(2**45,)))
    forged = dataclasses.replace(snapshot, arrays={**snapshot.arrays, "s/step": long})
    with pytest.raises(DamagedError, match=r"chunk c\.1 of s/step is missing"):
        read_steps(forged, "s")
