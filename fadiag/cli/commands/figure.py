"""Define ``fadiag figure``, which draws one figure of the results."""

import click

from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import checked_path

__all__ = ["figure"]


def _list(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from fadiag.figures import FIGURES

    width = max(len(each.name) for each in FIGURES)
    for each in FIGURES:
        click.echo(f"{each.name:<{width}}  {each.title}")
    ctx.exit()


@click.command(short_help="Draw one figure of the results.")
@click.argument("name")
@click.argument("results", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(), help="The file to write: .pdf, .png or .svg.  [default: NAME.pdf]"
)
@click.option("--numbers", type=click.Path(), help="Also write the numbers of the figure as CSV.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the figures and exit.",
)
@strict_option
def figure(name: str, results: str, out: str | None, numbers: str | None, strict: bool) -> None:
    """Draw the figure NAME of RESULTS (the output of analyze), and print its caption."""
    from fadiag.errors import InputError
    from fadiag.figures import check_numbers, check_suffix, find, save, write_numbers
    from fadiag.results import load_results

    try:
        chosen = find(name)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    path = checked_path(check_suffix, out or f"{name}.pdf")
    table = checked_path(check_numbers, numbers, "'--numbers'") if numbers else None
    tree = load_results(results)
    say_left_out(chosen.left_out(tree), strict=strict)
    save(chosen.draw(tree), path)
    if table:
        write_numbers(chosen.numbers(tree), table)
    click.echo(chosen.caption(tree))
    for written in (path, table):
        if written:
            click.echo(f"wrote {written}")
