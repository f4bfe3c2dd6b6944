"""Studies: conditions times seeds, declared in a file before they run, with runs from one pool."""

from fadiag.studies.declared.load import load_study
from fadiag.studies.declared.shipped import find_study, shipped_studies
from fadiag.studies.declared.study import Condition, PlannedRun, Study
from fadiag.studies.declared.tables import FigureTable, PrimaryTable, SearchTable, SeedTable, StudyTable
from fadiag.studies.plan import Planned, plan_study
from fadiag.studies.run import StudyResult, run_study

__all__ = [
    "Condition",
    "FigureTable",
    "Planned",
    "PlannedRun",
    "PrimaryTable",
    "SearchTable",
    "SeedTable",
    "Study",
    "StudyResult",
    "StudyTable",
    "find_study",
    "load_study",
    "plan_study",
    "run_study",
    "shipped_studies",
]


def __dir__() -> list[str]:
    return sorted(__all__)
