"""One decomposition gives what two give."""

import numpy as np
import pytest

from fadiag import spectra
from fadiag.spectra.alignment.spectrum_and_basis import spectrum_and_basis

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "matrix",
    [
        RNG.standard_normal((70, 40)),
        RNG.standard_normal((40, 70)) * 1e-30,
        RNG.standard_normal((50, 50)).astype(np.float32),
        RNG.standard_normal((60, 3)) @ RNG.standard_normal((3, 50)),  # too flat a tail for a Gram matrix
        np.diag(10.0 ** -np.arange(40)),  # directions that squaring loses
        RNG.standard_normal((8, 5)),
        RNG.standard_normal((4000, 40)),
    ],
)
def test_it_is_the_spectrum_and_the_basis(matrix):
    s, basis = spectrum_and_basis(matrix, 4)
    expected = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(s, expected, rtol=1e-7, atol=1e-12 * expected[0])
    assert spectra.overlap_of_bases(basis, spectra.right_basis(matrix, 4)) == pytest.approx(
        min(4, np.linalg.matrix_rank(matrix)) / 4, rel=1e-9
    )
