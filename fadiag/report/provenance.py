"""Say how runs were recorded: torch, device, host, command and commit, and their configurations."""

import xarray as xr

from fadiag.report.tables import Table
from fadiag.results.recorded import recorded
from fadiag.results.run_labels import entries_of

__all__ = ["configurations", "recording"]

#: Entry of a store -> its words in the report.
_WORDS = {
    "versions.torch": "torch",
    "device": "device",
    "host": "host",
    "dtype": "dtype",
    "versions.fadiag": "fadiag",
    "versions.python": "Python",
    "status": "status",
    "command": "command",
    "commit": "commit",
}


def recording(results: xr.DataTree) -> Table:
    """Return how the runs were recorded; an entry in which they differ has the runs of each value."""
    entries = recorded(results)
    rows = []
    for key, words in _WORDS.items():
        values: dict[str, list[str]] = {}
        for run, own in entries.items():
            values.setdefault(own.get(key, "not recorded"), []).append(run)
        if list(values) in ([], ["not recorded"]):
            continue
        text = "; ".join(
            f"{value} ({_runs(runs)})" if len(values) > 1 else value for value, runs in values.items()
        )
        rows.append((words, text))
    for key in ("command", "commit"):
        rows += [(f"study's {key}", text) for text in entries_of(results, f"study_{key}")]
    note = "" if rows else "The results do not say how their runs were recorded."
    return Table(("entry", "value"), tuple(rows), note)


def _runs(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{len(names)} runs"


def configurations(results: xr.DataTree) -> tuple[Table, Table]:
    """Return the configuration that all runs share, and a table of the rest with a row per run."""
    stem = "config."
    entries = {
        run: {key.removeprefix(stem): value for key, value in own.items() if key.startswith(stem)}
        for run, own in recorded(results).items()
    }
    keys = dict.fromkeys(key for own in entries.values() for key in own)
    columns = {key: [own.get(key, "") for own in entries.values()] for key in keys}
    shared = {key: column[0] for key, column in columns.items() if len(set(column)) == 1}
    rest = [key for key in columns if key not in shared]
    rows = tuple((run, *(own.get(key, "") for key in rest)) for run, own in entries.items()) if rest else ()
    return Table(("entry", "value"), tuple(shared.items())), Table(("run", *rest), rows)
