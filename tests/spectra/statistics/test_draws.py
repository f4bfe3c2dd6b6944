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


def test_refusals() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(InputError, match=r"b of shape .* is empty or all zeros"):
        spectra.permuted_cosines(np.ones(3), np.zeros(3), 5, rng)
