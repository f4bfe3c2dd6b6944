"""The max-T sign-flip test holds its level and finds effects."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


def test_max_t_holds_the_family_wise_level_and_finds_effects() -> None:
    rng = np.random.default_rng(3)
    false, found = [], []
    for _ in range(500):
        shared = rng.normal(size=(8, 1))
        noise = shared + rng.normal(size=(8, 5))
        false.append((spectra.max_t_sign_flip(noise, rng).p <= 0.05).any())
        noise[:, 2] += 4
        found.append(spectra.max_t_sign_flip(noise, rng).p[2] <= 0.05)
    assert np.mean(false) < 0.08
    assert np.mean(found) > 0.7


def test_six_runs_of_eight_layers_can_reject() -> None:
    """Holm over eight layers never could: its smallest p-value is 8 x 2 / 64."""
    d = np.random.default_rng(4).normal(5, 0.5, (6, 8))
    result = spectra.max_t_sign_flip(d, np.random.default_rng(5))
    assert result.flips == 64
    assert_allclose(result.p.min(), 2 / 64)
    assert_allclose(result.t, stats.ttest_1samp(d, 0).statistic, rtol=1e-9)


def test_more_runs_draw_flips_and_depend_on_the_generator_only() -> None:
    d = np.random.default_rng(6).normal(0.3, 1, (20, 3))
    a, b = (spectra.max_t_sign_flip(d, np.random.default_rng(7), draws=999) for _ in range(2))
    assert a.flips == 1000
    assert_allclose(a.p, b.p, rtol=0)
    assert a.p.min() >= 1 / 1000


def test_differences_of_zero_and_of_one_value_are_judged() -> None:
    d = np.zeros((6, 2))
    d[:, 1] = 0.1
    result = spectra.max_t_sign_flip(d, np.random.default_rng(8))
    assert_allclose(result.p, [1.0, 2 / 64])
    assert np.isfinite(result.t).all()


def test_flips_that_tie_up_to_rounding_count() -> None:
    # Differences that cancel: no flip has a smaller mean, whatever the order of the sum leaves of it.
    canceled = 0.1 * np.array([-2, -3, 5, -2, 5, -3])[:, None]
    assert spectra.max_t_sign_flip(canceled, np.random.default_rng(0)).p == 1.0
    # Differences that nearly agree: of |t|, though not of the mean, the rounding is large.
    agree = 1 + 1e-8 * np.random.default_rng(0).standard_normal((12, 1))
    assert spectra.max_t_sign_flip(agree, np.random.default_rng(0)).p == 2 / 2**12


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 6 paired runs .* paired t interval only"):
        spectra.max_t_sign_flip(np.ones((5, 2)), np.random.default_rng(10))
