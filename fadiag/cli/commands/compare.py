"""Define ``fadiag compare``, which compares two results metric by metric."""

import math
from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fadiag.cli.completion import complete_conditions, complete_layers, complete_metrics, complete_results
from fadiag.cli.left_out import say_left_out, strict_option
from fadiag.cli.path_checks import STDOUT, checked_path
from fadiag.cli.several import Several, TakesSeveral
from fadiag.cli.terminal import say, table
from fadiag.errors import InputError
from fadiag.paths import absolute_path

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

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


@click.command(cls=TakesSeveral, short_help="Compare the final values of two results.")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path(), required=False, shell_complete=complete_results)
@click.option(
    "--conditions",
    nargs=2,
    metavar="A B",
    shell_complete=complete_conditions,
    help="The conditions of A and B to compare, if the results hold several.",
)
@click.option(
    "--metric",
    "metrics",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_metrics,
    help="Show only these metrics; a name may be a pattern such as 'error_*_raw'.",
)
@click.option(
    "--layer",
    "--layers",
    "layers",
    cls=Several,
    metavar="NAME...",
    shell_complete=complete_layers,
    help="Show only these layers; a name may be a pattern such as 'fc*'.",
)
@click.option("--all", "everything", is_flag=True, help="Also show rows that do not differ.")
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="Also write these rows, and those that do not differ, as CSV; - is stdout.",
)
@strict_option
def compare(
    *,
    a: str,
    b: str | None,
    conditions: tuple[str, str] | None,
    metrics: tuple[str, ...],
    layers: tuple[str, ...],
    everything: bool,
    out: str | None,
    strict: bool,
) -> None:
    """Compare the final values of the results A and B: the difference B - A with its 95 % interval over runs.

    Without B, the conditions of A are compared. Runs are paired if both results have the same seeds. If each
    seed was run with each feedback seed, the interval comes from two-way random effects. The level holds for
    each interval alone: of twenty rows without a difference, one will seem to differ. The p-value holds for
    all layers of a variable together, and needs six pairs.

    Values are those of the last step that both results have. A run without a number there is left out, and
    its rows do not count as different, since a run that diverged is not lost at random. Notes below the table
    list what was left out or not compared.

    Rows are sorted by effect: the difference in half-widths of its interval.
    """
    from fadiag.analysis import by_effect
    from fadiag.analysis import compare as measure
    from fadiag.results import load_results
    from fadiag.results.left_out import left_out, told_by_run

    path = checked_path(_check_table, out) if out and out != STDOUT else None
    if b is None and conditions is None:
        raise click.UsageError("give B, or --conditions A B to compare two conditions of A")
    sides = {"a": load_results(a)}
    sides["b"] = sides["a"] if b in (None, a) else load_results(b)
    lost: dict[str, list[str]] = {}
    for side, tree in sides.items():
        for line in told_by_run(left_out(tree)):
            lost.setdefault(line, []).append(side)
    say_left_out([f"{' and '.join(of)}: {line}" for line, of in lost.items()], strict=strict)
    names = _names(sides, conditions)
    found = by_effect(
        _chosen(measure(sides["a"], sides["b"], conditions=conditions, names=names), metrics, layers)
    )
    if out == STDOUT:
        say(found.to_csv(index=False).removesuffix("\n"))
        return
    _show(found if everything else found[found["differs"]], names)
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


def _names(sides: "dict[str, xr.DataTree]", conditions: tuple[str, str] | None) -> tuple[str, str]:
    """Return what the sides are called: their conditions, if these tell them apart."""
    from fadiag.results.roles import roles

    held = conditions or [
        " ".join(found) for tree in sides.values() if len(found := roles(tree).conditions) == 1
    ]
    first, second = held if len(set(held)) == 2 else ("a", "b")
    return first, second


def _chosen(found: "pd.DataFrame", metrics: Sequence[str], layers: Sequence[str]) -> "pd.DataFrame":
    """Return the rows of some metrics and layers."""
    from fadiag.results.layers import matching_layers

    if metrics:
        kept = [any(name == one or fnmatchcase(name, one) for one in metrics) for name in found["variable"]]
        if not any(kept):
            close = get_close_matches(metrics[0], found["variable"].unique().tolist())
            near = f" (near: {', '.join(close)})" if close else ""
            raise InputError(
                f"no compared metric matches {' '.join(metrics)!r}{near}; leave --metric out to see all"
            )
        found = found[kept]
    if layers:
        found = found[found["layer"].isin(matching_layers(filter(None, found["layer"]), layers))]
    return found


def _show(rows: "pd.DataFrame", names: tuple[str, str]) -> None:
    """Print the rows; what all of them share is said once, so that they fit 80 columns."""
    alike = {key: rows[key].unique().tolist() for key in ("runs", "design")}
    varying = [key for key, values in alike.items() if len(values) > 1]
    streams = rows.groupby("variable")["stream"].nunique()
    with_p = rows["p"].notna().any()
    head = ["variable", "layer", *names, "difference [95 % interval]", *(["p"] if with_p else []), *varying]
    lines = [
        (
            f"{row['stream']}/{row['variable']}" if streams[row["variable"]] > 1 else row["variable"],
            row["layer"],
            *(_number(row[side]) for side in ("a", "b")),
            _difference(row),
            *([_number(row["p"])] if with_p else []),
            *(str(row[key]) for key in varying),
        )
        for row in rows.to_dict("records")
    ]
    table(head, lines, numbers=(2, 3))
    if len(rows):
        runs, designs = alike["runs"], alike["design"]
        shared = [f"{runs[0]} run{'s' * (runs[0] != 1)} a side"] if len(runs) == 1 else []
        shared += [designs[0]] if len(designs) == 1 and designs[0] else []
        say("; ".join((f"difference: {names[1]} - {names[0]}", *shared)))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"


def _difference(row: "dict[Hashable, Any]") -> str:
    ends = f" [{_number(row['low'])}, {_number(row['high'])}]" if row["low"] == row["low"] else ""
    return f"{_number(row['difference'])}{ends}"
