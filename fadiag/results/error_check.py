"""Read the result of the check of error_bp for each layer of each run, and list the doubtful ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr

__all__ = ["ERROR_CHECK", "FAILED", "UNCHECKED", "check_of", "doubts", "doubts_by_verdict"]

#: The attribute of a layer in a store, and the coordinate (run, layer) of the results.
ERROR_CHECK = "error_bp_check"
PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"
#: The meaning of each verdict except "passed".
_DOUBTS = {
    FAILED: "is not the derivative of the loss, and was left out",
    "inconclusive": "may or may not be the derivative of the loss: the check was inconclusive",
    "zero": "was 0 during the check, which therefore shows nothing",
    "off": "was not checked: check='off'",
    UNCHECKED: "was not checked",
}


def check_of(attrs: Mapping[str, Any], *, has_error_bp: bool = False) -> str:
    """Return the verdict on a layer, from its attributes in a store; "" if no check is needed.

    Parameters
    ----------
    attrs : mapping
        The attributes of the layer.
    has_error_bp : bool
        Whether a signal of the exact backward pass was recorded, which needs a check.

    Examples
    --------
    >>> check_of({"error_bp_check": "passed"}), check_of({}, has_error_bp=True), check_of({})
    ('passed', 'unchecked', '')
    """
    return str(attrs.get(ERROR_CHECK, UNCHECKED if has_error_bp else ""))


def doubts_by_verdict(verdicts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a sentence for each doubtful verdict, from pairs (layer, verdict).

    Examples
    --------
    >>> doubts_by_verdict([("fc1", "inconclusive"), ("fc2", "passed"), ("fc3", "off")])["off"]
    "error_bp of layer 'fc3' was not checked: check='off'"
    """
    layers: dict[str, list[str]] = {}
    for layer, verdict in verdicts:
        if verdict not in ("", PASSED):
            layers.setdefault(verdict, []).append(repr(layer))
    return {
        verdict: f"error_bp of layer{'s' * (len(names) > 1)} {', '.join(names)} "
        f"{_DOUBTS.get(verdict, f'has the verdict {verdict!r}')}"
        for verdict, names in layers.items()
    }


def doubts(results: xr.DataTree) -> list[tuple[str, str, str, str]]:
    """Return where error_bp may be wrong: the run, the stream, the verdict, and a sentence on the layers.

    Examples
    --------
    >>> found = {"run": ["a"], "layer": ["fc"], "error_bp_check": (("run", "layer"), [["inconclusive"]])}
    >>> [doubt[:3] for doubt in doubts(xr.DataTree.from_dict({"/probe": xr.Dataset(coords=found)}))]
    [('a', 'probe', 'inconclusive')]
    """
    found = []
    for stream, node in results.children.items():
        dataset = node.to_dataset()
        for i, run in enumerate(dataset["run"].values if ERROR_CHECK in dataset.coords else ()):
            own = dataset[ERROR_CHECK].isel(run=i)
            verdicts = zip(map(str, own["layer"].values), map(str, own.values), strict=True)
            found += [(str(run), str(stream), *doubt) for doubt in doubts_by_verdict(verdicts).items()]
    return found
