"""Overlap and principal angles of right subspaces, beside scipy and by construction."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def with_right_side(basis: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Return a matrix of rank k whose right subspace is spanned by the basis (columns, k)."""
    left = np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, basis.shape[1])))[0]
    return (left * np.linspace(2, 1, basis.shape[1])) @ basis.T


def planes(columns: int, angles: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two bases with the given principal angles."""
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((columns, 2 * len(angles))))[0]
    u, w = q[:, : len(angles)], q[:, len(angles) :]
    return u, u * np.cos(angles) + w * np.sin(angles)


@pytest.mark.parametrize("rows", [5, 80])
def test_the_angles_are_the_ones_that_were_built(rows: int) -> None:
    truth = np.array([1e-12, 1e-9, 1e-4, 0.3, 1.5])
    u, v = planes(30, truth)
    assert_allclose(spectra.principal_angles_of_bases(u, v), truth, rtol=1e-3, atol=2e-15)
    x, y = with_right_side(u, rows, 1), with_right_side(v, rows, 2)
    found = spectra.principal_angles(x, y, 5)
    assert_allclose(found, truth, atol=5e-14)
    assert_allclose(spectra.overlap(x, y, 5), np.mean(np.cos(truth) ** 2), rtol=1e-12)


def test_scipy_agrees() -> None:
    u, v = (np.linalg.qr(m)[0] for m in np.random.default_rng(3).standard_normal((2, 40, 6)))
    truth = np.sort(scipy.linalg.subspace_angles(u, v))
    assert_allclose(spectra.principal_angles_of_bases(u, v), truth, rtol=1e-12, atol=1e-14)


def test_only_the_feature_side_counts() -> None:
    """Rows turned into one another change nothing; the left side is kernel similarity, not credit."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 20, 12))
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    assert_allclose(spectra.overlap(turn @ x, y, 4), spectra.overlap(x, y, 4), rtol=1e-10)
    assert_allclose(spectra.overlap(x, x, 4), 1.0, rtol=1e-12)


def test_a_batch_and_float32() -> None:
    x, y = np.random.default_rng(5).standard_normal((2, 3, 8, 10)).astype(np.float32)
    found = spectra.overlap(x, y, 3)
    assert found.shape == (3,)
    assert spectra.principal_angles(x, y, 3).shape == (3, 3)
    for i in range(3):
        u, v = (np.linalg.svd(m.astype(float))[2][:3].T for m in (x[i], y[i]))
        assert_allclose(found[i], (np.abs(u.T @ v) ** 2).sum() / 3, rtol=1e-10)


def test_missing_directions_overlap_with_nothing() -> None:
    """A completion of a rank-2 matrix to three directions would be arbitrary, and so would its overlap."""
    x = np.random.default_rng(6).standard_normal((9, 2)) @ np.eye(2, 7)
    assert_allclose(spectra.overlap(x, x, 3), 2 / 3, rtol=1e-10)
    assert spectra.overlap(np.zeros((9, 7)), x, 3) == 0.0
    with pytest.raises(InputError, match="the first input has 2 directions, k is 3; take a smaller k"):
        spectra.principal_angles(x, np.eye(7), 3)


@pytest.mark.parametrize("k", [0, 5, 2.5, True])
def test_k_must_fit(k: object) -> None:
    with pytest.raises(InputError, match="k is"):
        spectra.overlap(np.ones((4, 9)), np.ones((6, 9)), k)


def test_sides_must_fit() -> None:
    with pytest.raises(InputError, match="x has 4 columns and y has 5"):
        spectra.overlap(np.ones((4, 4)), np.ones((4, 5)), 1)
    with pytest.raises(InputError, match="v holds 1 NaN"):
        spectra.overlap_of_bases(np.eye(4)[:, :1], [[np.nan], [0.0], [0.0], [1.0]])
    with pytest.raises(InputError, match="not of unit length"):
        spectra.overlap_of_bases(np.ones((4, 1)), np.eye(4)[:, :1])
    with pytest.raises(InputError, match="must be equal"):
        spectra.overlap_of_bases(np.eye(4)[:, :1], np.eye(4)[:, :2])


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (60, 60)])
def test_both_ways_to_a_basis_agree_and_unclear_directions_go_to_the_svd(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(8).standard_normal(shape)
    v = np.linalg.svd(x)[2][:5].T
    basis = spectra.right_basis(x, 5)
    assert_allclose(basis.T @ basis, np.eye(5), atol=1e-13)
    assert_allclose(spectra.overlap_of_bases(basis, v), 1, rtol=1e-12)
    assert spectra.principal_angles_of_bases(basis, v).max() < 1e-12
    u, w = (np.linalg.qr(np.random.default_rng(9).standard_normal((side, 6)))[0] for side in shape)
    steep = (u * np.geomspace(1, 1e-9, 6)) @ w.T
    assert spectra.principal_angles_of_bases(spectra.right_basis(steep, 6), w).max() < 1e-5
    assert not spectra.right_basis(steep, 7)[:, 6].any()


@pytest.mark.parametrize(
    "angle", [1e-13, 1e-7, 1e-4, 0.9e-3, 1.1e-3, 0.1, 0.785, 1.5, np.pi / 2 - 1e-3, np.pi / 2 - 1e-9]
)
def test_every_angle_is_right_to_rounding_whatever_it_is_made_from(angle: float) -> None:
    """Middle angles come from squared cosines; at both ends these have lost half the digits."""
    u, v = planes(40, np.array([angle]), seed=12)
    assert_allclose(spectra.principal_angles_of_bases(u, v), [angle], rtol=1e-12, atol=1e-13)
    truth = np.sort([angle, 0.4, 1.2])
    u, v = planes(40, truth, seed=13)
    error = np.abs(spectra.principal_angles_of_bases(u, v) - truth)
    peer = np.abs(np.sort(scipy.linalg.subspace_angles(u, v)) - truth)
    assert error.max() < max(peer.max(), 1e-13)  # scipy's is 1e-9 off at 1e-7


def test_angles_of_single_precision_bases_lose_no_more_than_the_bases_have() -> None:
    truth = np.array([1e-3, 0.05, 0.6, 1.0, 1.5])
    u, v = (side.astype(np.float32) for side in planes(60, truth, seed=14))
    wide = spectra.principal_angles_of_bases(u.astype(np.float64), v.astype(np.float64))
    error = np.abs(spectra.principal_angles_of_bases(u, v) - wide)
    peer = np.abs(np.sort(scipy.linalg.subspace_angles(u, v)) - wide)
    assert error.max() < min(3e-7, 2 * peer.max())
    far = np.array([0.9, 1.2])  # no angle below 45 degrees: made from a product in single precision
    u, v = (side.astype(np.float32) for side in planes(60, far, seed=15))
    assert_allclose(spectra.principal_angles_of_bases(u, v), far, atol=3e-7)
