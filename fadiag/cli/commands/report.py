"""Define ``fadiag report``, which writes the results as one HTML file."""

import click

from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import NewPath, checked_path
from fadiag.cli.terminal import say

__all__ = ["report"]


@click.command(short_help="Write the results as one HTML file.")
@click.argument("results", type=click.Path())
@click.option(
    "-o", "--out", default="report.html", show_default=True, type=NewPath(), help="The file to write."
)
@strict_option
def report(results: str, out: str, strict: bool) -> None:
    """Write RESULTS (the output of analyze) as one self-contained HTML file."""
    from fadiag.report import check_report, not_drawn, write_report
    from fadiag.results import load_results
    from fadiag.results.left_out import left_out, told_by_run

    checked_path(check_report, out)
    tree = load_results(results)
    say_left_out([*told_by_run(left_out(tree)), *not_drawn(tree)], strict=strict)
    write_report(tree, out)
    say(f"wrote {out}")
