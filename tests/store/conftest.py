"""A recorded run, and disks of any size."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.runs import record


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a disk of a size, as ``"8m"``; skips where none can be."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record(tmp_path / "run.zarr")
    return tmp_path / "run.zarr"
