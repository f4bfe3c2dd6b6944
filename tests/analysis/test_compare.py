"""Comparing two results: intervals against scipy, pairing, refusals."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from fadiag.analysis import analyze, compare
from fadiag.errors import InputError


def results(finals, seeds, *, samples=64, unfolding="samples", version=1):
    values = np.stack([np.zeros(len(finals)), finals, np.full(len(finals), np.nan)], axis=-1)[:, None]
    attrs = {"definition_version": version, "samples": samples}
    probe = xr.Dataset(
        {
            "error_cosine": (("run", "layer", "step"), values, attrs),
            "error_cosine_null_low": (("run", "layer", "step"), values, attrs),
        },
        {"run": [f"r{s}" for s in seeds], "seed": ("run", seeds), "layer": ["fc"], "step": [0, 1, 2]},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"unfolding": unfolding}), "/probe": probe})


A = np.array([1.0, 2.0, 4.0])
B = np.array([1.5, 2.4, 4.7])


def test_equal_seeds_are_paired():
    row = compare(results(A, [0, 1, 2]), results(B[::-1], [2, 1, 0])).iloc[0]
    expected = scipy.stats.ttest_rel(B, A).confidence_interval()
    assert row["design"] == "paired"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["differs"]
    assert row["runs"] == 3


def test_seeds_may_be_texts():
    row = compare(results(A, ["x", "y", "z"]), results(B[::-1], ["z", "y", "x"])).iloc[0]
    expected = scipy.stats.ttest_rel(B, A).confidence_interval()
    assert row["design"] == "paired"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert compare(results(A, ["x", "y", ""]), results(B, ["x", "y", ""])).iloc[0]["design"] == "unpaired"
    assert compare(results(A, ["0", "1", "2"]), results(B, [0, 1, 2])).iloc[0]["design"] == "unpaired"
    texts, numbers = (list(column) for column in zip(*((s, f) for s in "xy" for f in (1, 2)), strict=True))
    crossed = compare(layered(np.zeros((4, 1)), texts, numbers), layered(np.ones((4, 1)), texts, numbers))
    assert crossed.iloc[0]["design"] == "crossed"


def test_other_seeds_are_not_paired():
    row = compare(results(A, [0, 1, 2]), results(B, [5, 6, 7]), level=0.9).iloc[0]
    expected = scipy.stats.ttest_ind(B, A, equal_var=False).confidence_interval(0.9)
    assert row["design"] == "unpaired"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert not row["differs"]


def test_a_seed_used_twice_is_not_paired():
    assert compare(results(A, [0, 0, 1]), results(B, [0, 0, 1])).iloc[0]["design"] == "broken"


def test_one_run_a_side_has_no_interval():
    row = compare(results(A[:1], [0]), results(B[:1], [0])).iloc[0]
    assert row["difference"] == pytest.approx(0.5)
    assert np.isnan(row["low"])
    assert row["note"] == "no interval: 1 run with a value, it needs two; no p: runs do not pair by seed"
    assert not row["differs"]


def test_nulls_are_no_metrics_of_their_own():
    assert list(compare(results(A, [0, 1, 2]), results(B, [0, 1, 2]))["variable"]) == ["error_cosine"]


def test_refusals():
    with pytest.raises(InputError, match="unfolding differs"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2], unfolding="channels"))
    with pytest.raises(InputError, match="level is 95; give a number between 0 and 1"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2]), level=95)
    with pytest.raises(InputError, match="no metric of a layer in common"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2], samples=128))


def test_other_conditions_in_the_file_do_not_take_a_comparison_away(make_run):
    runs = {
        condition: [make_run(seed, condition=condition, **options) for seed in (0, 1)]
        for condition, options in {"bp": {}, "fa": {}, "other": {"rows_valid": 3}}.items()
    }
    for run in runs["other"]:
        run["probe"].attrs["samples"] = 3
    apart = compare(analyze(runs["bp"]), analyze(runs["fa"]))
    together = analyze([run for found in runs.values() for run in found])
    pd.testing.assert_frame_equal(compare(together, together, conditions=("bp", "fa")), apart)
    refused = compare(together, together, conditions=("bp", "other"))
    (row,) = refused[refused["variable"] == "error_cosine"].to_dict("records")
    assert row["note"] == "not compared: samples is 16 in a and 3 in b"


def layered(finals, seeds, feedback_seeds=None):
    """Return results of several layers from their finals (run, layer)."""
    finals = np.asarray(finals, np.float64)
    coordinates = {
        "run": [f"r{i}" for i in range(len(finals))],
        "seed": ("run", list(seeds)),
        "layer": [f"fc{i}" for i in range(finals.shape[1])],
        "step": [0],
    }
    if feedback_seeds is not None:
        coordinates["feedback_seed"] = ("run", list(feedback_seeds))
    probe = xr.Dataset({"error_cosine": (("run", "layer", "step"), finals[..., None])}, coordinates)
    return xr.DataTree.from_dict({"/probe": probe})


def test_layers_are_judged_together_from_six_pairs():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 3))
    shift = np.column_stack([1 + 0.1 * rng.random(6), rng.standard_normal(6), np.zeros(6)])
    table = compare(layered(a, range(6)), layered(a + shift, range(6)))
    assert table["p"][0] == pytest.approx(2 / 64)  # only all signs as they are, or all turned, are as far
    assert table["p"][1] > 0.05
    assert table["p"][2] == 1
    assert list(table["note"]) == ["", "", ""]
    five = compare(layered(a[:5], range(5)), layered(a[:5] + shift[:5], range(5)))
    assert five["p"].isna().all()
    assert five["note"][0] == "no p: 5 pairs, sign flips need 6"
    assert five["differs"][0]


def test_a_layer_without_every_value_has_no_p():
    a = np.random.default_rng(0).standard_normal((6, 2))
    b = a + 1
    b[2, 1] = np.nan
    table = compare(layered(a, range(6)), layered(b, range(6)))
    assert table["p"][0] < 0.05
    assert np.isnan(table["p"][1])
    left_out = "1 of 6 runs of b left out, without a number at step 0 (r2)"
    assert list(table["note"]) == ["", f"no p: not every pair has a value; {left_out}"]


def test_the_family_of_layers_keeps_its_level():
    rng = np.random.default_rng(1)
    names = [f"metric{i}" for i in range(400)]  # the layers of one metric are one family
    shared = rng.standard_normal((400, 6, 1))
    differences = shared + rng.standard_normal((400, 6, 4))
    table = compare(families(np.zeros((400, 6, 4)), names), families(differences, names))
    false = (table["p"] <= 0.05).groupby(table["variable"]).any()
    assert len(false) == 400
    assert table["p"].notna().all()
    assert false.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def families(finals, names):
    """Return results of several metrics from their finals (metric, run, layer)."""
    results = layered(finals[0], range(finals.shape[1]))
    probe = results["probe"].to_dataset().drop_vars("error_cosine")
    dims = ("run", "layer", "step")
    arrays = {name: (dims, found[..., None]) for name, found in zip(names, finals, strict=True)}
    return xr.DataTree.from_dict({"/probe": probe.assign(arrays)})


def grid(seeds, feedbacks):
    return [s for s in range(seeds) for _ in range(feedbacks)], [
        f for _ in range(seeds) for f in range(feedbacks)
    ]


def test_a_crossed_design_has_random_effects_of_both_seeds():
    from fadiag.spectra import crossed_interval

    rng = np.random.default_rng(2)
    seeds, feedbacks = grid(3, 4)
    cells = rng.standard_normal((3, 1)) + rng.standard_normal((1, 4)) + 0.1 * rng.standard_normal((3, 4))
    order = rng.permutation(12)
    b = layered(cells.reshape(12, 1)[order], np.array(seeds)[order], np.array(feedbacks)[order])
    row = compare(layered(np.zeros((12, 1)), seeds, feedbacks), b).iloc[0]
    expected = crossed_interval(cells)
    assert row["design"] == "crossed"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["note"] == "no p: runs of a crossed design share seeds"


def test_the_crossed_interval_covers_and_the_pooled_does_not():
    rng = np.random.default_rng(3)
    seeds, feedbacks = grid(3, 3)
    # 300 trials, each a layer of its own: the interval of a layer does not know the others.
    a, b, noise = (rng.standard_normal(shape) for shape in ((3, 1, 300), (1, 3, 300), (3, 3, 300)))
    cells = (a + b + 0.2 * noise).reshape(9, 300)
    inside = {}
    for kind, keys in (("crossed", (seeds, feedbacks)), ("paired", (range(9), None))):
        table = compare(layered(np.zeros((9, 300)), *keys), layered(cells, *keys))
        assert list(table["design"]) == [kind] * 300
        inside[kind] = ((table["low"] <= 0) & (table["high"] >= 0)).mean()
    assert inside["crossed"] > 0.92
    assert inside["paired"] < 0.85


def test_part_of_a_crossed_design_is_refused():
    seeds, feedbacks = grid(2, 3)
    row = compare(
        layered(np.zeros((5, 1)), seeds[:5], feedbacks[:5]),
        layered(np.ones((5, 1)), seeds[:5], feedbacks[:5]),
    ).iloc[0]
    assert np.isnan(row["low"])
    assert not row["differs"]
    assert row["note"].startswith("no interval: the 5 runs of a have 2 seeds only")


def test_unknown_seeds_do_not_pair():
    a, b = layered(np.zeros((3, 1)), [0, 1, np.nan]), layered(np.ones((3, 1)), [0, 1, np.nan])
    assert compare(a, b).iloc[0]["design"] == "unpaired"


def test_a_crossed_side_against_one_that_is_not_is_refused():
    seeds, feedbacks = grid(3, 3)
    row = compare(layered(np.zeros((3, 1)), range(3)), layered(np.ones((9, 1)), seeds, feedbacks)).iloc[0]
    assert row["design"] == "broken"
    assert np.isnan(row["low"])
    assert row["note"] == (
        "no interval: the 9 runs of b have 3 seeds only, and runs that share one are not independent: "
        "compare one run of each, or each seed with each feedback seed on both sides; no p: runs share seeds"
    )


@pytest.mark.parametrize(
    ("seeds", "feedbacks", "reason"),
    [
        ([0, 0, 0, 1, 1, 1], range(6), "the 6 runs of a have 2 seeds only"),
        (range(6), [0, 0, 0, 1, 1, 1], "the 6 runs of a have 2 feedback seeds only"),
        ([0, 0, 0, 1, 1, 1], None, "the 6 runs of a have 2 seeds only"),
        ([7] * 6, None, "the 6 runs of a have 1 seed only"),
        ([7] * 6, [7] * 6, "the 6 runs of a have 1 seed only"),
        ([0, 0, np.nan, np.nan, 2, 3], None, "the 6 runs of a have 3 seeds only"),
    ],
    ids=["nested in seeds", "nested in feedback", "repeated", "one seed", "one of both", "partly unknown"],
)
def test_runs_that_share_seeds_are_not_independent(seeds, feedbacks, reason):
    shift = np.array([[1.0], [1.01], [0.99], [1.1], [1.11], [1.09]])
    row = compare(layered(np.zeros((6, 1)), seeds, feedbacks), layered(shift, seeds, feedbacks)).iloc[0]
    assert row["design"] == "broken"
    assert np.isnan(row[["low", "high", "p"]].astype(float)).all()
    assert not row["differs"]
    assert reason in row["note"]
    assert row["difference"] == pytest.approx(1.05)


def test_a_nested_side_against_one_that_is_not_is_refused():
    nested = layered(np.arange(6.0)[:, None], [0, 0, 0, 1, 1, 1], range(6))
    for feedbacks in (None, range(2)):
        row = compare(layered(np.zeros((2, 1)), range(2), feedbacks), nested).iloc[0]
        assert row["design"] == "broken"
        assert row["note"].startswith("no interval: the 6 runs of b have 2 seeds only")


@pytest.mark.parametrize("keys", [([4] * 3, range(3)), (range(3), [4] * 3), (range(3), range(3))])
def test_one_seed_that_all_runs_share_is_a_condition(keys):
    row = compare(layered(A[:, None], *keys), layered(B[:, None], *keys)).iloc[0]
    expected = scipy.stats.ttest_rel(B, A).confidence_interval()
    assert row["design"] == "paired"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def told(tree, **values):
    """Return results with a coordinate along run, such as the condition."""
    return xr.DataTree.from_dict(
        {
            "/": tree.dataset,
            "/probe": tree["probe"].to_dataset().assign_coords({k: ("run", v) for k, v in values.items()}),
        }
    )


def test_several_conditions_are_not_pooled():
    both = told(results(np.concatenate([A, B]), [0, 1, 2, 0, 1, 2]), condition=["bp"] * 3 + ["fa"] * 3)
    bp = told(results(A, [0, 1, 2]), condition=["bp"] * 3)
    with pytest.raises(
        InputError, match=r"a holds runs of several conditions \(bp, fa\), .*--conditions A B"
    ):
        compare(both, bp)
    with pytest.raises(InputError, match="b holds runs of several conditions"):
        compare(bp, both)
    with pytest.raises(InputError, match=r"b: condition='dfa' matches no run \(near: fa\); there are bp, fa"):
        compare(both, both, conditions=("bp", "dfa"))
    with pytest.raises(InputError, match="a: the runs have no 'condition'; they have run, seed"):
        compare(results(A, [0, 1, 2]), both, conditions=("bp", "fa"))
    row = compare(both, both, conditions=("bp", "fa")).iloc[0]
    expected = scipy.stats.ttest_rel(B, A).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["runs"] == 3


def test_rules_stand_for_conditions_that_are_not_told():
    both = told(results(np.concatenate([A, B]), [0, 1, 2, 0, 1, 2]), rule=["bp"] * 3 + ["fa"] * 3)
    with pytest.raises(InputError, match="several conditions"):
        compare(both, both)


def test_other_dimensions_of_subspaces_are_refused():
    a, b = results(A, [0, 1, 2]), results(B, [0, 1, 2])
    a.attrs["k"], b.attrs["k"] = 2, 9
    with pytest.raises(InputError, match=r"k differs \(2 and 9\).*analyze both with the same one"):
        compare(a, b)


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
    assert row["note"].startswith("no interval: 2 of the runs of b stand in a too")
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
