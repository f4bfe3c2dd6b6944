"""Cosines and angles: exact, scale-free, and silent where there is no direction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError
from fadiag.spectra.alignment import cosine as alignment


def naive(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    return ((x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fused", [False, True])
def test_a_cosine_is_its_definition(dtype: type, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_FUSED", 0 if fused else 2**60)
    x, y = np.random.default_rng(0).standard_normal((2, 3, 40, 129)).astype(dtype)
    found = spectra.cosine(x, y)
    assert found.shape == (3, 40)
    assert found.dtype == np.float64
    assert_allclose(found, naive(x, y), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("fused", [False, True])
def test_a_dead_vector_has_no_direction(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_FUSED", 0 if fused else 2**60)
    x, y = np.ones((4, 5)), np.ones((4, 5))
    x[1] = 0
    y[2] = 0
    assert np.isnan(spectra.cosine(x, y)).tolist() == [False, True, True, False]
    assert np.isnan(spectra.angle(x, y)).tolist() == [False, True, True, False]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-30, 1e30, 1e300])
def test_scale_does_not_matter(scale: float, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No epsilon: parallel vectors of norm 1e-30 have the cosine 1, where torch's gives far less."""
    monkeypatch.setattr(alignment, "_FUSED", 0 if fused else 2**60)
    x = np.array([[3.0, 4.0], [1.0, 1.0]])
    y = np.array([[6.0, 8.0], [1.0, -1.0]])
    assert_allclose(spectra.cosine(scale * x, y), [1.0, 0.0], atol=1e-3 if scale < 1e-310 else 1e-12)
    assert_allclose(spectra.cosine(y, scale * x), [1.0, 0.0], atol=1e-3 if scale < 1e-310 else 1e-12)


def test_one_feedback_stands_beside_many_steps() -> None:
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((5, 12)), rng.standard_normal((1, 12))
    assert_allclose(spectra.cosine(w, b), naive(w, np.repeat(b, 5, 0)), rtol=1e-12)
    assert spectra.cosine(w[0], b[0]).shape == ()


def test_matrices_are_taken_as_vectors() -> None:
    x, y = np.random.default_rng(2).standard_normal((2, 3, 4, 5))
    assert_allclose(spectra.matrix_cosine(x, y), naive(x.reshape(3, -1), y.reshape(3, -1)), rtol=1e-12)


def test_small_angles_keep_their_digits() -> None:
    """arccos of a cosine is 0 below 1e-8, where the angle is not."""
    for truth in (1e-3, 1e-8, 1e-12, 2.0, np.pi - 1e-9):
        y = np.array([np.cos(truth), np.sin(truth)])
        assert_allclose(spectra.angle([1.0, 0.0], y), truth, rtol=1e-7 if truth > 3 else 1e-12)
    assert np.arccos(min(1.0, np.cos(1e-9))) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.integers(1, 30))
def test_cosines_are_symmetric_bounded_and_scale_free(seed: int, scale: float, n: int) -> None:
    x, y = np.random.default_rng(seed).standard_normal((2, 4, n))
    c = spectra.cosine(x, y)
    assert (np.abs(c) <= 1).all()
    assert_allclose(spectra.cosine(y, x), c, atol=1e-14)
    assert_allclose(spectra.cosine(-scale * x, y), -c, atol=1e-12)
    assert_allclose(np.cos(spectra.angle(x, y)), c, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_bad_pairs_are_refused_by_name(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_FUSED", 0 if fused else 2**60)
    x = np.ones((3, 4))
    bad = x.copy()
    bad[1, 2], bad[2, 0] = np.nan, np.inf
    with pytest.raises(InputError, match=r"y holds 1 NaN and 1 infinite of 12 values \(first at \(1, 2\)\)"):
        spectra.cosine(x, bad)
    with pytest.raises(InputError, match="vectors of length 4 and y of 5"):
        spectra.cosine(x, np.ones((3, 5)))
    with pytest.raises(InputError, match="do not broadcast"):
        spectra.cosine(x, np.ones((2, 4)))
    with pytest.raises(InputError, match=r"x has matrices of shape \(3, 4\)"):
        spectra.matrix_cosine(x, np.ones((4, 3)))
    with pytest.raises(InputError, match="n at least 1"):
        spectra.cosine(np.ones((3, 0)), np.ones((3, 0)))


def test_sign_rules_have_their_known_angle_with_the_weight() -> None:
    """uSF = sign(W) s: cosine sqrt(2/pi) for Gaussian W, sqrt(3)/2 for uniform W; frSF: 2/pi and 3/4."""
    rng = np.random.default_rng(3)
    for draw, fixed, redrawn in (
        (rng.standard_normal, np.sqrt(2 / np.pi), 2 / np.pi),
        (lambda size: rng.uniform(-1, 1, size), np.sqrt(3) / 2, 3 / 4),
    ):
        w, m = draw(400_000), draw(400_000)
        assert_allclose(spectra.cosine(w, np.sign(w)), fixed, atol=3e-3)
        assert_allclose(spectra.cosine(w, np.sign(w) * np.abs(m)), redrawn, atol=3e-3)


def test_jacobians_are_batched_over_samples_and_a_dead_one_has_no_number() -> None:
    """A ReLU layer: the gate of each sample takes columns from both maps."""
    rng = np.random.default_rng(4)
    w, b, gate = rng.standard_normal((3, 8)), rng.standard_normal((3, 8)), rng.integers(0, 2, (5, 1, 8))
    gate[2] = 0
    found = spectra.matrix_cosine(w * gate, b * gate)
    assert np.isnan(found).tolist() == [False, False, True, False, False]
    assert_allclose(found[0], naive(np.ravel(w * gate[0]), np.ravel(b * gate[0])), rtol=1e-12)


@pytest.mark.parametrize("backward", ["weights", "feedback"])
def test_the_error_kernel_of_a_wide_relu_net_follows_its_recursion(backward: str) -> None:
    """K_l = K_{l+1} o (pi - theta_l) / (2 pi) at initialization, for BP and for FA alike."""
    rng = np.random.default_rng(5)
    samples, width = 12, 4096
    x = rng.standard_normal((samples, 30))
    weight = rng.standard_normal((width, 30)) * np.sqrt(2 / 30)
    z_1 = x @ weight.T
    above = rng.standard_normal((width, width), dtype=np.float32) * np.float32(np.sqrt(2 / width))
    z_2 = np.maximum(z_1, 0) @ above.T
    delta_out = rng.standard_normal((samples, 10))
    last = rng.standard_normal((10, width)) / np.sqrt(width)
    sent = above
    if backward == "feedback":
        sent = rng.standard_normal((width, width), dtype=np.float32) * np.float32(np.sqrt(2 / width))
    delta_2 = (delta_out @ last) * (z_2 > 0)
    delta_1 = (delta_2 @ sent) * (z_1 > 0) / np.sqrt(2)
    gates = [(np.pi - spectra.angle(z[:, None], z[None])) / (2 * np.pi) for z in (z_1, z_2)]
    expected = delta_out @ delta_out.T * gates[1]
    for delta, kernel in ((delta_2, expected), (delta_1, expected * gates[0])):
        assert spectra.matrix_cosine(delta @ delta.T, kernel) > 0.995
        assert spectra.matrix_cosine(delta @ delta.T, delta_out @ delta_out.T) < 0.98  # the gates count
    assert_allclose(delta_2 @ delta_2.T, expected, atol=0.06 * np.abs(expected).max())
    assert_allclose(delta_1 @ delta_1.T, expected * gates[0], atol=0.06 * np.abs(expected).max())
