"""Products of weights against products of feedbacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def flat_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_a_path_is_the_cosine_of_products() -> None:
    rng = np.random.default_rng(2)
    w = [rng.standard_normal(s) for s in ((2, 5, 8), (6, 5), (3, 6))]
    b = [rng.standard_normal(s) for s in ((5, 8), (6, 5), (3, 6))]
    found = spectra.path_alignment(w, b)
    assert found.shape == (2,)
    for i in range(2):
        assert_allclose(found[i], flat_cosine(w[2] @ w[1] @ w[0][i], b[2] @ b[1] @ b[0]), rtol=1e-12)
    assert_allclose(spectra.path_alignment(w, w), 1.0)
    direct = rng.standard_normal((3, 8))
    assert_allclose(
        spectra.path_alignment(w, [direct])[1], flat_cosine(w[2] @ w[1] @ w[0][1], direct), rtol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([1e-200, 1e-30, 1e30, 1e200]))
def test_a_path_does_not_know_the_scale_of_its_factors(seed: int, depth: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    w, b = (list(rng.standard_normal((depth, 4, 4))) for _ in range(2))
    c = spectra.path_alignment(w, b)
    assert_allclose(spectra.path_alignment([scale * m for m in w], b), c, atol=1e-9)
    assert_allclose(spectra.path_alignment(w, [-b[0], *b[1:]]), -c, atol=1e-12)
    assert_allclose(spectra.path_alignment(b, w), c, atol=1e-12)


def test_in_a_linear_net_the_jacobians_are_the_paths() -> None:
    rng = np.random.default_rng(3)
    w, b = ([rng.standard_normal((6, 8)), rng.standard_normal((3, 6))] for _ in range(2))
    true, feedback = w[1] @ w[0], b[1] @ b[0]
    truth = spectra.path_alignment(w, b)
    assert_allclose(spectra.matrix_cosine(true, feedback), truth, rtol=1e-12)
    drawn = rng.standard_normal((20_000, 3))
    assert_allclose(spectra.matrix_cosine(drawn @ true, drawn @ feedback), truth, atol=0.02)


def test_refusals() -> None:
    w = np.ones((3, 4))
    with pytest.raises(InputError, match="weights holds no matrix"):
        spectra.path_alignment([], [w])
    with pytest.raises(InputError, match=r"feedbacks\[1\] has 4 columns and what lies below it 3 rows"):
        spectra.path_alignment([w], [w, w])
    with pytest.raises(
        InputError, match=r"product of weights has shape \(3, 4\) and that of feedbacks \(4, 3\)"
    ):
        spectra.path_alignment([w], [w.T])
    with pytest.raises(InputError, match=r"weights\[0\] has shape \(4,\)"):
        spectra.path_alignment([w[0]], [w])
