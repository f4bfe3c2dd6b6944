"""The participation ratio: its debiased form, and the rows that carry it."""

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra


def test_effective_samples_counts_rows_of_equal_length() -> None:
    x = np.zeros((10, 4))
    x[:3] = [[3, 0, 0, 0], [0, 0, 0, 3], [0, -3, 0, 0]]
    assert_allclose(spectra.effective_samples(x), 3.0)


def averaged(x: np.ndarray) -> float:
    """Return the source's estimator as it is written: averages over distinct rows i, j, l, r."""
    k, above, below = x @ x.T, 0.0, 0.0
    for i, j, m, r in permutations(range(len(x)), 4):
        above += k[i, i] * k[j, j] - 2 * k[i, i] * k[j, m] + k[i, j] * k[m, r]
        below += k[i, j] ** 2 - 2 * k[i, j] * k[j, m] + k[i, j] * k[m, r]
    return above / below


@pytest.mark.parametrize("shape", [(6, 40), (9, 3)])
def test_the_debiased_ratio_is_its_definition_on_both_sides(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal(shape) + rng.standard_normal(shape[1])
    assert_allclose(spectra.participation_ratio_debiased(x), averaged(x), rtol=1e-9)
    assert_allclose(spectra.participation_ratio_debiased(x + 7.0), averaged(x), rtol=1e-9)


def test_the_debiased_ratio_does_not_see_the_mean_row() -> None:
    """57 equal variances and a mean of length u: without centering (57 + u²)² / (57 + 2 u² + u⁴) = 14.4."""
    n = 57
    u = np.roots([1 - 14.4, 2 * n - 2 * 14.4, n**2 - 14.4 * n]).max()  # u²
    assert_allclose((n + u) ** 2 / (n + 2 * u + u**2), 14.4)
    x = np.random.default_rng(7).standard_normal((20, 300, n)) + np.sqrt(u / n)
    assert_allclose(1 / np.mean(1 / spectra.participation_ratio_debiased(x)), 57, rtol=0.02)
    k = x @ x.transpose(0, 2, 1)
    d = np.einsum("bii->bi", k)
    off = (k**2).sum((1, 2)) - (d**2).sum(1)
    assert_allclose((d.sum(1) ** 2 - (d**2).sum(1)).mean() / off.mean(), 14.4, rtol=0.02)


def test_the_debiased_ratio_does_not_depend_on_the_number_of_samples() -> None:
    """The naive one does: a true value read from few rows is far too low."""
    rng = np.random.default_rng(6)
    scales = np.arange(1, 201) ** -0.3
    truth = (scales**2).sum() ** 2 / (scales**4).sum()
    few = rng.standard_normal((200, 32, 200)) * scales
    assert spectra.participation_ratio(few).mean() < 0.5 * truth
    assert_allclose(1 / np.mean(1 / spectra.participation_ratio_debiased(few)), truth, rtol=0.03)


def test_the_debiased_ratio_says_what_it_cannot_know() -> None:
    assert np.isposinf(spectra.participation_ratio_debiased(np.eye(4)))
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 5)))[0].T  # orthogonal up to rounding
    assert np.isposinf(spectra.participation_ratio_debiased(turned * np.arange(1.0, 6)[:, None]))
    assert np.isnan(spectra.participation_ratio_debiased([[1.0, 2.0], *[[0.0, 0.0]] * 3]))
    assert spectra.participation_ratio_debiased(np.full((5, 3), 0.1)) == 0  # no row differs from another


def test_rows_of_one_length_undo_the_weight_of_few_samples() -> None:
    """A tenth of the samples carries the error, and the raw ratio says 'low rank'."""
    x = np.random.default_rng(8).standard_normal((500, 100))
    x[50:] *= 1e-3
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert spectra.participation_ratio(x) < 0.5 * spectra.participation_ratio(unit)
