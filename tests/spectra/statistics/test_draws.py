"""Drawn nulls, held by simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


@pytest.mark.parametrize("n", [3, 7, 40, 250])
def test_permuted_entries_are_the_null_of_any_law(n: int) -> None:
    """Exponential entries: the Beta law is centered at 0 and wrong here, orders are right, however few."""
    rng = np.random.default_rng(n)
    w, b = rng.exponential(size=(2, 500, n))
    p = spectra.p_value(spectra.cosine(w, b), spectra.permuted_cosines(w, b, 99, rng))
    # Of three entries there are six orders, so that most draws are ties: p errs towards 1.
    alternative = "two-sided" if n > 3 else "greater"
    assert stats.kstest(p, "uniform", alternative=alternative).pvalue > 1e-3
    assert np.mean(p <= 0.05) <= 0.08
    assert (spectra.cosine_null_p(spectra.cosine(w, b), n) < 0.05).mean() > 0.2


@pytest.mark.parametrize(("n", "draws"), [(7, 9_999), (360, 9_999), (9_000, 4_999), (360, 2_002)])
def test_orders_along_rings_have_the_law_of_any_order(n: int, draws: int) -> None:
    rng = np.random.default_rng(n)
    w, b = rng.standard_normal(n) + 0.3, rng.exponential(size=n)
    found = spectra.permuted_cosines(w, b, draws, rng)
    assert found.shape == (draws,)
    w, b = w / np.linalg.norm(w), b / np.linalg.norm(b)
    one_by_one = np.array([w @ rng.permutation(b) for _ in range(4000)])
    assert stats.ks_2samp(found, one_by_one).pvalue > 1e-3
    assert_allclose(found.mean(), n * w.mean() * b.mean(), atol=4 * found.std() / np.sqrt(draws))


def test_every_pair_gets_the_same_orders() -> None:
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((5, 30)).astype(np.float32), rng.standard_normal((1, 30))
    together = spectra.permuted_cosines(w, b, 99, np.random.default_rng(3))
    for i in range(5):
        alone = spectra.permuted_cosines(w[i], b[0], 99, np.random.default_rng(3))
        assert_allclose(together[i], alone, rtol=1e-12)


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
    with pytest.raises(InputError, match="they need as many entries"):
        spectra.permuted_cosines(np.ones(3), np.ones(2), 5, rng)
    with pytest.raises(InputError, match=r"w of shape \(0, 0\) is empty or all zeros"):
        spectra.permuted_cosines(np.ones((0, 0)), np.ones((0, 0)), 5, rng)
