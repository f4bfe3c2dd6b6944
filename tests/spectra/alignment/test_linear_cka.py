"""Debiased linear CKA against the U-centered form, unbiasedness, and its own invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def u_centered(x: np.ndarray) -> np.ndarray:
    """Return K less its row and column means over other samples, diagonal 0 (Székely and Rizzo 2014)."""
    k = x.astype(np.float64) @ x.astype(np.float64).T
    np.fill_diagonal(k, 0)
    n = len(k)
    rows = k.sum(axis=1, keepdims=True) / (n - 2)
    k = k - rows - rows.T + k.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(k, 0)
    return k


def dense(x: np.ndarray, y: np.ndarray) -> float:
    a, b = u_centered(x), u_centered(y)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize("widths", [(3, 5), (40, 7), (7, 40), (50, 60)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cka_is_the_cosine_of_u_centered_kernels(widths: tuple[int, int], dtype: type) -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((20, 3))
    x, y = (
        (shared @ rng.standard_normal((3, w)) + rng.standard_normal((20, w)) + 4).astype(dtype)
        for w in widths
    )
    assert_allclose(spectra.linear_cka_debiased(x, y), dense(x, y), rtol=1e-10)


def test_song_s_formula_term_by_term() -> None:
    """Four samples by hand, from eq. 5 of Song et al. 2012 with zero diagonals."""
    x, y = np.random.default_rng(1).standard_normal((2, 4, 3))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        k, other = a @ a.T, b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(other, 0)
        return (np.trace(k @ other) + k.sum() * other.sum() / (3 * 2) - 2 / 2 * (k @ other).sum()) / (4 * 1)

    truth = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert_allclose(spectra.linear_cka_debiased(x, y), truth, rtol=1e-10)


def test_independent_wide_layers_are_not_alike_where_the_biased_form_says_so() -> None:
    x, y = np.random.default_rng(2).standard_normal((2, 200, 20, 300))
    x, y = (m - m.mean(axis=1, keepdims=True) for m in (x, y))
    kernels = [m @ m.swapaxes(1, 2) for m in (x, y)]
    biased = spectra.matrix_cosine(*kernels)
    assert biased.mean() > 0.9
    found = spectra.linear_cka_debiased(x, y)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(200)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 20),
    st.integers(2, 12),
    st.sampled_from([1e-160, 1e-30, 3.0, 1e30, 1e150]),
)
def test_rotation_shift_scale_and_order_of_samples_do_not_matter(
    seed: int, n: int, width: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, width)), rng.standard_normal((n, 5))
    c = spectra.linear_cka_debiased(x, y)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0]
    order = rng.permutation(n)
    assert_allclose(spectra.linear_cka_debiased(y, x), c, atol=1e-9)
    assert_allclose(spectra.linear_cka_debiased(scale * (x @ turn + 2), y), c, atol=1e-9)
    assert_allclose(spectra.linear_cka_debiased(x[order], y[order]), c, atol=1e-9)
    assert_allclose(spectra.linear_cka_debiased(x, x), 1.0, atol=1e-9)


def test_leading_axes_broadcast() -> None:
    x, y = np.random.default_rng(3).standard_normal((2, 3, 8, 4))
    found = spectra.linear_cka_debiased(x[:, None], y[None])
    assert found.shape == (3, 3)
    assert_allclose(found[1, 2], dense(x[1], y[2]), rtol=1e-10)


@pytest.mark.parametrize("x", [np.zeros((6, 3)), np.full((6, 3), 0.1), np.eye(6)])
def test_no_pair_that_tells_anything_gives_no_number(x: np.ndarray) -> None:
    """Rows all equally far apart are alike to nothing and everything."""
    y = np.random.default_rng(4).standard_normal((6, 3))
    assert np.isnan(spectra.linear_cka_debiased(x, y))
    assert np.isnan(spectra.linear_cka_debiased(y, x))


def test_refusals() -> None:
    x = np.ones((6, 3))
    with pytest.raises(InputError, match="x has 6 samples and y has 5; they must be the same samples"):
        spectra.linear_cka_debiased(x, np.ones((5, 3)))
    with pytest.raises(InputError, match="x has 3 samples; the debiased estimate needs at least four"):
        spectra.linear_cka_debiased(np.ones((3, 3)), np.ones((3, 3)))
    with pytest.raises(InputError, match="y holds 1 NaN"):
        spectra.linear_cka_debiased(x, np.full((6, 1), [[np.nan]] + [[0.0]] * 5))
    with pytest.raises(InputError, match=r"leading axes do not broadcast: x \(2,\), y \(3,\)"):
        spectra.linear_cka_debiased(np.ones((2, 6, 3)), np.ones((3, 6, 3)))
