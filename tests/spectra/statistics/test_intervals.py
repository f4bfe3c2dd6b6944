"""Intervals over runs: that they cover what they say."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


@pytest.mark.parametrize("n", [3, 6, 10])
def test_the_t_interval_covers_95_percent(n: int) -> None:
    values = np.random.default_rng(n).normal(2, 3, (40_000, n))
    interval = spectra.t_interval(values)
    assert interval.n == n
    assert abs(np.mean((interval.low <= 2) & (interval.high >= 2)) - 0.95) < 0.01


def test_the_t_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=7)
    truth = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert_allclose(spectra.t_interval(values, 0.9)[1:3], truth, rtol=1e-12)


def test_pairs_remove_what_they_share() -> None:
    rng = np.random.default_rng(1)
    seed_effect = rng.normal(0, 100, 5)
    a, b = seed_effect + rng.normal(1, 0.01, 5), seed_effect
    interval = spectra.paired_t_interval(a, b)
    assert 0.9 < interval.low < interval.high < 1.1


def test_welchs_interval_is_scipys() -> None:
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(4, 7)), rng.normal(1, 5, (4, 3))
    found = spectra.welch_interval(a, b, 0.9)
    truth = stats.ttest_ind(a, b, axis=-1, equal_var=False).confidence_interval(0.9)
    assert_allclose(found[1:3], truth, rtol=1e-12)
    assert found.n == 10
    assert spectra.welch_interval([2.0, 2.0], [1.0, 1.0, 1.0])[:3] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_intervals_carry_the_scale(scale: float) -> None:
    y = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0], [4.0, 5.0, 12.0]])
    assert_allclose(
        spectra.t_interval(scale * y)[:3], scale * np.array(spectra.t_interval(y)[:3]), rtol=1e-12
    )
    pair, truth = spectra.welch_interval(scale * y[0], scale * y[1]), spectra.welch_interval(y[0], y[1])
    assert_allclose(pair[:3], scale * np.array(truth[:3]), rtol=1e-12)


def test_what_lies_beyond_float64_is_named() -> None:
    wide = np.array([1.7e308, -1.7e308])
    with pytest.raises(
        InputError, match="values are so large that their interval holds 0 NaN and 1 infinite"
    ):
        spectra.t_interval(wide)
    with pytest.raises(InputError, match="a - b holds 0 NaN and 2 infinite"):
        spectra.paired_t_interval(wide, -wide)


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(InputError, match="needs at least two runs: record more seeds"):
        spectra.t_interval([1.0])
    with pytest.raises(InputError, match="values holds 1 NaN"):
        spectra.t_interval([1.0, np.nan])
    with pytest.raises(InputError, match="level is 95"):
        spectra.t_interval([1.0, 2.0], 95)
    with pytest.raises(InputError, match=r"a has shape \(2,\) and b \(3,\)"):
        spectra.paired_t_interval([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match=r"b has shape .*at least two runs"):
        spectra.welch_interval([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match=r"a has shape \(2, 3\) and b \(4,\); all axes but the last"):
        spectra.welch_interval(np.ones((2, 3)), np.ones(4))
