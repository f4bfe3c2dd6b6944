"""The effective rank keeps its digits at any condition."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.spectra.linalg import singular
from tests.spectra.dense import RANKS, with_spectrum


@pytest.mark.parametrize("shape", [(96, 300), (256, 512), (8192, 32), (8192, 64), (256, 256)])
@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_effective_rank_is_right_to_a_millionth(shape, condition: float, dtype: type) -> None:
    x = with_spectrum(np.geomspace(1, 1 / condition, min(shape)), *shape).astype(dtype)
    truth = RANKS["effective_rank"](np.linalg.svd(x.astype(np.float64), compute_uv=False))
    assert_allclose(spectra.effective_rank(x), truth, rtol=1e-6)


def test_a_gram_matrix_alone_would_not_do() -> None:
    """Rank one in float64: the Gram matrix leaves 256 false values of 1e-9 to 1e-8, which the check sees."""
    x = with_spectrum(np.ones(1), 256, 300)
    squares = np.linalg.eigvalsh(singular.gram(x))[::-1]
    false = np.sqrt(np.maximum(squares, 0))
    assert spectra.effective_rank_of_spectrum(false) > 1 + 1e-6
    assert_allclose(spectra.effective_rank(x), 1, rtol=1e-9)
