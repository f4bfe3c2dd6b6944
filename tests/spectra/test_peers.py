"""Peers, where they are right and where they are known to be wrong.

Their formulas are restated here in a line or two: none of the packages is needed to run this.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from fadiag import spectra


def test_torch_s_cosine_of_small_parallel_vectors_is_a_tenth() -> None:
    """F.cosine_similarity raises norms to 1e-8, so late errors look misaligned; here nothing is added."""
    x = np.array([3e-10, 4e-10]) * 2
    peer = float(torch.nn.functional.cosine_similarity(torch.tensor(x), torch.tensor([3.0, 4.0]), dim=0))
    assert_allclose(peer, 0.1, rtol=1e-6)
    assert_allclose(spectra.cosine(x, [3.0, 4.0]), 1.0, rtol=1e-12)


def test_delve_s_saturation_of_ten_equal_directions_is_nine_tenths() -> None:
    """Saturation counts eigenvalues before the 99 % mark (Richter et al. 2021), not those that reach it."""
    x = np.eye(10)
    shares = np.cumsum(np.linalg.svd(x, compute_uv=False) ** 2) / 10
    assert np.count_nonzero(shares < 0.99) == 9
    for rank in (spectra.participation_ratio, spectra.effective_rank, spectra.effective_rank_energy):
        assert_allclose(rank(x), 10)


def test_weightwatcher_s_stable_rank_and_entropy_agree() -> None:
    """Sum over maximum of the eigenvalues, and -sum p ln p / ln rank, p = s² / sum s² (arXiv 1810.01075)."""
    x = np.random.default_rng(0).standard_normal((40, 12))
    eigenvalues = np.linalg.eigvalsh(x.T @ x)
    assert_allclose(spectra.stable_rank(x), eigenvalues.sum() / eigenvalues.max(), rtol=1e-10)
    p = eigenvalues / eigenvalues.sum()
    entropy = -(p * np.log(p)).sum() / np.log(12)
    assert_allclose(np.log(spectra.effective_rank_energy(x)) / np.log(12), entropy, rtol=1e-10)


@pytest.mark.parametrize("truth", [1e-8, 1e-10])
def test_the_arccos_of_a_cosine_loses_small_angles(truth: float) -> None:
    """As in every package that takes arccos of a cosine or of a singular value."""
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((30, 4)))[0]
    u, v = q[:, :2], q[:, :2] * np.cos(truth) + q[:, 2:] * np.sin(truth)
    peer = np.arccos(np.clip(np.linalg.svd(u.T @ v, compute_uv=False), 0, 1))
    assert np.abs(peer / truth - 1).max() > 0.5
    assert_allclose(spectra.principal_angles_of_bases(u, v), truth, rtol=1e-6)
    assert_allclose(spectra.angle(u.T, v.T), truth, rtol=1e-6)


def test_biotorch_s_angle_of_frsf_is_that_of_another_matrix() -> None:
    """It takes the stored M, whose signs are its own, where the backward pass uses |M| sign(W)."""
    w, m = np.random.default_rng(2).uniform(-1, 1, (2, 300, 400))
    peer = np.degrees(np.arccos((w * m).sum() / np.linalg.norm(w) / np.linalg.norm(m)))
    assert abs(peer - 90) < 1
    used = np.degrees(spectra.angle(w.ravel(), (np.abs(m) * np.sign(w)).ravel()))
    assert_allclose(used, np.degrees(np.arccos(3 / 4)), atol=0.5)


def test_the_naive_participation_ratio_grows_with_the_rows_and_the_debiased_one_does_not() -> None:
    """A true 86 reads 23, 51 and 74 at 32, 128 and 512 rows (Chun et al., arXiv 2509.26560)."""
    rng = np.random.default_rng(3)
    scales = np.r_[np.ones(86), np.full(30, 1e-3)]
    truth = (scales**2).sum() ** 2 / (scales**4).sum()
    naive, debiased = [], []
    for n in (32, 128, 512):
        x = rng.standard_normal((100, n, scales.size)) * scales
        naive.append(spectra.participation_ratio(x).mean())
        debiased.append(1 / np.mean(1 / spectra.participation_ratio_debiased(x)))
    assert_allclose(naive, [23, 51, 74], atol=1.0)
    assert_allclose(debiased, truth, rtol=0.03)


def test_the_usual_linear_cka_of_wide_independent_layers_is_near_one() -> None:
    """Kornblith et al.'s |XᵀY|² / (|XᵀX| |YᵀY|) at 16 samples of 2000 features each."""
    x, y = np.random.default_rng(4).standard_normal((2, 16, 2000))
    x, y = (m - m.mean(axis=0) for m in (x, y))
    peer = np.square(x.T @ y).sum() / np.linalg.norm(x @ x.T) / np.linalg.norm(y @ y.T)
    assert peer > 0.97
    assert abs(spectra.linear_cka_debiased(x, y)) < 0.3
