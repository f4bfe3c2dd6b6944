"""Print what a store holds: ``fadiag inspect``."""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from fadiag.cli.several import Several, TakesSeveral
from fadiag.cli.sizes import size
from fadiag.cli.terminal import say, table, width

if TYPE_CHECKING:
    from fadiag.store import RunSummary, SignalSummary, StreamSummary

__all__ = ["inspect"]

SHOWN_GAPS = 5

#: The signals of a layer by their shape and type. Most signals of a layer have the same.
_Groups = Mapping[tuple[str, str], Sequence["SignalSummary"]]


@click.command(cls=TakesSeveral, short_help="Show what a store holds.")
@click.argument("run", metavar="RUN", type=click.Path())
@click.option(
    "--layer",
    "--layers",
    "layers",
    cls=Several,
    metavar="NAME...",
    help="Show only these layers; a name may be a pattern such as 'fc*'.",
)
@click.option("--arrays", is_flag=True, help="Also list the arrays of each layer, with shape, type and NaNs.")
@click.option("--json", "as_json", is_flag=True, help="Print all metadata as JSON.")
def inspect(run: str, layers: tuple[str, ...], arrays: bool, as_json: bool) -> None:
    """Show what the store RUN holds, also while it is recorded: manifest, layers, streams, gaps.

    Only metadata are read, and nothing is written.
    """
    from fadiag.store import inspect_run, printable

    summary = inspect_run(run)
    if layers:
        summary = _of_layers(summary, layers)
    if as_json:
        say(json.dumps(_data(summary), indent=2))
        return
    for key, value in _head(summary):
        say(_entry(printable(key), printable(value)))
    if shown := summary.layer_table(width()):
        say(f"\n{shown}")
    streams = [tuple(map(printable, _stream_row(stream))) for stream in summary.streams]
    table(("stream", "kind", "records", "steps", "every", "skipped", "layers", "on disk"), streams)
    if arrays:
        signals = [tuple(map(printable, row)) for row in _signal_rows(summary.streams)]
        table(("stream", "layer", "signals", "shape", "type", "bytes", "NaN"), signals)
    for stream in summary.streams:
        if stream.gaps:
            shown = ", ".join(f"{a} to {b}" for a, b in stream.gaps[:SHOWN_GAPS])
            more = len(stream.gaps) - SHOWN_GAPS
            say(f"gaps in {printable(stream.name)}: {shown}{f' and {more} more' if more > 0 else ''}")
        for doubt in _doubts(stream):
            say(printable(f"{stream.name}: {doubt}"))


def _entry(key: str, value: str) -> str:
    """Return a line of the head; a long value has several, broken between words."""
    lines = textwrap.wrap(value, width() - 12, break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join(f"{name:<12}{line}" for name, line in zip_longest([key], lines, fillvalue=""))


def _of_layers(summary: "RunSummary", patterns: Sequence[str]) -> "RunSummary":
    """Return the summary of some layers, in the streams that have them."""
    from fadiag.results.layers import matching_layers

    names = [layer.name for stream in summary.streams for layer in stream.layers]
    wanted = set(matching_layers(names, patterns))
    streams = (
        replace(stream, layers=tuple(layer for layer in stream.layers if layer.name in wanted), signals=())
        for stream in summary.streams
    )
    return replace(summary, streams=tuple(stream for stream in streams if stream.layers))


def _data(value: Any) -> Any:
    """Return a summary as plain data; a number that JSON lacks is null."""
    if is_dataclass(value):
        return {field.name: _data(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_data(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _doubts(stream: "StreamSummary") -> Iterable[str]:
    """Name the layers whose error_bp may be wrong."""
    from fadiag.results.error_check import check_of, doubts_by_verdict
    from fadiag.signals import TWINS

    checks = []
    for layer in stream.layers:
        exact = any(signal.name in TWINS.values() for signal in layer.signals)
        checks.append((layer.name, check_of(layer.attrs, has_error_bp=exact)))
    return doubts_by_verdict(checks).values()


def _head(summary: "RunSummary") -> Iterable[tuple[str, str]]:
    info = summary.info
    yield "run", str(info.path)
    yield "status", info.status
    yield "id", f"{info.run_id}, generation {info.generation}"
    yield "created", _time(info.created)
    yield "updated", _time(info.updated)
    yield "on disk", size(summary.stored_bytes)
    for stream in summary.streams:
        spent, whole = (stream.attrs.get(f"{what}_seconds") for what in ("recording", "run"))
        if isinstance(spent, float) and isinstance(whole, float) and whole > 0:
            share = f"{100 * spent / whole:.1f} % of the run's time ({spent:.1f} s of {whole:.1f} s)"
            yield "recording", share
    for key, value in info.manifest.items():
        # Programs compare the hashes of the feedback; they say nothing to a reader.
        if key != "feedback_hash" and value not in (None, "", {}, []):
            yield key, _flat(value) if isinstance(value, Mapping) else str(value)


def _flat(value: Mapping[str, Any], above: str = "") -> str:
    parts = [
        _flat(inner, f"{above}{key}.") if isinstance(inner, Mapping) else f"{above}{key}={inner}"
        for key, inner in value.items()
        if inner is not None
    ]
    return ", ".join(part for part in parts if part)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")


def _stream_row(stream: "StreamSummary") -> tuple[str, ...]:
    steps = "none" if stream.first_step is None else f"{stream.first_step} to {stream.last_step}"
    return (
        stream.name,
        str(stream.attrs.get("kind", "")),
        str(stream.records),
        steps,
        "" if stream.every is None else str(stream.every),
        str(stream.skipped),
        str(len(stream.layers)),
        size(stream.stored_bytes),
    )


def _signal_rows(streams: Sequence["StreamSummary"]) -> Iterable[tuple[str, ...]]:
    """Yield the rows of each stream; alike layers share theirs, as in the table of the layers."""
    from fadiag.store.tools.fold_layers import fold_layers, names_as_one

    for stream in streams:
        layers = [_by_shape(layer.signals) for layer in stream.layers]
        names = [layer.name for layer in stream.layers]
        keys = [
            tuple(
                (*shape, *((x.name, x.nan_count is None) for x in group)) for shape, group in groups.items()
            )
            for groups in layers
        ]
        yield from _rows(stream.name, "", [_by_shape(stream.signals)])
        for line in fold_layers(names, keys):
            yield from _rows(stream.name, names_as_one(names[line]), layers[line])


def _by_shape(signals: Sequence["SignalSummary"]) -> _Groups:
    groups: dict[tuple[str, str], list[SignalSummary]] = {}
    for signal in signals:
        axes = zip(signal.dims, signal.shape, strict=True)
        shape = " × ".join(f"{dim} {length}" for dim, length in axes)
        groups.setdefault((shape, signal.dtype), []).append(signal)
    return groups


def _rows(stream: str, layer: str, alike: Sequence[_Groups]) -> Iterable[tuple[str, ...]]:
    """Yield a row for each shape of the signals, with the bytes and NaNs of all alike layers."""
    for (shape, dtype), group in alike[0].items():
        signals = [signal for groups in alike for signal in groups[shape, dtype]]
        counts = [signal.nan_count for signal in signals if signal.nan_count is not None]
        names = ", ".join(signal.name for signal in group)
        total = size(sum(signal.nbytes for signal in signals))
        yield stream, layer, names, shape, dtype, total, str(sum(counts)) if counts else "not counted"
