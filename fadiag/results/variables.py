"""Find a variable in the streams of the results."""

from collections.abc import Sequence
from difflib import get_close_matches

import xarray as xr

from fadiag.errors import MissingSignalError

__all__ = ["SPECTRUM_STEP", "find_variable", "missing_variables", "streams_of"]

#: The dimension of the steps at which spectra are kept; they are fewer than the steps of their stream.
SPECTRUM_STEP = "spectrum_step"
#: Kinds of streams that may hold the same variables; the preferred one is first. On the fixed batch of a
#: probe only training changes the values. In a live stream the drawn batches change them too.
_PASSES = ("probe", "live")


def _kind(node: xr.DataTree) -> str:
    return str(node.attrs.get("kind", node.name))


def streams_of(results: xr.DataTree, names: Sequence[str]) -> tuple[str, ...]:
    """Return the probe and live streams that have any of the variables, the preferred stream first.

    A probe comes before a live stream. Then a stream with more of the variables comes first, then the order
    of the results counts.
    """
    held = {
        stream: (_PASSES.index(_kind(node)), -many)
        for stream, node in results.children.items()
        if _kind(node) in _PASSES and (many := sum(name in node.data_vars for name in names))
    }
    return tuple(sorted(held, key=lambda stream: held[stream]))


def find_variable(results: xr.DataTree, name: str, streams: Sequence[str]) -> tuple[str, xr.DataArray] | None:
    """Return a variable and its stream: the first of `streams`, or a stream of state or log.

    A variable with layers is preferred, since a user may log a scalar under the name of a metric.
    """
    held = [
        (key, node.to_dataset()[name])
        for key, node in results.children.items()
        if name in node.data_vars and (key in streams[:1] or _kind(node) not in _PASSES)
    ]
    return min(held, key=lambda at: "layer" not in at[1].dims, default=None)


def missing_variables(results: xr.DataTree, names: Sequence[str], stream: str | None) -> MissingSignalError:
    """Return the error for variables that are not in the results, or not in one of their streams."""
    held = sorted({str(v) for node in results.subtree for v in node.data_vars})
    near = [n for name in names for n in get_close_matches(name, held, n=2)]
    where = (f" in stream '{stream}'" if stream else " by layer") if any(n in held for n in names) else ""
    similar = f" (similar names are {', '.join(dict.fromkeys(near))})" if near and not where else ""
    return MissingSignalError(
        f"the results hold no {', '.join(names)}{where}{similar}; record or log what is missing and analyze "
        "again"
    )
