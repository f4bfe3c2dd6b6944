"""Studies: conditions times seeds, declared in a file before they run, with runs from one pool.

The names are loaded when first used: a worker that trains loads neither the analysis nor the figures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fadiag.studies.declared.load import load_study as load_study
    from fadiag.studies.declared.shipped import find_study as find_study
    from fadiag.studies.declared.shipped import shipped_studies as shipped_studies
    from fadiag.studies.declared.study import Condition as Condition
    from fadiag.studies.declared.study import PlannedRun as PlannedRun
    from fadiag.studies.declared.study import Study as Study
    from fadiag.studies.declared.tables import FigureTable as FigureTable
    from fadiag.studies.declared.tables import PrimaryTable as PrimaryTable
    from fadiag.studies.declared.tables import SearchTable as SearchTable
    from fadiag.studies.declared.tables import SeedTable as SeedTable
    from fadiag.studies.declared.tables import StudyTable as StudyTable
    from fadiag.studies.declared.tables import TheoremTable as TheoremTable
    from fadiag.studies.plan import Planned as Planned
    from fadiag.studies.plan import plan_study as plan_study
    from fadiag.studies.run import StudyResult as StudyResult
    from fadiag.studies.run import run_study as run_study

_HOME = {
    "Condition": "declared.study",
    "FigureTable": "declared.tables",
    "Planned": "plan",
    "PlannedRun": "declared.study",
    "PrimaryTable": "declared.tables",
    "SearchTable": "declared.tables",
    "SeedTable": "declared.tables",
    "Study": "declared.study",
    "StudyResult": "run",
    "StudyTable": "declared.tables",
    "TheoremTable": "declared.tables",
    "find_study": "declared.shipped",
    "load_study": "declared.load",
    "plan_study": "plan",
    "run_study": "run",
    "shipped_studies": "declared.shipped",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of strings


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"fadiag.studies.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fadiag.studies' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
