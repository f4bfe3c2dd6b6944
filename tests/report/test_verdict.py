import numpy as np
import pytest
import xarray as xr

from fadiag.report.differences import differences
from fadiag.report.methods import methods
from fadiag.report.verdict import verdict
from fadiag.results.left_out import LeftOut, to_attribute
from fadiag.results.recorded import to_recorded_attribute
from tests.report.doubtful import asked, sound
from tests.results.synthetic_results import synthetic

METRIC = "error_participation_ratio_raw"


def with_meta(results, **entries):
    groups = {}
    for path, node in results.subtree_with_keys:
        groups[path] = node.to_dataset()
        if "run" in groups[path].dims:
            many = groups[path].sizes["run"]
            groups[path] = groups[path].assign_coords(
                {key: ("run", np.array([value] * many, object)) for key, value in entries.items()}
            )
    return xr.DataTree.from_dict(groups)


def study(seeds=6, **entries):
    """Return results of a study: FA's PR at fc3 is 15, and BP's 30, with a small effect of the seed."""
    results = synthetic(("bp", "fa", "fa+bn"), tuple(range(seeds)), spread=0.1)
    return with_meta(results, primary_metric=METRIC, primary_layer="fc3", **entries)


def judged(results):
    question = asked(results)
    return verdict(results, question, differences(results, question, [question.metric]))


def test_metric_and_layer_are_those_of_the_meta_and_every_condition_is_compared() -> None:
    found = judged(study(dataset="digits", model="mlp"))
    assert found.question == "Does the made up, at layer fc3, differ from that of bp under fa, fa+bn?"
    assert found.answer == "Compared with bp, the made up, at layer fc3, is lower under fa and fa+bn."
    assert dict(found.facts) == {
        "Data": "digits, probe 'test', N = 256",
        "Model": "mlp",
        "Runs": "n = 18: 3 conditions, 6 seeds",
        "Primary metric": "made up at layer fc3 (declared before the runs)",
    }
    assert found.numbers[0].startswith("fa − bp = −1")
    assert found.numbers[0].endswith(", p = 0.0312, 6 paired seeds")
    assert found.nulls[0].startswith("Runs below/above gate null at fc3: bp 0/0, fa 0/0")
    assert found.nulls[0].endswith(". Gate null: central 95 % for credit turned at random before the gates")


def test_a_declared_contrast_is_the_only_one_and_the_tail_is_held_against_it() -> None:
    contrast = {"primary_condition": "fa", "primary_baseline": "bp"}
    declared = {"question": "Is it lower?", **contrast, "primary_tail": "lower"}
    found = judged(study(**declared))
    assert found.question == "Is it lower?"
    assert len(found.numbers) == 1
    assert found.answer.endswith("is lower under fa, as expected.")
    against = judged(study(**{**declared, "primary_tail": "upper"}))
    assert against.answer.endswith("is lower under fa, against the expectation.")
    assert judged(study(**{**contrast, "primary_condition": "dfa"})).answer == (
        "Nothing is compared: the results hold no run of dfa."
    )


def test_without_a_declared_metric_it_is_an_exploration() -> None:
    found = judged(synthetic(("bp", "fa")))
    assert dict(found.facts)["Primary metric"].endswith("(chosen by this report, not declared)")
    assert (
        found.limits[0] == "No metric was declared before the runs, so this is an exploration and not a test."
    )
    assert judged(study()).limits[0].startswith("Each interval holds its 95 % alone; with 2 contrasts")


def test_an_interval_with_zero_is_no_difference() -> None:
    results = study(3)
    probe = results["probe"].to_dataset().copy(deep=True)
    probe[METRIC].values[3:6] = probe[METRIC].values[:3] + np.array([-1.0, 0.5, 0.4])[:, None, None]
    results["probe"] = probe
    found = judged(with_meta(results, primary_condition="fa", primary_baseline="bp"))
    assert found.answer.endswith("is not detectably different under fa.")
    assert "An interval that holds zero does not show that there is no difference." in found.limits
    assert any(line.startswith("With fewer than 6 pairs there is no p-value") for line in found.limits)
    assert found.numbers[0].endswith("3 paired seeds (no p: 3 pairs, sign flips need 6)")


