"""What updates explore, which part of them is decay or rounding, and the polar factor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def test_exploration_is_the_ratio_of_the_summed_grams() -> None:
    u = np.random.default_rng(0).standard_normal((2, 5, 6, 4)).astype(np.float32)
    found = spectra.exploration(u)
    assert found.shape == (2,)
    for i in range(2):
        g = sum(m.T @ m for m in u[i].astype(np.float64))
        assert_allclose(found[i], np.trace(g) ** 2 / (g * g).sum(), rtol=1e-10)


def test_rank_one_steps_explore_many_directions() -> None:
    """200 of 64 columns: n / (1 + n / N) = 48.5, and each step alone has one."""
    rng = np.random.default_rng(1)
    u = np.array([np.outer(rng.standard_normal(32), rng.standard_normal(64)) for _ in range(200)])
    u /= np.linalg.norm(u, axis=(1, 2), keepdims=True)
    assert_allclose(spectra.participation_ratio(u), 1, rtol=1e-9)
    assert_allclose(spectra.exploration(u), 64 / (1 + 64 / 200), rtol=0.03)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-150, 1e-30, 1e30, 1e150]))
def test_exploration_sees_neither_order_nor_scale_nor_the_left_side(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((6, 5, 4))
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    value = spectra.exploration(u)
    for other in (scale * u, rng.permutation(u), turn @ u, np.concatenate([u, u])):
        assert_allclose(spectra.exploration(other), value, rtol=1e-9)
    assert 1 <= value <= 4
    assert_allclose(
        spectra.exploration(np.repeat(u[:1], 3, axis=0)), spectra.participation_ratio(u[0]), rtol=1e-9
    )


def test_no_movement_explores_nothing() -> None:
    assert spectra.exploration(np.zeros((5, 3, 4))) == 0


def test_decay_is_taken_out_of_the_update() -> None:
    """Rank one again, where 0.01 W beside it made it look like many."""
    rng = np.random.default_rng(2)
    w = rng.standard_normal((64, 32))
    step = np.outer(rng.standard_normal(64), rng.standard_normal(32)) * 0.005
    update = step - 0.5 * 0.02 * w
    assert spectra.effective_rank_energy(update) > 5
    loss = spectra.update_loss(update, w, 0.5, 0.02)
    assert_allclose(loss, step, atol=1e-15)
    assert_allclose(spectra.effective_rank_energy(loss), 1, rtol=1e-9)
    rates = np.array([0.5, 0.25])
    both = spectra.update_loss(np.stack([update, update]), w, rates, 0.02)
    assert_allclose(both[1], update + 0.25 * 0.02 * w, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rounding_floor_is_what_rounding_leaves_of_a_small_update(dtype: type) -> None:
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((2, 200, 300)).astype(dtype)
    small = rng.standard_normal(weight.shape) * 1e-4
    after = (weight + small).astype(dtype)
    floor = spectra.rounding_floor(after, small)
    spacing = np.sqrt(np.square(np.spacing(np.abs(after)), dtype=np.float64).sum(axis=(1, 2)) / 12)
    assert_allclose(floor, spacing / np.linalg.norm(small, axis=(1, 2)), rtol=1e-6)
    if dtype is np.float32:
        lost = (after.astype(np.float64) - weight) - small
        assert_allclose(
            floor, np.linalg.norm(lost, axis=(1, 2)) / np.linalg.norm(small, axis=(1, 2)), rtol=0.02
        )
    assert_allclose(spectra.rounding_floor(after, small, eps=2.0**-7), floor * 2.0**-7 / np.finfo(dtype).eps)
    assert np.isnan(spectra.rounding_floor(weight[0], 0 * small[0]))


def test_the_polar_factor_has_ones_for_singular_values_and_keeps_the_rest_out() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 9, 6)).astype(np.float32)
    q = spectra.polar_factor(x)
    u, _, vt = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    assert_allclose(q, u @ vt, atol=1e-12)
    assert_allclose(q.swapaxes(-1, -2) @ q, np.broadcast_to(np.eye(6), (2, 6, 6)), atol=1e-12)
    low = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 6))
    assert_allclose(spectra.stable_rank(spectra.polar_factor(low)), 2, rtol=1e-9)
    assert not spectra.polar_factor(np.zeros((3, 2))).any()
    assert_allclose(spectra.polar_factor(1e-300 * low), spectra.polar_factor(low), atol=1e-9)


def test_refusals() -> None:
    with pytest.raises(
        InputError, match=r"updates has shape \(3, 4\); it must be \(\.\.\., window, rows, columns\)"
    ):
        spectra.exploration(np.ones((3, 4)))
    with pytest.raises(InputError, match="none of them empty"):
        spectra.exploration(np.ones((0, 3, 4)))
    with pytest.raises(InputError, match="updates holds 1 NaN"):
        spectra.exploration([[[1.0, np.nan]]])
    u = np.ones((3, 4))
    with pytest.raises(InputError, match=r"update has shape \(3, 4\) and weight \(4, 3\)"):
        spectra.update_loss(u, u.T, 0.1, 0.1)
    with pytest.raises(InputError, match=r"update has shape \(3, 4\) and weight \(4, 3\)"):
        spectra.rounding_floor(u.T, u)
    with pytest.raises(InputError, match="eps is 1"):
        spectra.rounding_floor(u, u, eps=1)
    with pytest.raises(InputError, match=r"decay is 1\.5"):
        spectra.update_loss(u, u, 0.1, 1.5)
    with pytest.raises(InputError, match=r"learning_rate goes down to -0\.1"):
        spectra.update_loss(u, u, -0.1, 0.1)
    with pytest.raises(InputError, match="learning_rate holds 1 NaN"):
        spectra.update_loss(u, u, np.nan, 0.1)
    with pytest.raises(InputError, match="tau is 2"):
        spectra.polar_factor(u, tau=2)
