"""The ranks against dense definitions, and against each other."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from fadiag import spectra
from tests.spectra.dense import RANKS, orthogonal


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 3), (3, 5), (300, 4), (40, 260), (230, 230)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rank_is_its_definition(name: str, shape: tuple[int, int], dtype: type) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    found = getattr(spectra, name)(x)
    assert_allclose(found, RANKS[name](s), rtol=1e-10)
    assert_allclose(getattr(spectra, f"{name}_of_spectrum")(s), found, rtol=1e-10)


@pytest.mark.parametrize("name", [*RANKS, "effective_samples", "participation_ratio_debiased"])
def test_leading_axes_are_a_batch_and_the_result_is_float64(name: str) -> None:
    function = getattr(spectra, name)
    x = np.random.default_rng(2).standard_normal((2, 3, 6, 4)).astype(np.float32)
    found = function(x)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    assert found[1, 2] == function(x[1, 2])
    assert function(x[:0]).shape == (0, 3)


def ladder(x: np.ndarray) -> list[float]:
    s = spectra.singular_values(x)
    return [
        float(spectra.stable_rank(x)),
        float(spectra.participation_ratio(x)),
        float(spectra.effective_rank_energy(x)),
        float(s.sum() ** 2 / (s**2).sum()),
        float(spectra.effective_rank(x)),
        float(np.linalg.matrix_rank(x, tol=0)),
    ]


entries = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda v: round(v, 3))


matrices = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=entries
).filter(np.any)


@settings(max_examples=150, deadline=None)
@given(matrices)
def test_the_ladder_holds_for_every_matrix(x: np.ndarray) -> None:
    steps = ladder(x)
    for below, above in pairwise(steps):
        assert below <= above * (1 + 1e-6)
    assert steps[0] >= 1 - 1e-9
    assert spectra.participation_ratio(x) <= spectra.effective_samples(x) * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(matrices, st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 7.0, 1e30]))
def test_ranks_do_not_see_rotation_scale_order_or_padding(x: np.ndarray, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    columns = x.shape[1]
    turned = x @ orthogonal(columns, columns, rng)
    padded = np.pad(x, ((0, 2), (0, 3)))
    for name in RANKS:
        function = getattr(spectra, name)
        truth = function(x)
        for other in (turned, scale * x, rng.permutation(x), padded, x.T):
            assert_allclose(function(other), truth, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", [*RANKS, "effective_samples", "participation_ratio_debiased"])
def test_a_matrix_of_zeros_has_no_directions(name: str) -> None:
    found = getattr(spectra, name)(np.zeros((2, 4, 3)))
    assert_allclose(found, [0.0, 0.0])


@pytest.mark.parametrize("name", list(RANKS))
def test_a_spectrum_of_zeros_has_no_directions(name: str) -> None:
    assert getattr(spectra, f"{name}_of_spectrum")(np.zeros(4)) == 0.0
