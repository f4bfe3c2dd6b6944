"""Define ``fadiag watch``, which follows a run that another process records."""

import math
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fadiag.cli.group import Ended
from fadiag.cli.progress import duration
from fadiag.cli.sizes import size
from fadiag.cli.terminal import plain, say

if TYPE_CHECKING:
    from fadiag.analysis import LiveState

__all__ = ["watch"]


@click.command(short_help="Follow a run while it is recorded.")
@click.argument("run", type=click.Path())
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="The time between two looks.",
)
@click.option("--once", is_flag=True, help="Print one state and exit.")
def watch(run: str, every: float, once: bool) -> None:
    """Follow RUN while another process records it: loss, speed, time left, rank, dead layers, disk.

    Only committed records are read, and nothing is written. The rank is the effective rank of the error, raw,
    at the primary layer, in the newest record of the probe. The command ends with the run.
    """
    from fadiag.analysis import live_state

    try:
        state = live_state(run)
        if once or not sys.stdout.isatty():
            say(_line(state))
            while not once and state.status == "recording":
                time.sleep(every)
                last, state = state, live_state(run, state)
                if (state.updated, state.status) != (last.updated, last.status):
                    say(_line(state))
        else:
            _follow(run, state, every)
    except KeyboardInterrupt:
        raise Ended from None


def _follow(run: str, state: "LiveState", every: float) -> None:
    """Refresh the state in its place on a terminal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from fadiag.analysis import live_state

    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(Text("\n".join(f"{key:<10}{value}" for key, value in _parts(state))), refresh=True)
            if state.status != "recording":
                break
            time.sleep(every)
            state = live_state(run, state)


def _line(state: "LiveState") -> str:
    return ", ".join(f"{key} {value}" for key, value in _parts(state) if key != "run")


def _parts(state: "LiveState") -> Iterator[tuple[str, str]]:
    yield "run", plain(str(state.path))
    age = f"committed {duration(time.time() - state.updated)} ago"
    yield "status", f"{plain(state.status)}, {'nothing committed yet' if state.step is None else age}"
    if state.step is not None:
        yield "step", str(state.step) if state.steps is None else f"{state.step} of {state.steps}"
    if state.loss is not None:
        yield "loss", f"{state.loss:.4g}"
    if state.status == "recording" and state.steps_per_second is not None:
        yield "speed", f"{state.steps_per_second:.3g} steps/s"
        if state.seconds_left is not None:
            yield "left", duration(state.seconds_left)
    if state.rank is not None:
        rank = "not finite" if math.isnan(state.rank) else f"{state.rank:.1f}"
        yield "rank", f"{rank} at {plain(state.layer)} (step {state.rank_step})"
        yield "dead", plain(", ".join(state.dead)) or "none"
    if state.stored_bytes:
        yield "disk", size(state.stored_bytes)
