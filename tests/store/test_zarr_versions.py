"""The store under the oldest zarr that fadiag allows and, where a newer Python has one, the newest."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fadiag.store import ArraySpec, RunWriter, compact

READER = """
import sys, numpy as np, xarray as xr, zarr
for name in ("live", "closed", "sealed"):
    tree = xr.open_datatree(f"{sys.argv[1]}/{name}.zarr", engine="zarr")
    error = tree["probe/fc1/error"]
    assert error.dims == ("step", "sample", "out"), error.dims
    np.testing.assert_array_equal(error.values, np.load(f"{sys.argv[1]}/error.npy"))
    np.testing.assert_array_equal(tree["probe/fc1"]["step"].values, [0, 10, 20])
    assert (tree["probe/dead/error"].values == 0).all()
print(zarr.__version__)
"""


def record(writer: RunWriter, error: np.ndarray) -> None:
    writer.declare_stream("probe", attrs={"kind": "probe"})
    for layer in ("fc1", "dead"):
        writer.declare("probe", layer, "error", ArraySpec(("sample", "out"), (4, 3), "float32"))
    for index, values in enumerate(error):
        writer.append(
            "probe", 10 * index, {("fc1", "error"): values, ("dead", "error"): np.zeros((4, 3), np.float32)}
        )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    error = np.random.default_rng(0).standard_normal((3, 4, 3)).astype(np.float32)
    np.save(folder / "error.npy", error)
    for name in ("live", "closed"):
        with RunWriter(folder / f"{name}.zarr", manifest={}) as writer:
            record(writer, error)
            writer.flush()
            if name == "live":
                shutil.copytree(folder / "live.zarr", folder / "copy.zarr")
    shutil.rmtree(folder / "live.zarr")
    (folder / "copy.zarr").rename(folder / "live.zarr")  # as a kill would have left it
    compact(folder / "closed.zarr", folder / "sealed.zarr")
    return folder


def newer_python() -> str | None:
    """Return a Python that has wheels of the newest zarr, and runs (a shim of pyenv's may not)."""
    named = [found for n in (12, 13, 14) if (found := shutil.which(f"python3.{n}"))]
    pyenv = sorted(map(str, Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3")))
    for python in (*named, *pyenv):
        if subprocess.run([python, "-c", "import venv"], capture_output=True).returncode == 0:
            return python
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("python", "wanted"),
    [(sys.executable, "zarr==3.1.0"), (newer_python(), "zarr>=3.4,<4")],
    ids=["3.1.0", "3.4"],
)
def test_plain_xarray_opens_a_store(python: str | None, wanted: str, stores: Path, tmp_path: Path) -> None:
    if python is None:
        pytest.skip("no Python 3.12 or newer here, which the newest zarr asks for")
    subprocess.run([python, "-m", "venv", tmp_path], check=True)
    interpreter = tmp_path / "bin/python"
    install = [
        interpreter,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        wanted,
        "xarray",
    ]
    subprocess.run(install, check=True)
    done = subprocess.run([interpreter, "-c", READER, stores], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(wanted.removeprefix("zarr").lstrip("=>").partition(",")[0][:3])
