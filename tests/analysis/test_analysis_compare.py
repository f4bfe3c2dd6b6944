"""Comparing two results: intervals against scipy, pairing, refusals."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from fadiag.analysis import compare
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
    assert row["paired"]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["differs"]
    assert row["runs"] == 3


def test_other_seeds_are_not_paired():
    row = compare(results(A, [0, 1, 2]), results(B, [5, 6, 7]), level=0.9).iloc[0]
    expected = scipy.stats.ttest_ind(B, A, equal_var=False).confidence_interval(0.9)
    assert not row["paired"]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert not row["differs"]


def test_a_seed_used_twice_is_not_paired():
    assert not compare(results(A, [0, 0, 1]), results(B, [0, 0, 1])).iloc[0]["paired"]


def test_one_run_a_side_has_no_interval():
    row = compare(results(A[:1], [0]), results(B[:1], [0])).iloc[0]
    assert row["difference"] == pytest.approx(0.5)
    assert np.isnan(row["low"])
    assert not row["differs"]


def test_nulls_are_no_metrics_of_their_own():
    assert list(compare(results(A, [0, 1, 2]), results(B, [0, 1, 2]))["variable"]) == ["error_cosine"]


def test_refusals():
    with pytest.raises(InputError, match="the unfoldings differ"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2], unfolding="channels"))
    with pytest.raises(InputError, match="level is 95; give a number between 0 and 1"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2]), level=95)
    with pytest.raises(InputError, match="no metric of a layer in common"):
        compare(results(A, [0, 1, 2]), results(B, [0, 1, 2], samples=128))
