"""``fadiag compare``: two results, metric by metric."""

import click

__all__ = ["compare"]


@click.command(short_help="Compare the final values of two results.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--methods", nargs=2, metavar="A B", help="The method of A and that of B, where results hold several."
)
@click.option("--all", "everything", is_flag=True, help="Show what does not differ, too.")
@click.option("-o", "--out", type=click.Path(), help="Also write the whole table as CSV.")
def compare(a: str, b: str, methods: tuple[str, str] | None, everything: bool, out: str | None) -> None:
    """Compare the final values of the results A and B: difference B - A with its 95 % interval over runs.

    Paired where both have runs of the same seeds, two-way random effects where each seed was run with each
    feedback seed. Intervals are one by one: of twenty rows that do not differ one will seem to. The p-value
    is that of all layers of a variable together, and needs six pairs. A run without a number at the last
    record is left out; what is left out or refused is said below the table.
    """
    from fadiag.analysis import compare as measure
    from fadiag.analysis import load
    from fadiag.cli.terminal import table
    from fadiag.errors import InputError

    with load(a) as first, load(b) as second:
        found = measure(first, second, methods=methods)
    shown = found if everything else found[found["differs"]]
    numbers = ("a", "b", "difference", "low", "high", "p")
    columns = ("stream", "variable", "layer", "runs", "design", *numbers)
    rows = (
        tuple(
            ("-" if row[name] != row[name] else f"{row[name]:.4g}") if name in numbers else str(row[name])
            for name in columns
        )
        for row in shown.to_dict("records")
    )
    table(columns, rows)
    click.echo(f"{int(found['differs'].sum())} of {len(found)} differ (95 % interval leaves out 0)")
    for note, count in found["note"].value_counts().items():
        if note:
            click.echo(f"{count} of {len(found)}: {note}")
    if out:
        try:
            found.to_csv(out, index=False)
        except OSError as cause:
            raise InputError(f"the table cannot be written to {out}: {cause.strerror or cause}") from None
        click.echo(f"wrote {out}")
