"""Define ``fadiag demo``: the rank study in small, from training to the report."""

import csv
from pathlib import Path

import click

from fadiag.cli.commands.study import command_line
from fadiag.cli.path_checks import NewPath
from fadiag.cli.terminal import say
from fadiag.paths import absolute_path

__all__ = ["demo"]


def _muon_layers(store: Path) -> str | None:
    """Return a line on which layers Muon takes in a run; None if it takes none."""
    from fadiag.store import run_info

    manifest = run_info(store).manifest
    if manifest["meta"]["optimizer"] != "muon":
        return None
    taken, rest = manifest["meta"]["optimizer_layers"], manifest["config"]["optimizer"]["rest"]
    return f"Muon takes the weights of {taken}; {rest['name']} ({rest['learning_rate']:g}) takes the rest"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@click.command(short_help="Train, record, analyze, draw and report a small study.")
@click.option(
    "-o",
    "--out",
    default="fadiag-demo",
    show_default=True,
    type=NewPath(file_okay=False),
    help="The folder to write to.",
)
@click.option(
    "--data",
    type=click.Choice(["digits", "fashion-mnist", "cifar10"]),
    default="digits",
    show_default=True,
    help="The images; the digits come with the package.",
)
@click.option("--data-dir", type=click.Path(), help="The folder of the other data sets' files.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=None,
    help="Runs trained at a time; 0 trains in this process.  [default: one a core]",
)
def demo(out: str, data: str, data_dir: str | None, workers: int | None) -> None:
    """Train six conditions with three seeds each, record, analyze, draw and report.

    BP, FA, FA with batch norm, with Muon, with both, and a control with frozen hidden layers. Muon takes the
    weights of all layers but the last. This is `fadiag study demo`. Complete runs in the folder are used
    again, so an interrupted demo continues where it stopped.
    """
    from fadiag.cli.progress import bar
    from fadiag.studies import find_study, load_study, run_study

    if data != "digits" and data_dir is None:
        raise click.UsageError(f"--data {data} needs --data-dir, the folder of its files")
    given = [] if data_dir is None else [f"base.data.folder={absolute_path(data_dir)}"]
    study = load_study(find_study("demo"), profile="cpu" if data == "digits" else data, overrides=given)
    folder = absolute_path(out)
    found = run_study(study, folder, workers=workers, progress=bar, command=command_line())
    lines = {line for store in found.stores.values() if (line := _muon_layers(store)) is not None}
    for line in sorted(lines):
        say(line)
    say("")
    say("means                     test accuracy   effective rank of the last hidden layer's error")
    for row in _rows(folder / "conditions.csv"):
        accuracy, rank = (row[key] or "nan" for key in ("test_accuracy", "error_effective_rank_raw"))
        say(f"{row['condition']:20} {100 * float(accuracy):16.1f} % {float(rank):14.1f}")
    say(f"\n{study.question}\n{found.answer}\n")
    for figure in (figures := _rows(folder / "figures.csv")):
        if figure["not_drawn"]:
            say(f"warning: figure {figure['name']} is not drawn: {figure['not_drawn']}", err=True)
    names = ", ".join(figure["name"] for figure in figures if not figure["not_drawn"])
    first = next(iter(found.stores.values()))
    say(f"stores   {folder / 'pool'} ({len(found.stores)} runs; look into one: fadiag inspect {first})")
    say(f"results  {folder / 'results.zarr'}")
    say(f"figures  {folder / 'figures'} ({names}: PDF, PNG, the numbers as CSV, the caption as LaTeX)")
    say(f"page     {folder / 'page.md'}")
    say(f"report   {folder / 'report.html'}")
