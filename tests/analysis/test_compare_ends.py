"""`compare` takes both sides at one step, and tells of runs that have no value or no partner."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from fadiag.analysis import analyze, compare
from fadiag.errors import InputError
from tests.analysis.sides import A, B, results, told


def over_steps(values, steps=None, **attrs):
    """Return results of one layer from values (run, step)."""
    values = np.asarray(values, np.float64)
    coordinates = {
        "run": [f"r{i}" for i in range(len(values))],
        "seed": ("run", range(len(values))),
        "layer": ["fc"],
        "step": range(values.shape[1]) if steps is None else steps,
    }
    probe = xr.Dataset({"error_overlap": (("run", "layer", "step"), values[:, None], attrs)}, coordinates)
    return xr.DataTree.from_dict({"/probe": probe})


WHOLE = [[5, 6, 7], [5, 6, 8], [5, 6, 7]]


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_run_that_died_lends_no_earlier_value(lost):
    one = compare(over_steps([[1, lost, lost], [1, 2, 3], [1, 2, 3]]), over_steps(WHOLE)).iloc[0]
    assert (one["runs"], one["a"], one["b"]) == (2, 3, 7.5)
    assert "1 of 3 runs of a left out, without a number at step 2" in one["note"]


def test_a_record_that_no_run_has_a_value_for_is_passed_over():
    nothing = [[np.nan]] * 3
    row = compare(over_steps(np.hstack([WHOLE, nothing])), over_steps(np.hstack([WHOLE, nothing]))).iloc[0]
    assert row["a"] == pytest.approx(22 / 3)
    assert row["difference"] == 0


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_side_that_ends_earlier_is_compared_where_it_ends(lost):
    shorter = over_steps([[1, 2, lost], [1, 3, lost], [2, lost, lost]])
    row = compare(shorter, over_steps(WHOLE)).iloc[0]
    assert (row["a"], row["b"], row["runs"]) == (2.5, 6, 2)
    assert row["note"].endswith(
        "1 of 3 runs of a left out, without a number at step 1 (r2); "
        "compared at step 1, the last at which both have a value: a ends at step 1, b at step 2"
    )


def test_other_last_steps_are_told():
    row = compare(over_steps(WHOLE), over_steps(WHOLE, [0, 1, 2000])).iloc[0]
    assert "compared at step 1, the last at which both have a value" in row["note"]
    assert "a ends at step 2, b at step 2000" in row["note"]
    assert "ends at" not in compare(over_steps(WHOLE), over_steps(WHOLE)).iloc[0]["note"]
    with pytest.raises(
        InputError, match=r"no step at which both have a value \(a ends at step 2, b at step 9\)"
    ):
        compare(over_steps(WHOLE), over_steps(WHOLE, [7, 8, 9]))


def test_runs_in_one_file_compare_as_in_two(make_run):
    def runs(condition, steps, drop=()):
        return [make_run(seed, condition=condition, steps=steps, drop=drop) for seed in range(3)]

    drop = ("fc1/feedback", "fc2/feedback", "out/feedback", "fc1/error", "fc1/modulator")
    bp, fa = runs("bp", (0, 10, 20, 30), drop), runs("fa", (0, 10, 15))
    two = compare(analyze(bp), analyze(fa))
    both = analyze([*bp, *fa])
    pd.testing.assert_frame_equal(compare(both, both, conditions=("bp", "fa")), two)
    assert two["difference"].notna().any()
    assert two["note"].str.contains("compared at step 10").any()


def test_runs_without_a_partner_are_told():
    values = np.arange(5.0)
    a, b = results(values, [0, 1, 2, 3, 4]), results(values[:4] + 1, [0, 1, 5, 6])
    row = compare(a, b).iloc[0]
    assert (row["design"], row["runs"]) == ("paired", 2)
    left_out = "3 of 5 runs of a and 2 of 4 runs of b left out: their seed is not on the other side"
    assert left_out in row["note"]
    assert "2 of 4 runs of b left out: their seed" in compare(results(A, [0, 1, 2]), b).iloc[0]["note"]
    assert "left out" not in compare(a, a).iloc[0]["note"]


def test_runs_without_a_condition_are_a_group_of_their_own():
    bp = told(results(A, [0, 1, 2]), condition=["bp"] * 3)
    mixed = told(results(B, [0, 1, 2]), condition=["fa", "fa", ""])
    with pytest.raises(InputError, match=r"b holds runs of several conditions \(fa, \(no condition\)\)"):
        compare(bp, mixed)
    assert compare(bp, mixed, conditions=("bp", "fa")).iloc[0]["runs"] == 2
    assert compare(bp, mixed, conditions=("bp", "(no condition)")).iloc[0]["b"] == 4.7


def test_one_recording_is_not_two_runs():
    def recorded(finals, ids):
        return told(results(finals, [np.nan] * 3), run_id=ids, generation=[0] * 3)

    a = recorded(A, ["x", "y", "x"])
    a["probe"] = a["probe"].to_dataset().assign_coords(run=["one", "two", "three"])
    with pytest.raises(InputError, match=r"a holds one recording twice \(run id x\), as one and as three"):
        compare(a, recorded(B, ["u", "v", "w"]))
    row = compare(recorded(A, ["x", "y", "z"]), recorded(B, ["u", "y", "z"])).iloc[0]
    assert row["design"] == "broken"
    assert row["note"].startswith("no interval: 2 of the runs of b are in a too")
    assert compare(recorded(A, list("xyz")), recorded(B, list("uvw"))).iloc[0]["design"] == "unpaired"
    assert compare(recorded(A, [""] * 3), recorded(B, [""] * 3)).iloc[0]["design"] == "unpaired"


@pytest.mark.parametrize("name", ["probe_mode", "split"])
def test_another_probe_is_told(name):
    row = compare(over_steps(WHOLE, **{name: "train"}), over_steps(WHOLE, **{name: "eval"})).iloc[0]
    assert f"{name} is train in a and eval in b" in row["note"]
    assert row["difference"] == 0


def test_other_layers_are_told():
    a, b = over_steps(WHOLE), over_steps(WHOLE)
    b["/probe"] = xr.DataTree(b["probe"].to_dataset().assign_coords(layer=["conv"]))
    with pytest.raises(InputError, match="in common; error_overlap: not compared: no layer in common"):
        compare(a, b)


def test_runs_of_one_side_with_other_samples_are_not_pooled():
    a = over_steps(WHOLE, samples="64, 128")
    with pytest.raises(InputError, match="not compared: samples is 64, 128 in a and 64, 128 in b"):
        compare(a, a)


@pytest.mark.parametrize("name", ["samples", "definition_version"])
def test_what_is_another_quantity_is_told_and_not_compared(name):
    a, b = over_steps(WHOLE, **{name: 1}), over_steps(WHOLE, **{name: 2})
    with pytest.raises(
        InputError, match=f"in common; error_overlap: not compared: {name} is 1 in a and 2 in b"
    ):
        compare(a, b)
    other = {"norm": (("run", "layer", "step"), np.asarray(WHOLE, float)[:, None])}
    a, b = (xr.DataTree.from_dict({"/probe": t["probe"].to_dataset().assign(other)}) for t in (a, b))
    table = compare(a, b).set_index("variable")
    assert table.loc["error_overlap", "note"] == f"not compared: {name} is 1 in a and 2 in b"
    assert np.isnan(table.loc["error_overlap", "difference"])
    assert table.loc["error_overlap", "design"] == ""
    assert table.loc["norm", "difference"] == 0


def test_notes_call_the_sides_by_their_names():
    lost = over_steps([[5, 6, np.nan], *WHOLE[1:]])
    note = compare(over_steps(WHOLE), lost, names=("bp", "fa")).iloc[0]["note"]
    assert "1 of 3 runs of fa left out, without a number at step 2" in note
    more = compare(over_steps([*WHOLE, *WHOLE]), lost, names=("bp", "fa")).iloc[0]["note"]
    assert "3 of 6 runs of bp left out: their seed is not on the other side" in more
    longer = compare(over_steps(WHOLE), over_steps(WHOLE, [0, 1, 9]), names=("bp", "fa")).iloc[0]["note"]
    assert "bp ends at step 2, fa at step 9" in longer
