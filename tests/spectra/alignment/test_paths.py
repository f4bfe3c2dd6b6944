"""Pseudo-backprop, paths and Jacobians: dense definitions, nets trained by hand, invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def flat_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


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
    assert_allclose(spectra.jacobian_alignment(true, feedback), truth, rtol=1e-12)
    drawn = rng.standard_normal((20_000, 3))
    assert_allclose(spectra.jacobian_alignment(drawn @ true, drawn @ feedback), truth, atol=0.02)


def test_jacobians_are_batched_over_samples_and_a_dead_one_has_no_number() -> None:
    """A ReLU layer: the gate of each sample takes columns from both maps."""
    rng = np.random.default_rng(4)
    w, b, gate = rng.standard_normal((3, 8)), rng.standard_normal((3, 8)), rng.integers(0, 2, (5, 1, 8))
    gate[2] = 0
    found = spectra.jacobian_alignment(w * gate, b * gate)
    assert np.isnan(found).tolist() == [False, False, True, False, False]
    assert_allclose(found[0], flat_cosine(w * gate[0], b * gate[0]), rtol=1e-12)


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
    with pytest.raises(InputError, match=r"true has shape \(3, 4\), feedback \(4, 3\)"):
        spectra.jacobian_alignment(w, w.T)
    with pytest.raises(InputError, match=r"leading axes do not broadcast: true \(2,\), feedback \(3,\)"):
        spectra.jacobian_alignment(np.ones((2, 3, 4)), np.ones((3, 3, 4)))
