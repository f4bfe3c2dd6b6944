"""The law of cos(W, B), held by simulation."""

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


def test_refusals() -> None:
    with pytest.raises(InputError, match="cosines lie between"):
        spectra.cosine_null_p(1.5, 10)
    with pytest.raises(InputError, match="probabilities lie between"):
        spectra.cosine_null_quantile(1.5, 10)
    with pytest.raises(InputError, match="size is 1; it must be at least 2"):
        spectra.cosine_null_p(0.5, 1)
