"""Define ``fadiag table``, which prints the table of a paper."""

import click

from fadiag.cli.completion import complete_conditions, complete_layers, complete_metrics, complete_results
from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import STDOUT
from fadiag.cli.several import Several, TakesSeveral
from fadiag.cli.terminal import say
from fadiag.cli.terminal import table as show
from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["table"]


@click.command(cls=TakesSeveral, short_help="Print the table of a paper, as text, LaTeX or CSV.")
@click.argument("results", type=click.Path(), shell_complete=complete_results)
@click.option(
    "--metric",
    "metrics",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_metrics,
    help="The metrics.  [default: the primary one, effective rank and participation ratio of the error]",
)
@click.option(
    "--layer",
    "--layers",
    "layer",
    metavar="NAME",
    shell_complete=complete_layers,
    help="The layer.  [default: the primary one]",
)
@click.option(
    "--conditions",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_conditions,
    help="The conditions, in this order.  [default: all]",
)
@click.option("--latex", is_flag=True, help="A tabular with the rules of booktabs.")
@click.option("--csv", is_flag=True, help="All digits, one row for each condition and metric.")
@click.option(
    "-o",
    "--out",
    default=STDOUT,
    type=click.Path(),
    help="The file to write, with --latex or --csv.  [default: -, stdout]",
)
@strict_option
def table(
    *,
    results: str,
    metrics: tuple[str, ...],
    layer: str | None,
    conditions: tuple[str, ...],
    latex: bool,
    csv: bool,
    out: str,
    strict: bool,
) -> None:
    """Print the final values of RESULTS: conditions as rows, metrics at one layer, and accuracies.

    Each number is the mean over seeds with its 95 % t interval, at the last step that all conditions have.
    """
    from fadiag.results import condition_table, load_results
    from fadiag.results.left_out import left_out, told_by_run

    if latex and csv:
        raise click.UsageError("--latex and --csv exclude each other; give one of them")
    if out != STDOUT and not (latex or csv):
        raise click.UsageError("-o needs --latex or --csv")
    tree = load_results(results)
    say_left_out(told_by_run(left_out(tree)), strict=strict)
    made = condition_table(tree, metrics or None, layer=layer, conditions=conditions)
    if not (latex or csv):
        show(made.head(), made.rows())
        say(f"\n{made.caption()}")
        return
    text = made.latex() if latex else made.csv()
    if out == STDOUT:
        say(text.removesuffix("\n"))
        return
    path = absolute_path(out)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as cause:
        raise InputError(f"the table cannot be written to {path}: {cause.strerror or cause}") from None
    say(f"wrote {path}")
