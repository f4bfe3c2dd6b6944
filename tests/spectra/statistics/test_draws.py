"""Drawn nulls, held by simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


def test_permuted_entries_are_the_null_of_any_law() -> None:
    """Exponential entries: the Beta law is centered at 0 and wrong here, permutations are right."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(400):
        w, b = rng.exponential(size=(2, 40))
        p.append(spectra.p_value(spectra.cosine(w, b), spectra.permuted_cosines(w, b, 99, rng)))
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert spectra.cosine_null_p(spectra.cosine(w, b), 40) < 0.01


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


def test_refusals() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(InputError, match="a 3 x 2 matrix takes up to 2"):
        spectra.gaussian_with_spectrum(np.ones(3), 3, 2, rng)
    with pytest.raises(InputError, match="1 negative singular values"):
        spectra.gaussian_with_spectrum([1.0, -1.0], 3, 2, rng)
    with pytest.raises(InputError, match=r"b of shape .* is empty or all zeros"):
        spectra.permuted_cosines(np.ones(3), np.zeros(3), 5, rng)
