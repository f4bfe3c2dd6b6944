"""Removing the mean row."""

import numpy as np
from numpy.testing import assert_allclose

from fadiag import spectra


def test_centered_has_no_mean_row_and_equal_rows_vanish() -> None:
    x = np.random.default_rng(10).standard_normal((2, 50, 7)).astype(np.float32) + 5
    c = spectra.centered(x)
    assert c.dtype == np.float64
    assert_allclose(c, x.astype(float) - x.astype(float).mean(axis=1, keepdims=True), atol=1e-13)
    assert not spectra.centered(np.full((11, 3), 0.1)).any()
