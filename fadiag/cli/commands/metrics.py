"""Define ``fadiag metrics``, which lists all metrics with their definitions."""

import json
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from fadiag.cli.terminal import say, width
from fadiag.errors import InputError

if TYPE_CHECKING:
    from fadiag.analysis import Metric

__all__ = ["metrics"]


@click.command(short_help="List the metrics with their definitions.")
@click.argument("words", metavar="[FILTER]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def metrics(words: tuple[str, ...], as_json: bool) -> None:
    """List the metrics that analyze measures, each with its definition.

    FILTER is a part of the name or of the description, or a pattern such as 'error_*_raw'. With several,
    a metric must match all of them.
    """
    from fadiag.analysis import TABLE

    chosen = [metric for metric in TABLE if all(_matches(metric, word) for word in words)]
    if not chosen:
        raise InputError(
            f"no metric matches {' '.join(words)!r}; leave the filter out to see all {len(TABLE)}"
        )
    if as_json:
        say(json.dumps([_entries(metric) for metric in chosen], indent=2))
        return
    for place, metric in enumerate(chosen):
        if place:
            say()
        say(metric.name)
        for key, text in _definition(metric):
            head = f"  {key:<9}"
            say(
                textwrap.fill(
                    text,
                    max(width(), 40),
                    initial_indent=head,
                    subsequent_indent=" " * len(head),
                )
            )


def _matches(metric: "Metric", word: str) -> bool:
    return word in metric.name or word.lower() in metric.long_name.lower() or fnmatchcase(metric.name, word)


def _definition(metric: "Metric") -> Iterator[tuple[str, str]]:
    from fadiag.analysis.metrics.metric import LAYERS

    yield "", metric.long_name
    yield "formula", metric.formula
    yield "source", metric.source
    yield "signals", f"{', '.join(metric.signals)} ({', '.join(metric.kinds)})"
    if metric.units != "1":
        yield "unit", metric.units
    if metric.bound_formula:
        yield "at most", metric.bound_formula
    if metric.null_definition:
        yield "null", metric.null_definition
    if metric.layers != "all":
        yield "layers", LAYERS[metric.layers]
    if metric.undefined:
        yield "no value", metric.undefined


def _entries(metric: "Metric") -> dict[str, Any]:
    """Return a metric as plain data."""
    names = ("name", "long_name", "formula", "source", "units", "signals", "kinds", "centered", "needs")
    more = ("bound_formula", "null_definition", "layers", "undefined", "version")
    return {name: getattr(metric, name) for name in (*names, *more)}
