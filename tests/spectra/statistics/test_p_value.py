"""P-values against draws: ties, draws that died, and exchangeability."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


def test_p_counts_ties_and_never_reaches_zero() -> None:
    null = np.arange(99.0)
    assert spectra.p_value(1e9, null) == 0.01
    assert spectra.p_value(-1.0, null) == 1.0
    assert spectra.p_value(98.0, null) == 0.02
    assert_allclose(spectra.p_value([1e9, np.nan], np.stack([null, null])), [0.01, np.nan])


def test_draws_that_equal_the_observed_value_up_to_rounding_are_ties() -> None:
    null = np.full(99, 2.5)
    for rounding in (1e-8, 1e-15, 0.0, -1e-8):
        assert spectra.p_value(2.5 * (1 + rounding), null) == 1.0
        assert spectra.p_value(-2.5 * (1 + rounding), -null) == 1.0
    assert spectra.p_value(2.5 * (1 + 1e-5), null) == 0.01
    # Sums that are zero in one order and 1e-17 in another; one draw that is far away is no scale.
    assert spectra.at_or_above([0.0, 0.3, -0.2, 0.1], 0.1 + 0.2 - 0.3) == 3
    assert spectra.at_or_above([1e9, 1.0, 1.0, np.nan], 1.1) == 1
    assert spectra.at_or_above([[1.0, 2.0], [1.0, 2.0]], [1.5, np.nan]).tolist() == [1, 0]


def test_the_lower_tail_counts_what_is_as_low_and_ties_count_on_both_sides() -> None:
    null = np.arange(99.0)
    assert spectra.p_value(-1.0, null, tail="lower") == 0.01
    assert spectra.p_value(0.0, null, tail="lower") == 0.02
    assert spectra.p_value(1e9, null, tail="lower") == 1.0
    assert spectra.p_value(2.5 * (1 + 1e-9), np.full(99, 2.5), tail="lower") == 1.0
    rng = np.random.default_rng(4)
    seen, draws = rng.standard_normal(50), rng.standard_normal((50, 19))
    both = spectra.p_value(seen, draws) + spectra.p_value(seen, draws, tail="lower")
    assert_allclose(both, 21 / 20)  # each draw counts once, the observed value twice
    assert np.isnan(spectra.p_value(np.nan, null, tail="lower"))


def mean_error_cosine(delta: np.ndarray, feedback: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return spectra.cosine(delta @ feedback, truth).mean(axis=-1)


def test_redrawn_feedback_is_a_null_where_a_t_test_over_samples_is_not() -> None:
    """A linear layer, ten classes: 128 samples share one B, so they are not 128 facts."""
    rng = np.random.default_rng(2)
    p, naive = [], []
    for _ in range(300):
        delta = rng.standard_normal((128, 10)) * np.linspace(3, 0.3, 10)
        delta -= delta.mean(axis=1, keepdims=True)  # rank nine, as a softmax makes it
        truth = delta @ rng.standard_normal((10, 64))
        feedbacks = rng.standard_normal((100, 10, 64))
        seen = mean_error_cosine(delta, feedbacks, truth)
        p.append(float(spectra.p_value(seen[0], seen[1:])))
        naive.append(stats.ttest_1samp(spectra.cosine(delta @ feedbacks[0], truth), 0).pvalue)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.085
    assert np.mean(np.array(naive) <= 0.05) > 0.5


@pytest.mark.parametrize(
    ("null", "observed", "message"),
    [
        ([], 1.0, "needs a draw that is a number"),
        ([np.nan, np.nan], 1.0, "needs a draw that is a number"),
        ([1.0, np.inf], 1.0, "null holds 1 infinite"),
        ([1.0, 2.0], np.inf, "observed holds 1 infinite"),
        ([1j], 1.0, "null is complex"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), 1.0, "null is a masked array"),
    ],
)
def test_what_is_no_null_is_refused(null: object, observed: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectra.at_or_above(null, observed)


def test_draws_at_the_end_of_the_range_are_counted() -> None:
    assert spectra.at_or_above([1.7e308, 1.7e308, -1.7e308, np.nan], 1.7e308) == 2


def test_a_draw_that_died_does_not_count() -> None:
    null = [[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]]
    assert_allclose(spectra.p_value([2.0, 2.0], null), [2 / 3, 3 / 4])


def test_refusals() -> None:
    with pytest.raises(InputError, match="at least one draw"):
        spectra.p_value(1.0, [])
    with pytest.raises(InputError, match="needs a draw that is a number"):
        spectra.p_value(1.0, [np.nan])
    with pytest.raises(InputError, match="null holds 1 infinite"):
        spectra.p_value(1.0, [np.inf])
    with pytest.raises(InputError, match="do not fit"):
        spectra.p_value(np.ones(3), np.ones((2, 9)))
