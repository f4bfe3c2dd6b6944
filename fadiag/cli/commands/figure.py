"""Define ``fadiag figure``, which draws one figure of the results, or all."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fadiag.cli.completion import complete_conditions, complete_figure, complete_layers, complete_results
from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import NewPath, checked_path
from fadiag.cli.several import Several, TakesSeveral
from fadiag.cli.terminal import say
from fadiag.errors import FadiagError, InputError
from fadiag.paths import absolute_path

if TYPE_CHECKING:
    import xarray as xr

    from fadiag.figures import Figure

__all__ = ["figure"]


def _list(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from fadiag.figures import FIGURES, ON_REQUEST

    width = max(len(each.name) for each in (*FIGURES, *ON_REQUEST))
    for each in (*FIGURES, *ON_REQUEST):
        say(f"{each.name:<{width}}  {each.title}")
    ctx.exit()


@click.command(cls=TakesSeveral, short_help="Draw one figure of the results, or all.")
@click.argument("name", shell_complete=complete_figure)
@click.argument("results", type=click.Path(), required=False, shell_complete=complete_results)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    is_eager=True,
    help="Draw all figures of RESULTS into the folder -o; NAME is left out.",
)
@click.option(
    "-o",
    "--out",
    type=NewPath(),
    help="The file to write: .pdf, .png or .svg; without a suffix, all three.  [default: NAME.pdf, or the "
    "folder figures with --all]",
)
@click.option(
    "--style",
    default="screen",
    show_default=True,
    help="The look: screen, nature, neurips, icml, iclr or slides.",
)
@click.option(
    "--conditions",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_conditions,
    help="Draw only these conditions, in this order.",
)
@click.option(
    "--layer",
    "--layers",
    "layers",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_layers,
    help="Draw only these layers; a name may be a pattern such as 'fc*'.",
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
def figure(
    *,
    name: str,
    results: str | None,
    everything: bool,
    out: str | None,
    style: str,
    conditions: tuple[str, ...],
    layers: tuple[str, ...],
    strict: bool,
) -> None:
    """Draw the figure NAME of RESULTS (the output of analyze), and print its caption.

    The numbers that are drawn (.csv) and the caption (.tex) are written next to it. With --all, a figure that
    cannot be drawn is named with the reason, and the others are drawn.
    """
    from fadiag import figures
    from fadiag.results import load_results

    if everything:
        if results is not None:
            raise click.UsageError("--all takes no NAME, RESULTS alone")
        path, chosen = name, [*figures.FIGURES, *figures.ON_REQUEST]
    elif results is None:
        raise click.UsageError("Missing argument 'RESULTS'; to draw all figures of one, add --all")
    else:
        path = results
        try:
            chosen = [figures.find(name)]
        except InputError as error:
            raise click.BadParameter(str(error), param_hint="NAME") from None
    try:
        figures.size(style)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="'--style'") from None
    if everything:
        folder = checked_path(_folder, out or "figures")
        with figures.style(style), figures.theme(order=conditions):
            _draw_all(chosen, _part(load_results(path), conditions, layers), folder, strict=strict)
        return
    target = out or f"{name}.pdf"
    checked_path(lambda given: figures.check_path(given)[0], target)
    tree = _part(load_results(path), conditions, layers)
    say_left_out(chosen[0].left_out(tree), strict=strict)
    with figures.style(style), figures.theme(order=conditions):
        drawn = chosen[0].draw(tree)
        written = figures.save(drawn, target)
    say(figures.caption(drawn))
    for file in written:
        say(f"wrote {file}")


def _folder(path: str) -> Path:
    """Return the folder of all figures; raise InputError if it is a file."""
    folder = absolute_path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; with --all name a folder")
    return folder


def _part(results: "xr.DataTree", conditions: tuple[str, ...], layers: tuple[str, ...]) -> "xr.DataTree":
    """Return the results of some conditions and layers."""
    from fadiag.results import select, select_layers

    if conditions:
        results = select(results, condition=list(conditions))
    return select_layers(results, layers) if layers else results


def _draw_all(chosen: "list[Figure]", tree: "xr.DataTree", folder: Path, *, strict: bool) -> None:
    """Draw what can be drawn; name each other figure with its reason."""
    from fadiag import figures
    from fadiag.cli.progress import bar
    from fadiag.figures.base.record import missing_of
    from fadiag.results.left_out import left_out, told_by_run

    lacking = {each.name: each.missing(tree) for each in chosen}
    partly = [
        f"{each.name}: {', '.join(gone)} not in the results"
        for each in chosen
        if 0 < len(gone := lacking[each.name]) < len(each.needs)
    ]
    say_left_out([*told_by_run(left_out(tree)), *partly], strict=strict)
    folder.mkdir(parents=True, exist_ok=True)
    drawn, refused = [], []
    with bar("drawing") as move:
        for done, each in enumerate(chosen):
            move(done, len(chosen), each.name)
            try:
                if len(lacking[each.name]) == len(each.needs):
                    raise InputError(f"the results hold no {', '.join(each.needs)}")
                canvas = each.draw(tree)
                if why := missing_of(canvas):
                    raise InputError(why)
                figures.save(canvas, folder / each.name, formats=("pdf", "png"))
                drawn.append(each.name)
            except FadiagError as error:
                refused.append(f"{each.name}: {error}")
        move(len(chosen), len(chosen))
    for line in refused:
        say(f"not drawn: {line}", err=True)
    say(f"wrote {len(drawn)} of {len(chosen)} figures to {folder}: {', '.join(drawn) or 'none'}")
    if not drawn or (strict and refused):
        raise InputError(f"{len(refused)} of {len(chosen)} figures are not drawn")
