"""Make the paths that a user gives independent of the working directory."""

import os
from pathlib import Path

__all__ = ["absolute_path"]


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """Return a user's path as an absolute path, with ``~`` expanded to the home folder.

    Every public function that takes a path calls this first. A later change of the working directory then has
    no effect, and ``~`` means the same everywhere.

    Examples
    --------
    >>> absolute_path("/data/run.zarr")
    PosixPath('/data/run.zarr')
    >>> absolute_path("run.zarr") == Path.cwd() / "run.zarr"
    True
    >>> absolute_path("~/run.zarr") == Path.home() / "run.zarr"
    True
    """
    # Not Path.expanduser, which raises an error for a folder whose name happens to begin with "~".
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111
