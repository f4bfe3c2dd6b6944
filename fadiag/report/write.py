"""Write results as one HTML file."""

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fadiag.errors import FadiagError, InputError
from fadiag.paths import absolute_path
from fadiag.report.alerts import alerts
from fadiag.report.differences import differences
from fadiag.report.downloads import bibtex, differences_csv, download
from fadiag.report.methods import methods
from fadiag.report.pictures import draw
from fadiag.report.provenance import configurations, recording
from fadiag.report.question import ask
from fadiag.report.tables import Table, compared, definitions, lost, runs
from fadiag.report.values import Values, shown_variables, values
from fadiag.report.verdict import verdict
from fadiag.store.tools.printable import printable

__all__ = ["check_report", "render", "write_report"]

_TITLE = "Credit signals, layer by layer"


def render(results: xr.DataTree, *, title: str = _TITLE) -> str:
    """Return the report as HTML, with every text of the results escaped; see `write_report`.

    Examples
    --------
    >>> runs = {"run": ["a"], "condition": ("run", ["fa"]), "seed": ("run", [0]), "step": [0, 9]}
    >>> log = xr.Dataset({"test_accuracy": (("run", "step"), [[0.1, 0.9]])}, runs)
    >>> "<title>My run</title>" in render(xr.DataTree.from_dict({"/log": log}), title="My run")
    True
    """
    question = ask(results)
    shown = shown_variables(results, question.metric)
    scalars = _scalars(results)
    found = differences(results, question, [*shown, *scalars])
    table, why = _values(results, question.metric)
    head, rows = table.scalars()
    pictures = draw(results)
    csv = "text/csv;charset=utf-8"
    loads = [
        download("values.csv", "values at the last step (CSV)", csv, table.csv()),
        download("fadiag.bib", "citation of fadiag (BibTeX)", "text/x-bibtex", bibtex()),
    ]
    if found:
        loads.insert(1, download("differences.csv", "differences (CSV)", csv, differences_csv(found)))
    if pictures.pdf is not None:
        loads.insert(0, download("figures.pdf", "figures (PDF)", "application/pdf", pictures.pdf))
    page = files("fadiag.report").joinpath("page")
    style, script, template = (
        page.joinpath(name).read_text(encoding="utf-8")
        for name in ("style.css", "script.js", "template.html")
    )
    common, each = runs(results)
    shared, configs = configurations(results)
    # No control character of a store gets past this.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.from_string(template).render(
        title=title,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdict=verdict(results, question, found),
        alerts=alerts(results, question),
        pictures=pictures,
        compared=compared(found, question, shown),
        alone=question.alone,
        values=table,
        data=_plain(table.data()),
        scalars=Table(head, tuple(rows)),
        why_no_values=why,
        methods=methods(results, question, found),
        loads=loads,
        lost=lost(results),
        recording=recording(results),
        shared=shared,
        configs=configs,
        common=common,
        runs=each,
        definitions=definitions(results),
    )


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _plain(value: Any) -> Any:
    """Return data whose texts have no control characters."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return _shown(value)


def _scalars(results: xr.DataTree) -> list[str]:
    return [
        str(name)
        for node in results.children.values()
        for name, array in node.data_vars.items()
        if set(array.dims) == {"run", "step"}
    ]


def _values(results: xr.DataTree, primary: str) -> tuple[Values, str]:
    """Return the table of values, or an empty one and the reason."""
    try:
        return values(results, primary), ""
    except FadiagError as error:
        return Values(), str(error)


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
    results: xr.DataTree,
    path: str | os.PathLike[str],
    *,
    title: str = _TITLE,
) -> Path:
    """Write results as one HTML file that needs no other file and no network.

    Question, contrast and expected side are those that the meta of the runs declares, as in the results of a
    study. Without them every condition is compared with the one whose rule is "bp".

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