def test_missing_runs_leave_the_answer_unclear() -> None:
    results = study()
    probe = results["probe"].to_dataset().copy(deep=True)
    probe[METRIC].values[6, :, -1] = np.nan
    results["probe"] = probe
    found = judged(results)
    assert "unclear, since runs are missing, under fa" in found.answer
    assert "lower under fa+bn" in found.answer


def test_a_lost_run_of_unknown_condition_leaves_everything_unclear() -> None:
    results = study()
    results.attrs |= to_attribute([LeftOut("runs/x.zarr", "is damaged")])
    assert judged(results).answer.endswith("is unclear, since runs are missing, under fa and fa+bn.")
    assert any(line.startswith("Something was left out") for line in judged(results).limits)


@pytest.mark.parametrize(
    ("results", "answer"),
    [
        (lambda: synthetic(("fa",), (0,)), "Nothing is compared: there is one condition."),
        (
            lambda: synthetic(("dfa", "fa")),
            "Nothing is compared: no condition has the rule 'bp', so none is the baseline.",
        ),
        (
            lambda: with_meta(synthetic(("mine", "fa")), rule="bp"),
            "Nothing is compared: several conditions have the rule 'bp' (mine, fa), so none is the baseline.",
        ),
        (
            lambda: with_meta(synthetic(("bp", "fa")), primary_metric="gone"),
            "There is no answer: the results hold no gone.",
        ),
    ],
)
def test_the_box_says_what_can_be_said(results, answer) -> None:
    found = judged(results())
    assert found.answer == answer
    assert found.limits


def test_the_baseline_is_found_by_its_rule_not_by_its_name() -> None:
    results = synthetic(("bp", "fa"), tuple(range(6)), spread=0.1)
    for stream in ("probe", "state", "log"):
        dataset = results[stream].to_dataset()
        rules = [str(name) for name in dataset["condition"].values]
        named = [{"bp": "exact", "fa": "mine"}[rule] for rule in rules]
        results[stream] = dataset.assign_coords(rule=("run", rules), condition=("run", named))
    assert judged(results).answer == ("Compared with exact, the made up, at layer fc3, is lower under mine.")


def test_one_run_has_its_number_without_an_interval() -> None:
    found = judged(synthetic(("fa",), (0,)))
    assert found.numbers == ("fa 65.0 (one seed, no interval)",)


def paragraph(results) -> str:
    question = asked(results)
    return methods(results, question, differences(results, question, [question.metric]))


def test_the_methods_are_true_of_every_run() -> None:
    results = study(model="mlp", dataset="digits")
    made = {"versions": {"fadiag": "0.2.0", "torch": "2.13"}, "device": "cpu"}
    runs = [str(run) for run in results["probe"]["run"].values]
    results.attrs |= to_recorded_attribute(dict.fromkeys(runs, made))
    text = paragraph(results)
    for clause in (
        "We recorded 18 runs of mlp on digits, of the conditions bp, fa, fa+bn, with seeds 0, 1, 2, 3, 4, 5.",
        "Signals were recorded with fadiag 0.2.0 and PyTorch 2.13 on cpu.",
        "The primary metric is the made up, tr(G)² / |G|² (definition) at layer fc3.",
        "It was measured on N = 256 samples, the probe 'test', the network in eval mode.",
        "Conditions were compared by paired differences over shared seeds, with 95 % t intervals.",
        "P-values are two-sided, from sign flips over pairs",
        "The primary metric was declared before the runs.",
    ):
        assert clause in text


def test_the_methods_name_every_value_in_which_runs_differ() -> None:
    results = sound()
    probe = results["probe"].to_dataset()
    modes = np.array(["eval"] * 6 + ["train"] * 6, object)
    results["probe"] = probe.assign_coords(probe_mode=("run", modes))
    made = [{"versions": {"torch": "2.13"}, "device": d} for d in ("cpu", "cuda")]
    runs = [str(run) for run in probe["run"].values]
    results.attrs |= to_recorded_attribute({run: made[i % 2] for i, run in enumerate(runs)})
    text = paragraph(results)
    assert "network in eval or train mode" in text
    assert "PyTorch 2.13 on cpu or cuda" in text


def test_the_methods_leave_out_what_the_results_do_not_say() -> None:
    text = paragraph(synthetic(("fa",), (0,)))
    assert text.startswith("We recorded one run, of the conditions fa, with seeds 0.")
    for word in ("PyTorch", "P-values", "paired", "None", "nan"):
        assert word not in text
