"""What the check of error_bp found in each layer of each run, and where that leaves doubt."""

from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr

__all__ = ["ERROR_CHECK", "FAILED", "UNCHECKED", "check_of", "doubts", "doubts_by_verdict"]

#: The attribute of a layer in a store, and the coordinate (run, layer) of the results.
ERROR_CHECK = "error_bp_check"
PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"
#: What each verdict means, but for "passed": the doubt that it leaves.
_DOUBTS = {
    FAILED: "is not the derivative of the loss, and was left out",
    "inconclusive": "may or may not be the derivative of the loss: the check could not tell",
    "zero": "was 0 when it was checked, which says nothing",
    "off": "was not checked: check='off'",
    UNCHECKED: "was not checked",
}


def check_of(attrs: Mapping[str, Any], *, has_error_bp: bool = False) -> str:
    """Return the verdict on a layer, from its attributes in a store; "" where nothing needs a check.

    Parameters
    ----------
    attrs : mapping
    has_error_bp : bool
        Whether a signal of the exact backward pass was recorded, so that a check is due.

    Examples
    --------
    >>> check_of({"error_bp_check": "passed"}), check_of({}, has_error_bp=True), check_of({})
    ('passed', 'unchecked', '')
    """
    return str(attrs.get(ERROR_CHECK, UNCHECKED if has_error_bp else ""))


def doubts_by_verdict(verdicts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a sentence of each verdict that leaves doubt, of pairs (layer, verdict).

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
    """Return where error_bp is not known to be right: run, stream, verdict, and what it says of the layers.

    Examples
    --------
    >>> found = {"run": ["a"], "layer": ["fc"], "error_bp_check": (("run", "layer"), [["inconclusive"]])}
    >>> [told[:3] for told in doubts(xr.DataTree.from_dict({"/probe": xr.Dataset(coords=found)}))]
    [('a', 'probe', 'inconclusive')]
    """
    found = []
    for stream, node in results.children.items():
        dataset = node.to_dataset()
        for i, run in enumerate(dataset["run"].values if ERROR_CHECK in dataset.coords else ()):
            own = dataset[ERROR_CHECK].isel(run=i)
            verdicts = zip(map(str, own["layer"].values), map(str, own.values), strict=True)
            found += [(str(run), str(stream), *told) for told in doubts_by_verdict(verdicts).items()]
    return found
