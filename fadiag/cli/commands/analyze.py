"""Define ``fadiag analyze``, which measures all metrics of one or more runs."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from fadiag.cli.left_out import strict_option
from fadiag.cli.path_checks import ExistingFile, NewPath, checked_path
from fadiag.cli.terminal import say
from fadiag.errors import InputError, StoreError

if TYPE_CHECKING:
    from fadiag.store import Unfolding

__all__ = ["analyze"]

#: Where results are written without ``-o``.
_DEFAULT = "results.zarr"


@click.command(short_help="Measure recorded runs.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--out",
    type=NewPath(),
    help="Output: .zarr or .nc (for figure and report), .csv or .parquet (a long table). Only with -o it "
    f"replaces results of other runs.  [default: {_DEFAULT}]",
)
@click.option(
    "--meta",
    metavar="CSV",
    type=ExistingFile(),
    help="A table of entries for the runs, such as condition and seed. The first column is path.",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Measure only this metric; may be repeated."
)
@click.option(
    "--unfolding",
    type=click.Choice(["samples", "channels"]),
    default="samples",
    show_default=True,
    help="Rows of a convolution's signals: samples, or samples and positions.",
)
@click.option(
    "--k", type=click.IntRange(min=1), help="Dimension of compared subspaces.  [default: classes - 1]"
)
@click.option(
    "--spectra",
    multiple=True,
    metavar="SIGNAL",
    help="Keep the singular values of this signal, such as error; may be repeated.",
)
@click.option(
    "--spectra-steps",
    type=click.Choice(["ends", "all"]),
    default="ends",
    show_default=True,
    help="Keep them at the first and the last record of each run, or at all.",
)
@strict_option
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Measure on a dask cluster, such as tcp://10.0.0.1:8786 (extra: dask).",
)
def analyze(
    *,
    runs: tuple[str, ...],
    out: str | None,
    meta: str | None,
    metrics: tuple[str, ...],
    unfolding: str,
    k: int | None,
    spectra: tuple[str, ...],
    spectra_steps: str,
    strict: bool,
    scheduler: str | None,
) -> None:
    """Measure every metric, with its null, of the recorded stores RUN."""
    from fadiag.analysis import analyze as measure
    from fadiag.analysis import cluster_executor
    from fadiag.cli.meta_csv import read_meta
    from fadiag.cli.progress import bar
    from fadiag.results.io import check_output

    target = out or _DEFAULT
    place = checked_path(check_output, target)
    if out is None:
        _refuse_other_runs(place, runs)
    entries = read_meta(meta) if meta else None
    with cluster_executor(scheduler) if scheduler else nullcontext() as executor, bar("analyzing") as move:
        measure(
            list(runs),
            meta=entries,
            metrics=metrics or None,
            unfolding=cast("Unfolding", unfolding),  # checked by click
            k=k,
            spectra=spectra or None,
            spectra_steps=cast("Literal['ends', 'all']", spectra_steps),
            strict=strict,
            executor=executor,
            progress=lambda done, total: move(done, total, "saving" if done == total else ""),
            output=target,
        )
    say(f"wrote {target}")


def _refuse_other_runs(place: Path, runs: Sequence[str]) -> None:
    """Raise InputError if results that nobody named hold a run that is not among the given ones."""
    from fadiag.results import load_results
    from fadiag.results.provenance import recordings
    from fadiag.store import run_info

    if not place.exists():
        return
    given = set()
    for run in runs:
        with suppress(StoreError):  # a run that cannot be opened is named later
            given.add(run_info(run).run_id)
    held = {
        (str(label), run_id)
        for stream in (node.to_dataset() for node in load_results(place).children.values())
        for label, (run_id, _) in zip(stream["run"].values, recordings(stream), strict=True)
    }
    if others := sorted(label for label, run_id in held if run_id not in given):
        raise InputError(
            f"{place} holds {len(held)} runs, and {len(others)} of them ({', '.join(others[:3])}"
            f"{', ...' if len(others) > 3 else ''}) would be lost; write to another file, -o OTHER.zarr, or "
            f"replace it, -o {_DEFAULT}"
        )
