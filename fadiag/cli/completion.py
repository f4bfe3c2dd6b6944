"""Complete names in a shell: figures, studies, and what the results on the line hold.

Each press of the key starts Python, so nothing slow is imported: neither xarray nor matplotlib.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fadiag.cli.several import open_option
from fadiag.paths import absolute_path

__all__ = ["FIGURE_NAMES", "complete_conditions", "complete_figure", "complete_layers", "complete_metrics"]
__all__ += ["complete_results", "complete_study"]

#: The figures of `fadiag.figures`, whose import takes more than a second. A test compares the two.
FIGURE_NAMES = (
    "rank_by_depth",
    "rank_gap",
    "rank_over_training",
    "conditions",
    "accuracy_over_training",
    "credit_cosine",
    "alignment_over_training",
    "overlap_over_training",
    "accuracy_against_rank",
    "layer_step_heatmap",
    "update_chain",
    "cosine_over_training",
    "rank_ratios",
    "spectrum",
    "two_by_two",
)
#: The arguments of commands that are results.
_RESULTS = ("results", "a", "b", "name")

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _items(names: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin so; one that a shell could not show or take is left out."""
    return [
        CompletionItem(name)
        for name in dict.fromkeys(names)
        if name.startswith(incomplete) and name.isprintable()
    ]


def _files(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def complete_results(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a path, or another word of the open option before it."""
    option = open_option(ctx)
    return _files(incomplete) if option is None else option.shell_complete(ctx, incomplete)


def complete_figure(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a figure; under ``--all`` the path of the results."""
    if ctx.params.get("everything"):
        return complete_results(ctx, param, incomplete)
    return _items(FIGURE_NAMES, incomplete)


def complete_study(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a study that comes with fadiag, or a file."""
    from fadiag.studies.declared.shipped import shipped_studies

    return _items(list(shipped_studies()), incomplete) or _files(incomplete)


def _of_results(read: Callable[[Path], Iterator[str]]) -> Complete:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given = [ctx.params[name] for name in _RESULTS if isinstance(ctx.params.get(name), str)]
        names: list[str] = []
        for path in map(absolute_path, given):
            try:
                names += read(path)
            except Exception:
                continue
        return _items(names, incomplete)

    return complete


def _arrays(results: Path) -> dict[str, Any]:
    """Return the metadata of the arrays of results, by stream and name."""
    text = (results / "zarr.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["consolidated_metadata"]["metadata"]
    return {path: array for path, array in found.items() if array["node_type"] == "array"}


def _metrics(results: Path) -> Iterator[str]:
    """Yield the variables of results, without their nulls."""
    for path, array in _arrays(results).items():
        name = path.rpartition("/")[2]
        if {"run", "step"} <= set(array["dimension_names"]) and "null_" not in name:
            yield name


def _labels(name: str) -> Callable[[Path], Iterator[str]]:
    def read(results: Path) -> Iterator[str]:
        import zarr

        for path in _arrays(results):
            if path.endswith(f"/{name}"):
                yield from map(str, zarr.open_array(results / path, mode="r")[:])  # type: ignore[arg-type]

    return read


complete_metrics = _of_results(_metrics)
complete_conditions = _of_results(_labels("condition"))
complete_layers = _of_results(_labels("layer"))
