"""The table of a paper: its numbers against scipy, its text for LaTeX, and what it says of gaps."""

import numpy as np
import pytest
import scipy.stats

from fadiag.errors import InputError, MissingSignalError
from fadiag.results import condition_table
from tests.results.synthetic_results import SMALL, shorter, synthetic


def test_numbers_are_those_of_scipy() -> None:
    tree = synthetic(("bp", "fa"))
    table = condition_table(tree)
    assert table.variables == ("error_effective_rank_raw", "error_participation_ratio_raw", "test_accuracy")
    probe = tree["probe"].to_dataset()
    values = probe["error_effective_rank_raw"].sel(layer="fc3").isel(step=-1).values[3:]
    cell = table.cells["fa", "error_effective_rank_raw"]
    low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
    assert (cell.mean, cell.low, cell.high) == pytest.approx((values.mean(), low, high))
    assert (cell.n, cell.runs) == (3, 3)
    assert table.layers["error_effective_rank_raw"] == "fc3"


def test_intervals_are_cut_to_what_is_possible() -> None:
    tree = synthetic(("bp", "fa"))
    log = tree["log"].to_dataset()
    log["test_accuracy"][:3, -1] = [0.9, 0.99, 1.0]
    tree["log"] = log
    cell = condition_table(tree, ["error_cosine"]).cells["bp", "test_accuracy"]
    assert cell.high == 1.0
    assert cell.low < 0.9


def test_the_primary_metric_and_layer_of_the_runs_come_first() -> None:
    tree = synthetic(("bp", "fa"))
    for stream in ("log", "probe"):
        runs = tree[stream].to_dataset()
        entries = {"primary_metric": "error_overlap", "primary_layer": "fc1"}
        full = {key: ("run", np.array([value] * runs.sizes["run"], object)) for key, value in entries.items()}
        tree[stream] = runs.assign_coords(full)
    table = condition_table(tree)
    assert table.variables[0] == "error_overlap"
    assert set(table.layers.values()) == {"fc1", ""}


def test_one_seed_has_no_interval_and_a_lost_run_is_named() -> None:
    assert condition_table(synthetic(**SMALL, seeds=(0,)), layer="fc1").rows()[0][-1] == "97.0"
    tree = synthetic(("bp", "fa"))
    log = tree["log"].to_dataset()
    log["test_accuracy"][5, -1] = np.nan
    tree["log"] = log
    table = condition_table(tree)
    assert table.rows()[1][-1].endswith("(2 of 3 seeds)")
    assert table.notes == ("fa-seed2 has no test accuracy at step 400",)
    assert table.caption() == (
        "Mean [95 % t interval] over 2 to 3 seeds at step 400, layer fc3. "
        "Fa-seed2 has no test accuracy at step 400."
    )


def test_conditions_of_different_length_are_read_at_their_shared_step() -> None:
    table = condition_table(shorter(synthetic(("bp", "fa")), "fa", 5))
    assert set(table.steps.values()) == {200}


def test_latex_escapes_names_and_minus_signs() -> None:
    tree = synthetic(("bp", "fa"))
    for stream in ("log", "probe", "state"):
        runs = tree[stream].to_dataset()
        names = [str(v).replace("fa", "fa_5%-x\x07") for v in runs["condition"].values]
        tree[stream] = runs.assign_coords(condition=("run", np.array(names, object)))
    probe = tree["probe"].to_dataset()
    probe["error_cosine"] = -probe["error_cosine"]
    tree["probe"] = probe
    lines = condition_table(tree, ["error_cosine"]).latex().splitlines()
    assert lines[4] == r"condition & error cosine & test accuracy (\%) \\"
    assert lines[7].startswith(r"fa\_5\%-x  & $-$0.558 [$-$0.")


def test_what_cannot_be_a_table_is_refused() -> None:
    tree = synthetic(**SMALL)
    with pytest.raises(MissingSignalError, match="similar names are error_cosine"):
        condition_table(tree, ["error_cosin"])
    with pytest.raises(InputError, match=r"'\*' matches fc1, out; a table is of one layer, so name it"):
        condition_table(tree, layer="*")
    with pytest.raises(InputError, match="no layer matches 'x'; there are fc1, out"):
        condition_table(tree, layer="x")
    with pytest.raises(InputError, match="condition='x' matches no run"):
        condition_table(tree, conditions=["x"])
