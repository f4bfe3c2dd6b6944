import pytest
import xarray as xr

from fadiag.report.alerts import RULES, alerts
from tests.report.doubtful import DOUBTS, SAID, asked, sound


def found(results):
    return alerts(results, asked(results))


def test_sound_results_have_no_alert() -> None:
    assert [str(alert) for alert in found(sound())] == []


def test_every_rule_has_a_case() -> None:
    assert [rule.name for rule in RULES] == list(DOUBTS) == list(SAID)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_fires_alone_and_names_the_place(rule) -> None:
    said = [str(alert) for alert in found(DOUBTS[rule.name]())]
    assert said == [f"{SAID[rule.name]}: {rule.advice}"]


def test_many_runs_and_layers_are_counted() -> None:
    results = sound()
    probe = results["probe"].to_dataset()
    results["probe"] = probe.assign(error_participation_ratio_raw=0 * probe["error_participation_ratio_raw"])
    (alert,) = (a for a in found(results) if "zero" in a.what)
    assert alert.where == "layers fc1, fc2, fc3, out; all runs"
    results["probe"] = results["probe"].to_dataset().isel(layer=[0, 1, 2, 3, 3, 3])
    results["probe"] = results["probe"].to_dataset().assign_coords(layer=list("abcdef"))
    (alert,) = (a for a in found(results) if "zero" in a.what)
    assert alert.where == "layers a, b, c, d and 2 more; all runs"


def test_a_rank_above_the_bound_is_not_at_it() -> None:
    """Norms lift the modulator's rank beyond classes - 1."""
    results = sound()
    probe = results["probe"].to_dataset()
    results["probe"] = probe.assign(modulator_effective_rank_raw=20 + 0 * probe["error_cosine"])
    assert found(results) == []


def test_only_the_last_value_counts() -> None:
    results = sound()
    probe = results["probe"].to_dataset().copy(deep=True)
    probe["error_participation_ratio_raw"].values[0, 1, 0] = 0  # at step 0
    results["probe"] = probe
    assert found(results) == []


def test_the_status_in_the_meta_counts_too() -> None:
    results = sound()
    log = results["log"].to_dataset()
    results["log"] = log.assign_coords(status=("run", ["diverged", *["complete"] * 11]))
    assert [alert.what for alert in found(results)] == ["A run ended as diverged"]


def test_results_without_any_metric_have_no_alert_but_seeds() -> None:
    log = xr.Dataset({"loss": (("run", "step"), [[1.0]])}, {"run": ["a"], "step": [0]})
    said = [alert.what for alert in found(xr.DataTree.from_dict({"/log": log}))]
    assert said == ["There are fewer than 6 seeds, too few for a p-value"]
