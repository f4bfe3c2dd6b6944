"""Find the conditions of results in their order, and those that play the baseline."""

from dataclasses import dataclass

import xarray as xr

from fadiag.results.run_labels import conditions_of, is_missing

__all__ = ["Roles", "baselines_first", "roles"]

#: The rule of runs without approximate feedback.
BASELINE_RULE = "bp"


@dataclass(frozen=True)
class Roles:
    """All conditions, baselines first, and the conditions all of whose runs have the rule "bp".

    Examples
    --------
    >>> runs = {"run": ["a", "b"], "condition": ("run", ["mine", "exact"]), "rule": ("run", ["fa", "bp"])}
    >>> roles(xr.DataTree.from_dict({"/log": xr.Dataset(coords=runs)}))
    Roles(conditions=('exact', 'mine'), baselines=('exact',))
    """

    conditions: tuple[str, ...]
    baselines: tuple[str, ...]


def roles(results: xr.DataTree) -> Roles:
    """Return the conditions of all streams and the baselines among them, see `Roles`."""
    rules: dict[str, set[str]] = {}
    for node in results.subtree:
        if "run" in node.coords:
            for condition, found in _rules(node.to_dataset()).items():
                rules.setdefault(condition, set()).update(found)
    return _ordered(rules)


def baselines_first(runs: xr.Dataset | xr.DataArray) -> list[str]:
    """Return the conditions of runs in their order, but baselines first; an empty list if they have none."""
    return list(_ordered(_rules(runs)).conditions)


def _rules(runs: xr.Dataset | xr.DataArray) -> dict[str, set[str]]:
    """Return the rules of each condition's runs."""
    labels = conditions_of(runs) or [str(run) for run in runs["run"].values]
    given = runs["rule"].values if "rule" in runs.coords else [""] * len(labels)
    rules: dict[str, set[str]] = {}
    for condition, rule in zip(labels, given, strict=True):
        rules.setdefault(condition, set()).update([] if is_missing(rule) else [str(rule)])
    return rules


def _ordered(rules: dict[str, set[str]]) -> Roles:
    baselines = tuple(condition for condition, found in rules.items() if found == {BASELINE_RULE})
    return Roles((*baselines, *(c for c in rules if c not in baselines)), baselines)
