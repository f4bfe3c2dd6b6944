"""Comparing two results: intervals against scipy, pairing, refusals."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr

from fadiag.analysis import analyze, compare
from fadiag.errors import InputError
from tests.analysis.sides import A, B, results, told


def test_equal_seeds_are_paired():
    row = compare(results(A, [0, 1, 2]), results(B[::-1], [2, 1, 0])).iloc[0]
    expected = scipy.stats.ttest_rel(B, A).confidence_interval()
    assert row["design"] == "paired"
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["differs"]
    assert row["runs"] == 3


@pytest.mark.parametrize("seeds", [range(6), range(10, 16)])
def test_a_difference_below_rounding_is_none(seeds):
    """A paired and an unpaired one."""
    a = np.array([0.9, 0.8, 0.7, 0.9, 0.8, 0.7]) if seeds[0] == 0 else np.full(6, 0.9)
    for rounding, differs in ((6.7e-16, False), (5e-8, False), (1e-6, True)):
        uneven = rounding * np.array([0.8, 1.0, 1.2, 0.8, 1.0, 1.2])
        row = compare(results(a, range(6)), results(a + uneven, seeds)).iloc[0]
        assert row["design"] == ("paired" if seeds[0] == 0 else "unpaired")
        assert row["differs"] == differs
        assert row["difference"] == pytest.approx(rounding * differs)
        assert (row["low"] > 0) == differs
        if seeds[0] == 0:
            assert row["p"] == (2 / 2**6 if differs else 1)


@pytest.mark.parametrize("seeds", [range(3), range(10, 13)])
def test_equal_differences_are_no_certainty(seeds):
    """Three seeds that differ by the same number have no interval, and claim nothing."""
    row = compare(results([0.9] * 3, range(3)), results([0.5] * 3, seeds)).iloc[0]
    assert row["difference"] == pytest.approx(-0.4)
    assert np.isnan([row["low"], row["high"]]).all()
    assert not row["differs"]
    what = "differences" if seeds[0] == 0 else "runs of each side"
    assert f"no interval: the {what} have equal values" in row["note"]


def test_a_dead_layer_has_no_rank_to_compare():
    """Zeros have rank 0, which is no rank of a living layer: the run is left out and named."""
    sides = [layered(np.array(v)[:, None], range(4)) for v in ([9.0, 8.0, 7.0, 9.0], [5.0, 0.0, 5.5, 4.0])]
    name = "error_effective_rank_raw"
    ranks = [
        side.map_over_datasets(lambda d: d.rename(error_cosine=name) if d.data_vars else d) for side in sides
    ]
    row = compare(*ranks, names=("bp", "fa")).iloc[0]
    assert (row["runs"], row["b"]) == (3, pytest.approx(14.5 / 3))
    assert not row["differs"]
    assert "1 of 4 runs of fa left out, dead at step 0 (r1)" in row["note"]
    assert compare(*sides).iloc[0]["runs"] == 4  # a cosine of 0 is a value


def named(tree, name):
    return tree.map_over_datasets(lambda d: d.rename(error_cosine=name) if d.data_vars else d)


@pytest.mark.parametrize(
    ("name", "differs"),
    [("loss", True), ("error_cosine", False), ("error_principal_angle_largest", False)],
)
def test_small_values_differ_unless_they_are_noise_of_their_unit(name, differs):
    """A loss of 1e-12 is a loss. A cosine or an angle of 1e-12 is the rounding error of an exact one."""
    a, b = (named(results(1e-12 * np.array(each), [0, 1, 2]), name) for each in (A, B))
    row = compare(a, b).iloc[0]
    assert row["differs"] == differs
    assert (row["difference"] != 0) == differs
    if not differs:
        far = compare(a, named(results([80.0, 84.0, 82.0], [0, 1, 2]), name)).iloc[0]
        assert far["a"] == 0
        assert far["differs"]


def test_one_result_has_its_conditions_compared():
    both = told(results([*A, *B], range(6)), condition=["bp"] * 3 + ["fa"] * 3)
    both["probe"] = both["probe"].to_dataset().assign_coords(seed=("run", [0, 1, 2] * 2))
    row = compare(both, conditions=("bp", "fa")).iloc[0]
    assert (row["a"], row["b"]) == pytest.approx((A.mean(), B.mean()))
    with pytest.raises(InputError, match=r"there is one result; give b, or conditions=\(A, B\)"):
        compare(both)
    with pytest.raises(InputError, match=r"^condition='FA' matches no run"):
        compare(both, conditions=("bp", "FA"))
    with pytest.raises(InputError, match=r"^b: condition='FA' matches no run"):
        compare(both, both.copy(), conditions=("bp", "FA"))


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
    assert list(table["note"]) == ["", "", "no interval: the differences have equal values"]
    five = compare(layered(a[:5], range(5)), layered(a[:5] + shift[:5], range(5)))
    assert five["p"].isna().all()
    assert five["note"][0] == "no p: 5 pairs, sign flips need 6"
    assert five["differs"][0]


def test_a_layer_without_every_value_has_no_p():
    a = np.random.default_rng(0).standard_normal((6, 2))
    b = a + 1 + 0.1 * np.random.default_rng(1).random((6, 2))
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


def test_several_conditions_are_not_pooled():
    both = told(results(np.concatenate([A, B]), [0, 1, 2, 0, 1, 2]), condition=["bp"] * 3 + ["fa"] * 3)
    bp = told(results(A, [0, 1, 2]), condition=["bp"] * 3)
    with pytest.raises(
        InputError, match=r"a holds runs of several conditions \(bp, fa\), .*--conditions A B"
    ):
        compare(both, bp)
    with pytest.raises(InputError, match="b holds runs of several conditions"):
        compare(bp, both)
    with pytest.raises(InputError, match=r"^condition='dfa' matches no run \(near: fa\); there are bp, fa"):
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
