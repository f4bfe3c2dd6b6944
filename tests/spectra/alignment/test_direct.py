"""Weight alignment under direct feedback: DFA's own solution, and refusal where its form does not hold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def dfa(steps: int, start: float = 0.0) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Train a linear 12-9-8-4 net by DFA; returns weights, initial weights and feedbacks (identity last)."""
    rng = np.random.default_rng(0)
    sizes = (12, 9, 8, 4)
    w = [start * rng.standard_normal((o, i)) for i, o in pairwise(sizes)]
    first = [m.copy() for m in w]
    f = [*(rng.standard_normal((4, n)) for n in sizes[1:-1]), np.eye(4)]
    target = rng.standard_normal((4, 12))
    for _ in range(steps):
        h = [rng.standard_normal((32, 12))]
        for m in w:
            h.append(h[-1] @ m.T)
        delta = (h[-1] - h[0] @ target.T) / 32
        for layer in range(3):
            w[layer] -= 0.01 * (delta @ f[layer]).T @ h[layer]
    return w, first, f


def test_dfa_from_zero_weights_is_of_the_form_and_leaves_no_residual() -> None:
    w, first, f = dfa(300)
    for layer in (1, 2):
        found = spectra.alignment_matrix(w[layer], first[layer], f[layer], f[layer - 1])
        assert found.matrix.shape == (4, 4)
        assert found.residual < 1e-13
        assert found.reason == ""
        assert_allclose(f[layer].T @ found.matrix @ f[layer - 1], w[layer], atol=1e-13)
    cosine = spectra.direct_weight_cosine(w[1], f[1], f[0])
    assert cosine > 0.5
    assert_allclose(
        spectra.direct_weight_cosine(w[2], f[2], f[1]), spectra.matrix_cosine(w[2], f[1]), rtol=1e-12
    )


def test_another_start_breaks_the_form_and_the_reason_says_so() -> None:
    w, first, f = dfa(300, start=0.5)
    found = spectra.alignment_matrix(w[1], first[1], f[1], f[0])
    assert found.residual > 0.1
    assert np.isnan(found.matrix).all()
    assert found.reason.startswith("1 of 1 residuals are above 0.1 (largest 0.")
    kept = spectra.alignment_matrix(w[1], first[1], f[1], f[0], tolerance=0.99)
    assert np.isfinite(kept.matrix).all()


def test_the_matrix_is_its_definition_and_is_batched_over_steps() -> None:
    rng = np.random.default_rng(1)
    w, start = rng.standard_normal((3, 7, 6)), rng.standard_normal((7, 6))
    f, g = rng.standard_normal((4, 7)), rng.standard_normal((4, 6))
    true = rng.standard_normal((4, 4))
    w[1] = start + f.T @ true @ g
    w[2] = start
    found = spectra.alignment_matrix(w, start, f, g)
    assert np.isnan(found.matrix[0]).all()
    assert_allclose(found.matrix[1], true, rtol=1e-9)
    assert_allclose(found.matrix[2], 0)
    assert_allclose(found.residual[1:], 0, atol=1e-12)
    a = np.linalg.pinv(f.T) @ (w[0] - start) @ np.linalg.pinv(g)
    rest = w[0] - start - f.T @ a @ g
    assert_allclose(found.residual[0], np.linalg.norm(rest) / np.linalg.norm(w[0] - start), rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-100, 1e-30, 1e30, 1e100]))
def test_scale_and_rotation_of_the_outputs(seed: int, scale: float) -> None:
    """Outputs turned alike in both feedbacks change no cosine, and turn the matrix."""
    rng = np.random.default_rng(seed)
    f, g, a = rng.standard_normal((3, 7)), rng.standard_normal((3, 6)), rng.standard_normal((3, 3))
    w = f.T @ a @ g
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    c = spectra.direct_weight_cosine(w, f, g)
    flat = (f.T @ g).ravel()
    assert_allclose(c, w.ravel() @ flat / np.linalg.norm(w) / np.linalg.norm(flat), atol=1e-12)
    assert_allclose(spectra.direct_weight_cosine(scale * w, turn @ f, turn @ g / scale), c, atol=1e-9)
    turned = spectra.alignment_matrix(scale * w, 0 * w, turn @ f, turn @ g)
    assert_allclose(turned.matrix / scale, turn @ a @ turn.T, atol=1e-6)


def test_refusals() -> None:
    w, f, g = np.ones((5, 4)), np.ones((3, 5)), np.ones((3, 4))
    shapes = r"weight has shape \(5, 4\), feedback \(3, 4\) and feedback_below \(3, 4\); they must be"
    with pytest.raises(InputError, match=shapes):
        spectra.direct_weight_cosine(w, g, g)
    with pytest.raises(InputError, match=r"weight has shape \(5, 4\) and weight_init \(4, 5\)"):
        spectra.alignment_matrix(w, w.T, f, g)
    with pytest.raises(InputError, match="tolerance is -1"):
        spectra.alignment_matrix(w, w, f, g, tolerance=-1)
    with pytest.raises(InputError, match="feedback_below holds 12 NaN"):
        spectra.alignment_matrix(w, w, f, g * np.nan)
    with pytest.raises(InputError, match="weight - weight_init holds 0 NaN and 20 infinite"):
        spectra.alignment_matrix(w * 1.7e308, -w * 1.7e308, f, g)
    with pytest.raises(InputError, match=r"leading axes do not broadcast: weight \(2,\), feedback \(3,\)"):
        spectra.direct_weight_cosine(np.ones((2, 5, 4)), np.ones((3, 3, 5)), g)
