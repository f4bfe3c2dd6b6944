"""The participation ratio: its debiased form, and the rows that carry it."""

import numpy as np
from numpy.testing import assert_allclose

from fadiag import spectra


def test_effective_samples_counts_rows_of_equal_length() -> None:
    x = np.zeros((10, 4))
    x[:3] = [[3, 0, 0, 0], [0, 0, 0, 3], [0, -3, 0, 0]]
    assert_allclose(spectra.effective_samples(x), 3.0)


def test_the_debiased_ratio_is_its_definition_on_both_sides() -> None:
    for shape in ((6, 40), (40, 6)):
        x = np.random.default_rng(5).standard_normal(shape)
        k = x @ x.T
        d = (np.diag(k) ** 2).sum()
        truth = (np.trace(k) ** 2 - d) / ((k**2).sum() - d)
        assert_allclose(spectra.participation_ratio_debiased(x), truth, rtol=1e-10)


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
    assert np.isposinf(spectra.participation_ratio_debiased(np.eye(6)[:, :4]))
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 5)))[0].T  # orthogonal up to rounding
    assert np.isposinf(spectra.participation_ratio_debiased(turned * np.arange(1.0, 6)[:, None]))
    assert np.isnan(spectra.participation_ratio_debiased([[1.0, 2.0], [0.0, 0.0]]))


def test_rows_of_one_length_undo_the_weight_of_few_samples() -> None:
    """A tenth of the samples carries the error, and the raw ratio says 'low rank'."""
    x = np.random.default_rng(8).standard_normal((500, 100))
    x[50:] *= 1e-3
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert spectra.participation_ratio(x) < 0.5 * spectra.participation_ratio(unit)
