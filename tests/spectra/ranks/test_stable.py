"""Ranks of the leading directions in single precision: stable rank and participation ratio."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.spectra.linalg import singular
from tests.spectra.dense import RANKS, orthogonal


def heavy(kind: str, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(11)
    z = rng.standard_normal(shape)
    k = min(shape)
    kinds = {
        "gaussian": z,
        "constant": np.full(shape, 0.1),
        "relu": np.maximum(z, 0),
        "heavy tails": rng.standard_t(1.5, shape),
        "steep": (orthogonal(shape[0], k, rng) * np.geomspace(1, 1e-9, k)) @ orthogonal(shape[1], k, rng).T,
        "two nearly equal": (orthogonal(shape[0], k, rng) * np.r_[1, 1 - 1e-5, np.full(k - 2, 0.5)])
        @ orthogonal(shape[1], k, rng).T,
    }
    return kinds[kind]


@pytest.mark.parametrize("shape", [(200, 400), (400, 200), (2048, 40)])
@pytest.mark.parametrize("kind", ["gaussian", "constant", "relu", "heavy tails", "steep", "two nearly equal"])
def test_large_float32_matrices_keep_their_digits(kind: str, shape: tuple[int, int]) -> None:
    """Their Gram matrix is made in float32, which the tail would not survive and these two do."""
    for scale in (1e-25, 1.0, 1e25):
        x = (scale * heavy(kind, shape)).astype(np.float32)
        assert singular.in_single(x)
        s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
        assert_allclose(spectra.participation_ratio(x), RANKS["participation_ratio"](s), rtol=1e-6)
        assert_allclose(spectra.stable_rank(x), RANKS["stable_rank"](s), rtol=1e-9)
    assert_allclose(spectra.participation_ratio(np.zeros(shape, np.float32)), 0)
    assert_allclose(spectra.stable_rank(np.zeros(shape, np.float32)), 0)
