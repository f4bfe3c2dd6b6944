"""``fadiag demo``: the rank study in small, from training to the report."""

from pathlib import Path

import click

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


@click.command(short_help="Train, record, analyze, draw and report a small study.")
@click.option(
    "-o",
    "--out",
    default="fadiag-demo",
    show_default=True,
    type=click.Path(file_okay=False),
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
    "--jobs", type=click.IntRange(min=1), default=None, help="Runs trained at a time.  [default: one a core]"
)
def demo(out: str, data: str, data_dir: str | None, jobs: int | None) -> None:
    """Train six conditions with three seeds each, record, analyze, draw and report.

    BP, FA, FA with batch norm, with Muon, with both, and a control with frozen hidden layers. Muon takes the
    weights of all layers but the last. Complete runs in the folder are used again, so an interrupted
    demo continues where it stopped.
    """
    from fadiag.analysis import analyze
    from fadiag.cli.progress import bar
    from fadiag.cores import available_cores
    from fadiag.errors import FadiagError
    from fadiag.figures import caption, drawable, save
    from fadiag.report import write_report
    from fadiag.training import demo_study, run_study

    if data != "digits" and data_dir is None:
        raise click.UsageError(f"--data {data} needs --data-dir, the folder of its files")
    folder = absolute_path(out)
    with bar("training") as move:
        stores = run_study(
            demo_study(data, data_dir), folder / "runs", jobs=jobs or available_cores(), progress=move
        )
    lines = {line for store in stores if (line := _muon_layers(store)) is not None}
    for line in sorted(lines):
        click.echo(line)
    with bar("analyzing") as move:
        results = analyze(stores, progress=move, output=folder / "results.zarr")
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    click.echo("")
    for figure in drawable(results):
        try:
            canvas = figure.draw(results)
        except FadiagError as error:
            click.echo(f"warning: figure {figure.name} is not drawn: {error}", err=True)
            continue
        save(canvas, pictures / figure.name, formats=("pdf", "png"))
        click.echo(f"{figure.title}: {caption(canvas)}\n")
    write_report(results, folder / "report.html")
    names = ", ".join(figure.name for figure in drawable(results))
    click.echo(f"stores   {folder / 'runs'} ({len(stores)} runs; look into one: fadiag inspect {stores[0]})")
    click.echo(f"results  {folder / 'results.zarr'}")
    click.echo(f"figures  {pictures} ({names}: PDF, PNG, the numbers as CSV, the caption as LaTeX)")
    click.echo(f"report   {folder / 'report.html'}")
