"""Laws and draws of chance, held by simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


def test_the_cosine_of_a_gaussian_feedback_follows_the_beta_law() -> None:
    """Whatever W is: here one with a single large entry."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(30)
    w[0] = 50
    cosines = spectra.cosine(w, rng.standard_normal((20_000, 30)))
    p = spectra.cosine_null_p(cosines, 30)
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    q = np.array([0.01, 0.025, 0.5, 0.975])
    assert_allclose(np.mean(cosines[:, None] <= spectra.cosine_null_quantile(q, 30), axis=0), q, atol=0.012)


def test_quantile_and_p_are_inverse_and_odd() -> None:
    q = np.linspace(0, 1, 21)
    c = spectra.cosine_null_quantile(q, 12)
    assert_allclose(c, -c[::-1], atol=1e-12)
    assert_allclose(spectra.cosine_null_p(c, 12), 1 - q, atol=1e-12)
    assert np.isnan(spectra.cosine_null_p(np.nan, 12))


def test_the_angle_spreads_by_57_degrees_over_root_d() -> None:
    d = 100_000
    width = np.degrees(np.arccos(spectra.cosine_null_quantile(stats.norm.cdf(-1), d))) - 90
    assert_allclose(width, 57.2958 / np.sqrt(d), rtol=1e-3)


def test_permuted_entries_are_the_null_of_any_law() -> None:
    """Exponential entries: the Beta law is centered at 0 and wrong here, permutations are right."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        w, b = rng.exponential(size=(2, 40))
        p.append(spectra.p_value(spectra.cosine(w, b), spectra.permuted_cosines(w, b, 99, rng)))
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert spectra.cosine_null_p(spectra.cosine(w, b), 40) < 0.01


def test_p_counts_ties_and_never_reaches_zero() -> None:
    null = np.arange(99.0)
    assert spectra.p_value(1e9, null) == 0.01
    assert spectra.p_value(-1.0, null) == 1.0
    assert spectra.p_value(98.0, null) == 0.02
    assert_allclose(spectra.p_value([1e9, np.nan], np.stack([null, null])), [0.01, np.nan])


def mean_error_cosine(delta: np.ndarray, feedback: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return spectra.cosine(delta @ feedback, truth).mean(axis=-1)


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


def test_sign_flips_keep_magnitudes_and_gates() -> None:
    x = np.random.default_rng(3).standard_normal((2, 30, 20))
    x[x < 0] = 0
    flipped = spectra.sign_flipped(x, np.random.default_rng(4))
    assert_allclose(np.abs(flipped), x)
    assert 0.4 < (flipped[x > 0] > 0).mean() < 0.6
    assert (spectra.stable_rank(flipped) > spectra.stable_rank(x)).all()


def test_a_drawn_modulator_has_the_spectrum_and_no_preferred_side() -> None:
    rng = np.random.default_rng(5)
    s = np.array([5.0, 2.0, 1.0])
    draws = np.stack([spectra.gaussian_with_spectrum(s, 7, 4, rng) for _ in range(3000)])
    assert_allclose(spectra.singular_values(draws)[:, :3], np.tile(s, (3000, 1)), rtol=1e-9)
    assert_allclose(np.einsum("dij,dik->jk", draws, draws) / 3000, np.eye(4) * (s**2).sum() / 4, atol=0.5)
    assert_allclose(draws.mean(axis=0), 0, atol=0.15)


def test_refusals_say_why() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(InputError, match="a 3 x 2 matrix takes up to 2"):
        spectra.gaussian_with_spectrum(np.ones(3), 3, 2, rng)
    with pytest.raises(InputError, match="1 negative singular values"):
        spectra.gaussian_with_spectrum([1.0, -1.0], 3, 2, rng)
    with pytest.raises(InputError, match="at least one draw"):
        spectra.p_value(1.0, [])
    with pytest.raises(InputError, match="null holds 1 NaN"):
        spectra.p_value(1.0, [np.nan])
    with pytest.raises(InputError, match="do not fit"):
        spectra.p_value(np.ones(3), np.ones((2, 9)))
    with pytest.raises(InputError, match="cosines lie between"):
        spectra.cosine_null_p(1.5, 10)
    with pytest.raises(InputError, match="probabilities lie between"):
        spectra.cosine_null_quantile(1.5, 10)
    with pytest.raises(InputError, match="size is 1; it must be at least 2"):
        spectra.cosine_null_p(0.5, 1)
    with pytest.raises(InputError, match=r"b of shape .* is empty or all zeros"):
        spectra.permuted_cosines(np.ones(3), np.zeros(3), 5, rng)
    with pytest.raises(InputError, match="other is 9; it must be between 1 and 8"):
        spectra.overlap_moments(8, 2, 9)


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
