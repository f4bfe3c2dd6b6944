"""Damage that is found, with its array and chunk."""

import os
import shutil
from pathlib import Path

import pytest

from fadiag.errors import DamagedError
from fadiag.store import (
    compact,
    open_run,
    verify_run,
)


def test_a_flipped_bit_names_array_and_chunk(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sealed.zarr"
    shutil.copytree(sealed, copy)
    chunk = copy / "probe/fc.1/error/c.0.0.0"
    data = bytearray(chunk.read_bytes())
    for position in (3, len(data) // 2, len(data) - 3):
        flipped = bytearray(data)
        flipped[position] ^= 1
        chunk.write_bytes(flipped)
        problems = verify_run(copy).problems
        assert len(problems) == 1
        assert "chunk c.0.0.0 of probe/fc.1/error is damaged" in problems[0]


def test_verify_finds_missing_and_short_files(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.zarr"
    shutil.copytree(recorded, copy)
    os.truncate(copy / "probe/fc.1/error/c.0.0.0", 100)
    (copy / "probe/big/error/c.3.1.0").unlink()
    found = verify_run(copy)
    assert len(found.problems) == 2
    assert any(
        "chunk c.0.0.0 of probe/fc.1/error has 100 bytes instead of" in line for line in found.problems
    )
    assert any("chunk c.3.1.0 of probe/big/error is missing" in line for line in found.problems)
    with pytest.raises(DamagedError, match=r"\(and 1 more problems\)"):
        found.raise_problems()
    with pytest.raises(DamagedError):
        compact(copy, tmp_path / "sealed.zarr")
    assert not (tmp_path / "sealed.zarr").exists()


def test_reading_a_missing_chunk_is_an_error_and_no_nan(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.zarr"
    shutil.copytree(recorded, copy)
    (copy / "probe/big/error/c.3.1.0").unlink()
    error = open_run(copy)["probe/big/error"]
    assert (error[2] == 20).all()
    with pytest.raises(DamagedError, match=r"chunk c\.3\.1\.0 of probe/big/error is missing"):
        _ = error[3].values
