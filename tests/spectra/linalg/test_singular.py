"""Singular values against numpy's."""

import numpy as np
from numpy.testing import assert_allclose

from fadiag import spectra


def test_singular_values_are_batched_and_descend() -> None:
    x = np.random.default_rng(3).standard_normal((2, 5, 4, 9))
    s = spectra.singular_values(x)
    assert s.shape == (2, 5, 4)
    assert (np.diff(s) <= 0).all()
    assert_allclose(s, np.linalg.svd(x, compute_uv=False), rtol=1e-10)
