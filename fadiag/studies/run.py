"""Run a study: search, make the missing runs, measure them, and write tables, figures and the page."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from fadiag.cores import available_cores
from fadiag.errors import InputError
from fadiag.paths import absolute_path
from fadiag.studies.declared.declaration import declare
from fadiag.studies.declared.study import PlannedRun, Study
from fadiag.studies.outputs.measure import ReportedRun
from fadiag.studies.outputs.theorems import check_theorems
from fadiag.studies.outputs.write import Made, write_outputs
from fadiag.studies.plan import curves_of, device_of, has_fixed_rate, place_of
from fadiag.studies.runs.checks import check_study
from fadiag.studies.runs.pool import Answer, store_of
from fadiag.studies.runs.schedule import Backend, Progress, Progressing, backend, finish_runs
from fadiag.studies.runs.search import rate_chosen, search_runs

__all__ = ["StudyResult", "run_study"]


@dataclass(frozen=True)
class StudyResult:
    """What a study found, and where.

    Attributes
    ----------
    out : Path
        The folder of tables, figures, page and report.
    answer : str
        One sentence on the declared question.
    stores : dict of str to Path
        The store of each reported run by the run's name.
    results : DataTree
        The measured results. It is empty if no condition trains at any rate.

    Examples
    --------
    >>> StudyResult(Path("out"), "FA's rank is lower.", {}, xr.DataTree()).answer
    "FA's rank is lower."
    """

    out: Path
    answer: str
    stores: dict[str, Path]
    results: xr.DataTree


def run_study(
    study: Study,
    out: str | Path,
    *,
    pool: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[str], AbstractContextManager[Progress]] | None = None,
    command: str | None = None,
) -> StudyResult:
    """Run what a study lacks, and write what it found.

    Runs are taken from the pool if they are there, and made if not. They do not depend on the number of
    workers. A killed run goes on from its newest checkpoint (``train.checkpoint_every``). A run that diverged
    is kept and shown. An interrupt (Ctrl-C) kills the runs that have begun, and a second call goes on.

    Parameters
    ----------
    study : Study
    out : str or Path
        The folder to write: ``study.json`` (before the first run), ``table.csv``, ``conditions.csv``,
        ``contrasts.csv``, ``search.csv``, ``theorems.csv``, ``results.zarr``, ``figures``, ``page.md`` and
        ``report.html``. If the folder holds another declaration, ``study.json`` and the page list what has
        changed.
    pool : str or Path, optional
        The folder of the runs, which studies may share; by default ``pool`` in `out`.
    workers : int, optional
        How many processes, each with one thread; by default one for each core, and 0 is this process. They
        are spawned, so a script needs ``if __name__ == "__main__":``.
    scheduler : str, optional
        The address of a dask scheduler, whose workers see the pool under the same path.
    progress : callable, optional
        Gets "training" or "analyzing", and returns a context manager. It yields a function of the parts done,
        the parts in all, and a note.
    command : str, optional
        The command, for the page.

    Returns
    -------
    StudyResult

    Raises
    ------
    ConfigError
        A configuration does not fit its data or network, or the folder holds a study with another primary
        metric, layer or contrast.
    StoreError
        The disk is full. What is finished is kept.
    FadiagError
        A run failed; the others are finished. Or the runs break a theorem that the study declares; all is
        written, and ``theorems.csv`` has the values.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.studies import find_study, load_study
    >>> small = ["only=['bp', 'fa']", "seeds.reported=[0]", "figures.names=[]", "base.train.epochs=1"]
    >>> small += ["base.data.train_samples=100", "base.record={ redraws = 0, gate_draws = 0 }"]
    >>> study = load_study(find_study("demo"), overrides=small)
    >>> sorted(run_study(study, tempfile.mkdtemp(), workers=0).stores)
    ['bp-seed0', 'fa-seed0']
    """
    folder = absolute_path(out)
    home = absolute_path(pool) if pool is not None else folder / "pool"
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; give at least one, or 0 for this process")
    check_study(study)
    folder.mkdir(parents=True, exist_ok=True)
    declare(study, folder / "study.json")
    device, searched = device_of(study), search_runs(study)
    fixed = study.runs({name: one for name, one in study.conditions.items() if has_fixed_rate(study, name)})
    number = len(study.seed_tables())
    total = len(searched) + number * len(study.conditions)

    def where(missing: int) -> AbstractContextManager[Backend]:
        most = available_cores() if workers is None else workers
        return backend(min(most, missing), scheduler)

    with _shown(progress, "training") as report:
        counter = Progressing(total, report)
        answers: dict[Path, Answer] = {}

        def finish(runs: Sequence[PlannedRun]) -> None:
            places = {place_of(home, run.config, device): (run.name, run.config) for run in runs}
            counter.without(len(runs) - len(places))  # conditions that share a run
            answers.update(finish_runs(places, where, device=device, progress=counter))

        finish([*(run for _, run in searched), *fixed])
        curves = curves_of(study, home, searched)
        rated = rate_chosen(study, curves)
        counter.without(number * (len(study.conditions) - len(rated)))
        known = {run.name for run in fixed}
        finish([run for run in study.runs(rated) if run.name not in known])
    reported = []
    for run in study.runs(rated):
        place = place_of(home, run.config, device)
        reported.append(ReportedRun(run, place, answers[place]))
    with _shown(progress, "analyzing") as report:
        made = write_outputs(
            Made(study, reported, curves, command or "fadiag.studies.run_study(...)"),
            folder,
            progress=(lambda done, total: report(done, total, "")) if report else None,
        )
    check_theorems(folder / "theorems.csv")
    return StudyResult(
        folder, made.answer, {one.run.name: store_of(one.place) for one in reported}, made.results
    )


class _Silent:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: Any) -> None:
        return None


def _shown(progress: Callable[[str], AbstractContextManager[Progress]] | None, what: str) -> Any:
    return _Silent() if progress is None else progress(what)
