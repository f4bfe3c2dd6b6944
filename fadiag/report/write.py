"""Write results as one HTML file."""

import os
from importlib.resources import files
from pathlib import Path

import xarray as xr
from jinja2 import Environment, StrictUndefined

from fadiag.errors import InputError
from fadiag.paths import absolute_path
from fadiag.report.pictures import pictures
from fadiag.report.tables import definitions, doubted, finals, lost, or_why, runs, scalars

__all__ = ["check_report", "render", "write_report"]


def render(results: xr.DataTree, *, title: str = "Credit signals, layer by layer") -> str:
    """Return the report as HTML, with every text of the results escaped.

    Examples
    --------
    >>> runs = {"run": ["a"], "condition": ("run", ["fa"]), "seed": ("run", [0]), "step": [0, 9]}
    >>> log = xr.Dataset({"test_accuracy": (("run", "step"), [[0.1, 0.9]])}, runs)
    >>> "<title>My run</title>" in render(xr.DataTree.from_dict({"/log": log}), title="My run")
    True
    """
    source = files("fadiag.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    common, each = runs(results)
    return environment.from_string(source).render(
        title=title,
        pictures=pictures(results),
        lost=lost(results),
        doubted=doubted(results),
        scalars=or_why(scalars, results),
        finals=or_why(finals, results),
        common=common,
        runs=each,
        definitions=definitions(results),
    )


def check_report(path: str | os.PathLike[str]) -> Path:
    """Return the path; raise InputError, before any work is done, if no report can be written there.

    Examples
    --------
    >>> check_report("report.html").name
    'report.html'
    """
    path = absolute_path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"a report cannot be written to {path}: name a file in a directory that exists")
    return path


def write_report(
    results: xr.DataTree, path: str | os.PathLike[str], *, title: str = "Credit signals, layer by layer"
) -> Path:
    """Write results as one HTML file that needs no other file and no network.

    Parameters
    ----------
    results : xarray.DataTree
        Results of `fadiag.analyze`.
    path : path
        The file to write. An old file is replaced when the new one is complete.
    title : str
        The title of the report.

    Raises
    ------
    InputError
        The directory does not exist, or the results hold no run.

    Examples
    --------
    >>> import tempfile
    >>> runs = {"run": ["a"], "condition": ("run", ["fa"]), "seed": ("run", [0]), "step": [0, 9]}
    >>> log = xr.Dataset({"test_accuracy": (("run", "step"), [[0.1, 0.9]])}, runs)
    >>> write_report(xr.DataTree.from_dict({"/log": log}), tempfile.mkdtemp() + "/report.html").name
    'report.html'
    """
    path = check_report(path)
    if not any("run" in node.dims for node in results.subtree):
        raise InputError(
            "the results hold no run, so there is nothing to report; analyze recorded runs first"
        )
    text = render(results, title=title)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path
