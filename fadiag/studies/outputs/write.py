"""Write all outputs of a study, and leave them as they are if nothing that they are made of has changed."""

import hashlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import xarray as xr

import fadiag
from fadiag.figures import theme
from fadiag.report import write_report
from fadiag.results import load_results
from fadiag.store import RunInfo, run_info
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.drawn import draw_figures
from fadiag.studies.outputs.matched import matched_rows
from fadiag.studies.outputs.measure import ReportedRun, measure_runs, one_of_each_seed
from fadiag.studies.outputs.page import answer_of, write_page
from fadiag.studies.outputs.rows import condition_rows, contrast_rows, run_rows, search_rows, write_rows
from fadiag.studies.outputs.theorems import theorem_rows
from fadiag.studies.runs.pool import store_of
from fadiag.studies.runs.search import Curve

__all__ = ["Made", "Written", "write_outputs"]

#: The packages whose code decides what the outputs are.
_CODE = ("spectra", "analysis", "results", "figures", "report", "studies")
_FILES = (
    "page.md",
    "table.csv",
    "conditions.csv",
    "contrasts.csv",
    "matched.csv",
    "theorems.csv",
    "figures.csv",
    "results.zarr",
)
#: What captions say where seeds are crossed.
_EQUAL_SEEDS = "Only runs whose seeds are all equal are drawn, so means differ from those of all runs."


@dataclass(frozen=True)
class Made:
    """What a study has made: its reported runs, the curves of its search, and the command."""

    study: Study
    runs: Sequence[ReportedRun]
    curves: Mapping[str, Curve]
    command: str


@dataclass(frozen=True)
class Written:
    """The answer of the page, and the results."""

    answer: str
    results: xr.DataTree


def write_outputs(made: Made, folder: Path, progress: Callable[[int, int], None] | None = None) -> Written:
    """Measure the runs, and write tables, figures, page and report.

    ``provenance.json`` holds a hash of the declaration, the recordings, the curves and the code. If it is the
    same as that of the last call, all outputs are there already.
    """
    infos = {one.place: run_info(store_of(one.place)) for one in made.runs}
    seal = _seal(made, infos, folder / "study.json")
    provenance = folder / "provenance.json"
    if _is_sealed(provenance, seal) and all((folder / name).exists() for name in _FILES):
        return Written(answer_of(folder), load_results(folder / "results.zarr"))
    provenance.unlink(missing_ok=True)
    study = made.study
    facts = {**_provenance(list(infos.values())), "command": made.command, "seal": seal}
    edges = [name for name, curve in made.curves.items() if curve.at_edge]
    results = xr.DataTree()
    if made.runs:
        output = folder / "results.zarr"
        results = measure_runs(study, made.runs, output, progress, edges=edges, facts=facts)
    rows = run_rows(study, made.runs, results)
    write_rows(rows, folder / "table.csv")
    write_rows(condition_rows(study, rows, results), folder / "conditions.csv")
    write_rows(contrast_rows(study, results), folder / "contrasts.csv")
    write_rows(matched_rows(study, results), folder / "matched.csv")
    write_rows(search_rows(study, made.curves), folder / "search.csv")
    write_rows(theorem_rows(study, results), folder / "theorems.csv")
    shown, only = (one_of_each_seed(results), _EQUAL_SEEDS) if study.seeds.cross else (results, "")
    look = study.figures
    order = dict.fromkeys([*look.order, *study.conditions])
    with theme(labels=look.labels, colors=look.colors, order=list(order)):
        drawn = draw_figures(look, shown, folder / "figures", study.primary.contrast[1], only)
        write_rows(drawn, folder / "figures.csv")
        if made.runs:
            title = f"{study.name} (runs of equal seeds)" if only else study.name
            write_report(shown, folder / "report.html", title=title)
    write_page(study, folder, facts)
    # Last, so that an interrupted call is not taken for a whole one.
    provenance.write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
    return Written(answer_of(folder), results)


def _seal(made: Made, infos: Mapping[Path, RunInfo], declaration: Path) -> str:
    digest = hashlib.sha256(declaration.read_bytes())
    for one in made.runs:
        info = infos[one.place]
        digest.update(repr((one.run.name, one.answer, info.run_id, info.generation, info.status)).encode())
    digest.update(repr(sorted(made.curves.items())).encode())
    home = Path(fadiag.__file__).parent
    for package in _CODE:
        for path in sorted((home / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_sealed(path: Path, seal: str) -> bool:
    try:
        return bool(msgspec.json.decode(path.read_bytes())["seal"] == seal)
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return False


def _provenance(infos: Sequence[RunInfo]) -> dict[str, Any]:
    """Return the commit of the code, and the versions and devices of the runs."""
    versions = [dict(info.manifest.get("versions") or {}) for info in infos]
    return {
        "fadiag": fadiag.__version__,
        "commit": _commit(),
        "torch": sorted({str(one["torch"]) for one in versions if "torch" in one})
        or [str(torch.__version__)],
        "devices": sorted({str(info.manifest["device"]) for info in infos if "device" in info.manifest}),
        "data_sha256": sorted({_data_of(info) for info in infos}),
    }


def _data_of(info: RunInfo) -> str:
    meta = info.manifest.get("meta")
    return str(meta.get("data_sha256", "")) if isinstance(meta, dict) else ""


def _commit() -> str:
    """Return the commit of a checkout, "+changes" if files differ from it, and "" for a package."""
    home = Path(fadiag.__file__).parents[1]
    if not (home / ".git").exists():
        return ""
    try:
        said = [
            subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, check=True, timeout=10)
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return said[0].stdout.strip() + ("+changes" if said[1].stdout.strip() else "")
