"""Pseudo-backprop against its definition and Lillicrap's linear net."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def test_pseudo_backprop_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    delta, w = rng.standard_normal((3, 6, 4)), rng.standard_normal((3, 4, 9))
    found = spectra.pseudo_backprop(delta, w.astype(np.float32))
    wide = w.astype(np.float32).astype(np.float64)
    for i in range(3):
        assert_allclose(found[i], delta[i] @ np.linalg.pinv(wide[i]).T, rtol=1e-9, atol=1e-12)
        assert_allclose(found[i] @ wide[i].T, delta[i], rtol=1e-9)  # W maps it back: that is the point of it


def test_rows_of_one_length_make_pseudo_backprop_backprop() -> None:
    rng = np.random.default_rng(1)
    w = 3 * np.linalg.qr(rng.standard_normal((9, 4)))[0].T
    delta = rng.standard_normal((6, 4))
    assert_allclose(spectra.cosine(spectra.pseudo_backprop(delta, w), delta @ w), 1, rtol=1e-12)


def test_rcond_leaves_out_what_is_rounding() -> None:
    w = np.diag([1.0, 1e-4])
    assert_allclose(spectra.pseudo_backprop([[1.0, 1.0]], w), [[1.0, 1e4]])
    assert_allclose(spectra.pseudo_backprop([[1.0, 1.0]], w, rcond=1e-3), [[1.0, 0.0]], atol=1e-12)
    assert_allclose(spectra.pseudo_backprop([[1.0, 1.0]], 0 * w), [[0.0, 0.0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-140, 1e-30, 5.0, 1e30, 1e140]))
def test_pseudo_backprop_scales_with_the_error_and_against_the_weight(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    delta, w = rng.standard_normal((5, 3)), rng.standard_normal((3, 7))
    truth = spectra.pseudo_backprop(delta, w)
    assert_allclose(spectra.pseudo_backprop(scale * delta, w), scale * truth, rtol=1e-9)
    assert_allclose(spectra.pseudo_backprop(delta, scale * w), truth / scale, rtol=1e-9)
    assert_allclose(spectra.pseudo_backprop(scale * delta, scale * w), truth, rtol=1e-9)


def test_lillicrap_s_linear_net_ends_nearer_to_pseudo_backprop_than_to_backprop() -> None:
    """30-20-10, a linear target, fixed random B: both angles fall from 90 degrees, the pseudo one further."""
    rng = np.random.default_rng(0)
    target = rng.uniform(-1, 1, (10, 30))
    w_0, w, b = (
        0.01 * rng.uniform(-1, 1, (20, 30)),
        0.01 * rng.uniform(-1, 1, (10, 20)),
        rng.uniform(-0.5, 0.5, (10, 20)),
    )
    angles = []
    for step in range(4001):
        x = rng.standard_normal((16, 30))
        h = x @ w_0.T
        delta = h @ w.T - x @ target.T
        modulator = delta @ b
        if step in (0, 4000):
            others = (delta @ w, spectra.pseudo_backprop(delta, w))
            angles.append([np.degrees(spectra.angle(modulator, other)).mean() for other in others])
        w -= 0.002 * delta.T @ h / 16 * 4
        w_0 -= 0.002 * modulator.T @ x / 16 * 4
    (bp_first, _), (bp_last, pseudo_last) = angles
    assert bp_first > 60
    assert pseudo_last < bp_last < 45
    assert pseudo_last < 10


def test_refusals() -> None:
    w = np.ones((3, 4))
    with pytest.raises(InputError, match="delta has 4 columns and weight 3 rows; both are the units"):
        spectra.pseudo_backprop(w, w)
    with pytest.raises(InputError, match="rcond is 1; it must be one number, at least 0 and below 1"):
        spectra.pseudo_backprop(np.ones((2, 3)), w, rcond=1)
    with pytest.raises(InputError, match="weight holds 12 NaN"):
        spectra.pseudo_backprop(np.ones((2, 3)), w * np.nan)
    with pytest.raises(
        InputError, match="delta times the pseudo-inverse of weight holds 0 NaN and 1 infinite"
    ):
        spectra.pseudo_backprop([[1e300]], [[1e-300]])
