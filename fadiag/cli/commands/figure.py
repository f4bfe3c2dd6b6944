"""Define ``fadiag figure``, which draws one figure of the results."""

import click

from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import NewPath, checked_path
from fadiag.cli.terminal import say

__all__ = ["figure"]


def _list(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from fadiag.figures import FIGURES, ON_REQUEST

    width = max(len(each.name) for each in (*FIGURES, *ON_REQUEST))
    for each in (*FIGURES, *ON_REQUEST):
        say(f"{each.name:<{width}}  {each.title}")
    ctx.exit()


@click.command(short_help="Draw one figure of the results.")
@click.argument("name")
@click.argument("results", type=click.Path())
@click.option(
    "-o",
    "--out",
    type=NewPath(),
    help="The file to write: .pdf, .png or .svg; without a suffix, all three.  [default: NAME.pdf]",
)
@click.option(
    "--style",
    default="screen",
    show_default=True,
    help="The look: screen, nature, neurips, icml, iclr or slides.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the figures and exit.",
)
@strict_option
def figure(name: str, results: str, out: str | None, style: str, strict: bool) -> None:
    """Draw the figure NAME of RESULTS (the output of analyze), and print its caption.

    Beside it are written the numbers that are drawn (.csv) and the caption (.tex).
    """
    from fadiag import figures
    from fadiag.errors import InputError
    from fadiag.results import load_results

    try:
        chosen = figures.find(name)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    try:
        figures.size(style)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="'--style'") from None
    target = out or f"{name}.pdf"
    checked_path(lambda given: figures.check_path(given)[0], target)
    tree = load_results(results)
    say_left_out(chosen.left_out(tree), strict=strict)
    with figures.style(style):
        drawn = chosen.draw(tree)
        written = figures.save(drawn, target)
    say(figures.caption(drawn))
    for file in written:
        say(f"wrote {file}")
