"""Define ``fadiag compare``, which compares two results metric by metric."""

from pathlib import Path

import click

from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import checked_path
from fadiag.cli.terminal import say, table
from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["compare"]

#: The beginning of the first line of a written table.
_HEAD = "stream,variable,layer,runs,design,"


def _check_table(path: str) -> Path:
    """Raise InputError, before any work is done, for a path where a table cannot or must not be written."""
    out = absolute_path(path)
    if out.suffix != ".csv":
        raise InputError(f"the table cannot be written to {out}: its name must end in .csv")
    if not out.parent.is_dir():
        raise InputError(f"the table cannot be written to {out}: there is no directory {out.parent}")
    if out.exists() and not _is_table(out):
        raise InputError(f"{out} exists and holds no such table; choose another name")
    return out


def _is_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD.encode()
    except OSError:  # a directory, or a file without permission
        return False


@click.command(short_help="Compare the final values of two results.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option(
    "--conditions",
    nargs=2,
    metavar="A B",
    help="The conditions of A and B to compare, if the results hold several.",
)
@click.option("--all", "everything", is_flag=True, help="Also show rows that do not differ.")
@click.option("-o", "--out", type=click.Path(), help="Also write the whole table as CSV.")
@strict_option
def compare(
    *,
    a: str,
    b: str,
    conditions: tuple[str, str] | None,
    everything: bool,
    out: str | None,
    strict: bool,
) -> None:
    """Compare the final values of the results A and B: the difference B - A with its 95 % interval over runs.

    Runs are paired if both results have the same seeds. If each seed was run with each feedback seed, the
    interval comes from two-way random effects. The level holds for each interval alone: of twenty rows
    without a difference, one will seem to differ. The p-value holds for all layers of a variable together,
    and needs six pairs.

    Values are those of the last step that both results have. A run without a number there is left out, and
    its rows do not count as different, since a run that diverged is not lost at random. Notes below the table
    list what was left out or not compared.
    """
    from fadiag.analysis import compare as measure
    from fadiag.results import load_results
    from fadiag.results.left_out import left_out, told_by_run

    path = checked_path(_check_table, out) if out else None
    sides = {"a": load_results(a), "b": load_results(b)}
    lost: dict[str, list[str]] = {}
    for side, tree in sides.items():
        for line in told_by_run(left_out(tree)):
            lost.setdefault(line, []).append(side)
    say_left_out([f"{' and '.join(of)}: {line}" for line, of in lost.items()], strict=strict)
    found = measure(sides["a"], sides["b"], conditions=conditions)
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
    rule = "the 95 % interval excludes 0, and no run is left out"
    say(f"{int(found['differs'].sum())} of {len(found)} differ ({rule})")
    for note, count in found["note"].value_counts().items():
        if note:
            say(f"{count} of {len(found)}: {note}")
    if path:
        try:
            found.to_csv(path, index=False)
        except OSError as cause:
            raise InputError(f"the table cannot be written to {path}: {cause.strerror or cause}") from None
        say(f"wrote {path}")
