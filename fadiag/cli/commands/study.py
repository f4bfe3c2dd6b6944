"""Define ``fadiag study``, which runs a declared study from its search to its page."""

import shlex
import sys

import click

from fadiag.cli.completion import complete_study
from fadiag.cli.path_checks import NewPath
from fadiag.cli.terminal import say, table
from fadiag.paths import absolute_path

__all__ = ["command_line", "study"]


def command_line() -> str:
    """Return the command as a user would type it."""
    return shlex.join(["fadiag", *sys.argv[1:]])


@click.command(short_help="Run a study: search, train, analyze, and write its page.")
@click.argument("study", metavar="FILE_OR_NAME", shell_complete=complete_study)
@click.option(
    "--profile",
    default="cpu",
    show_default=True,
    metavar="NAME",
    help="A profile of the file, such as ci or gpu; cpu is the file as it is.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=None,
    help="Runs trained at a time; 0 trains in this process.  [default: one a core]",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Train on a dask cluster, such as tcp://10.0.0.1:8786 (extra: dask).",
)
@click.option("--pool", type=NewPath(file_okay=False), help="The folder of the runs.  [default: OUT/pool]")
@click.option("--data-dir", type=click.Path(), help="The folder of the data set's files (base.data.folder).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the file, as in base.train.epochs=1; may be repeated.",
)
@click.option(
    "-o",
    "--out",
    default=None,
    type=NewPath(file_okay=False),
    help="The folder to write to.  [default: the study's name]",
)
@click.option("--dry-run", is_flag=True, help="List the runs, and which of them are in the pool.")
def study(
    *,
    study: str,
    profile: str,
    workers: int | None,
    scheduler: str | None,
    pool: str | None,
    data_dir: str | None,
    overrides: tuple[str, ...],
    out: str | None,
    dry_run: bool,
) -> None:
    """Run a study: the search of its rates, its runs, its tables, its figures and its page.

    FILE_OR_NAME is a TOML file, or the name of a study that comes with fadiag. Runs are taken from the pool
    if they are there. So an interrupted study goes on where it stopped, and studies with one pool share runs.
    """
    from fadiag.cli.progress import bar
    from fadiag.studies import find_study, load_study, plan_study, run_study

    given = [] if data_dir is None else [f"base.data.folder={absolute_path(data_dir)}"]
    declared = load_study(find_study(study), profile=profile, overrides=[*given, *overrides])
    folder = absolute_path(out or declared.name)
    if dry_run:
        plan = plan_study(declared, pool or folder / "pool")
        rows = [(one.name, one.address or "after the search", one.status or "to be made") for one in plan]
        table(("run", "address", "status"), rows)
        there = sum(one.status is not None for one in plan)
        say(f"{len(plan)} runs, {there} of them in the pool")
        return
    found = run_study(
        declared,
        folder,
        pool=pool,
        workers=workers,
        scheduler=scheduler,
        progress=bar,
        command=command_line(),
    )
    say(f"{found.answer}\n")
    say(f"page     {folder / 'page.md'}")
    say(f"tables   {folder} (table, conditions, contrasts, search: CSV)")
    say(f"report   {folder / 'report.html'}")
