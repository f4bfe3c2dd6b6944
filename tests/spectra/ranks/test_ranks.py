"""The ranks against dense definitions, against each other, and against closed forms."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.spectra.linalg import singular

RANKS = {
    "stable_rank": lambda s: (s**2).sum() / s.max() ** 2,
    "participation_ratio": lambda s: (s**2).sum() ** 2 / (s**4).sum(),
    "effective_rank_energy": lambda s: np.exp(-sum(p * np.log(p) for p in s**2 / (s**2).sum() if p > 0)),
    "effective_rank": lambda s: np.exp(-sum(q * np.log(q) for q in s / s.sum() if q > 0)),
}


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_spectrum(s: np.ndarray, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (orthogonal(rows, len(s), rng) * s) @ orthogonal(columns, len(s), rng).T


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


def test_singular_values_are_batched_and_descend() -> None:
    x = np.random.default_rng(3).standard_normal((2, 5, 4, 9))
    s = spectra.singular_values(x)
    assert s.shape == (2, 5, 4)
    assert (np.diff(s) <= 0).all()
    assert_allclose(s, np.linalg.svd(x, compute_uv=False), rtol=1e-10)


@pytest.mark.parametrize("shape", [(96, 300), (256, 512), (8192, 32), (8192, 64), (256, 256)])
@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_effective_rank_is_right_to_a_millionth(shape, condition: float, dtype: type) -> None:
    x = with_spectrum(np.geomspace(1, 1 / condition, min(shape)), *shape).astype(dtype)
    truth = RANKS["effective_rank"](np.linalg.svd(x.astype(np.float64), compute_uv=False))
    assert_allclose(spectra.effective_rank(x), truth, rtol=1e-6)


def test_a_gram_matrix_alone_would_not_do() -> None:
    """Rank one in float64: the Gram matrix leaves 256 false values of 1e-9 to 1e-8, which the check sees."""
    x = with_spectrum(np.ones(1), 256, 300)
    squares = np.linalg.eigvalsh(singular.gram(x))[::-1]
    false = np.sqrt(np.maximum(squares, 0))
    assert spectra.effective_rank_of_spectrum(false) > 1 + 1e-6
    assert_allclose(spectra.effective_rank(x), 1, rtol=1e-9)


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


def test_effective_samples_counts_rows_of_equal_length() -> None:
    x = np.zeros((10, 4))
    x[:3] = [[3, 0, 0, 0], [0, 0, 0, 3], [0, -3, 0, 0]]
    assert_allclose(spectra.effective_samples(x), 3.0)


def test_the_debiased_ratio_is_its_definition_on_both_sides() -> None:
    for shape in ((6, 40), (40, 6)):
        x = np.random.default_rng(5).standard_normal(shape)
        k = x @ x.T
        d = (np.diag(k) ** 2).sum()
        truth = (np.trace(k) ** 2 - d) / ((k**2).sum() - d)
        assert_allclose(spectra.participation_ratio_debiased(x), truth, rtol=1e-10)


def test_the_debiased_ratio_does_not_depend_on_the_number_of_samples() -> None:
    """The naive one does: a true value read from few rows is far too low."""
    rng = np.random.default_rng(6)
    scales = np.arange(1, 201) ** -0.3
    truth = (scales**2).sum() ** 2 / (scales**4).sum()
    few = rng.standard_normal((200, 32, 200)) * scales
    assert spectra.participation_ratio(few).mean() < 0.5 * truth
    assert_allclose(1 / np.mean(1 / spectra.participation_ratio_debiased(few)), truth, rtol=0.03)


def test_the_debiased_ratio_says_what_it_cannot_know() -> None:
    assert np.isposinf(spectra.participation_ratio_debiased(np.eye(4)))
    assert np.isposinf(spectra.participation_ratio_debiased(np.eye(6)[:, :4]))
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 5)))[0].T  # orthogonal up to rounding
    assert np.isposinf(spectra.participation_ratio_debiased(turned * np.arange(1.0, 6)[:, None]))
    assert np.isnan(spectra.participation_ratio_debiased([[1.0, 2.0], [0.0, 0.0]]))


def test_gaussian_matrices_have_the_ranks_of_the_marchenko_pastur_law() -> None:
    rows, columns = 128, 64
    x = np.random.default_rng(7).standard_normal((400, rows, columns))
    exact = (rows + columns + 1) / (rows * columns + 2)  # E[1/PR]
    assert_allclose(np.mean(1 / spectra.participation_ratio(x)), exact, rtol=2e-3)
    law = spectra.marchenko_pastur(rows, columns)
    s = spectra.singular_values(x[:60])
    for name in ("participation_ratio", "effective_rank", "effective_rank_energy"):
        found = getattr(spectra, f"{name}_of_spectrum")(s).mean()
        assert_allclose(found, getattr(law, name), rtol=0.01, err_msg=name)
    assert_allclose(spectra.stable_rank_of_spectrum(s).mean(), law.stable_rank, rtol=0.07)
    assert_allclose([s.min(), s.max()], [law.low, law.high], rtol=0.15)


def test_the_square_law_has_the_known_shares() -> None:
    law = spectra.marchenko_pastur(1000, 1000, std=0.5)
    assert_allclose([law.low, law.high], [0, 0.5 * 2 * np.sqrt(1000)])
    assert_allclose(law.participation_ratio, 500)
    assert_allclose(law.effective_rank, 805, atol=1)
    assert_allclose(law.effective_rank_energy, 606.5, atol=0.1)


def test_rows_of_one_length_undo_the_weight_of_few_samples() -> None:
    """A tenth of the samples carries the error, and the raw ratio says 'low rank'."""
    x = np.random.default_rng(8).standard_normal((500, 100))
    x[50:] *= 1e-3
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert spectra.participation_ratio(x) < 0.5 * spectra.participation_ratio(unit)


def test_centered_has_no_mean_row_and_equal_rows_vanish() -> None:
    x = np.random.default_rng(10).standard_normal((2, 50, 7)).astype(np.float32) + 5
    c = spectra.centered(x)
    assert c.dtype == np.float64
    assert_allclose(c, x.astype(float) - x.astype(float).mean(axis=1, keepdims=True), atol=1e-13)
    assert not spectra.centered(np.full((11, 3), 0.1)).any()


def heavy(kind: str, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(11)
    z = rng.standard_normal(shape)
    k = min(shape)
    kinds = {
        "gaussian": z,
        "constant": np.full(shape, 0.1),
        "relu": np.maximum(z, 0),
        "heavy tails": rng.standard_t(1.5, shape),
        "steep": (orthogonal(shape[0], k, rng) * np.geomspace(1, 1e-9, k)) @ orthogonal(shape[1], k, rng).T,
        "two nearly equal": (orthogonal(shape[0], k, rng) * np.r_[1, 1 - 1e-5, np.full(k - 2, 0.5)])
        @ orthogonal(shape[1], k, rng).T,
    }
    return kinds[kind]


@pytest.mark.parametrize("shape", [(200, 400), (400, 200), (2048, 40)])
@pytest.mark.parametrize("kind", ["gaussian", "constant", "relu", "heavy tails", "steep", "two nearly equal"])
def test_large_float32_matrices_keep_their_digits(kind: str, shape: tuple[int, int]) -> None:
    """Their Gram matrix is made in float32, which the tail would not survive and these two do."""
    for scale in (1e-25, 1.0, 1e25):
        x = (scale * heavy(kind, shape)).astype(np.float32)
        assert singular.in_single(x)
        s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
        assert_allclose(spectra.participation_ratio(x), RANKS["participation_ratio"](s), rtol=1e-6)
        assert_allclose(spectra.stable_rank(x), RANKS["stable_rank"](s), rtol=1e-9)
    assert_allclose(spectra.participation_ratio(np.zeros(shape, np.float32)), 0)
    assert_allclose(spectra.stable_rank(np.zeros(shape, np.float32)), 0)
