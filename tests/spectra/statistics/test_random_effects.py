"""The crossed interval covers, where pooling does not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


def crossed(rng: np.random.Generator, n: int, seed: float, feedback: float) -> np.ndarray:
    rows, columns = rng.normal(0, seed, (n, 1)), rng.normal(0, feedback, (1, n))
    return 1 + rows + columns + rng.normal(0, 1, (n, n))


@pytest.mark.parametrize(("seed", "feedback"), [(2, 2), (2, 0.5), (0.5, 0.5), (0, 0), (3, 0)])
def test_the_crossed_interval_covers_where_pooling_does_not(seed: float, feedback: float) -> None:
    rng = np.random.default_rng(2)
    covered, pooled = [], []
    for _ in range(3000):
        y = crossed(rng, 3, seed, feedback)
        found, naive = spectra.crossed_interval(y), spectra.t_interval(y.ravel())
        covered.append(found.low <= 1 <= found.high)
        pooled.append(naive.low <= 1 <= naive.high)
    assert np.mean(covered) >= 0.94
    if seed == feedback == 2:
        assert np.mean(pooled) < 0.8


def test_the_crossed_interval_by_hand() -> None:
    y = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0], [4.0, 5.0, 12.0]])
    grand = y.mean()
    ms_seed = 3 * ((y.mean(1) - grand) ** 2).sum() / 2
    ms_b = 3 * ((y.mean(0) - grand) ** 2).sum() / 2
    rest = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + grand
    ms_e = (rest**2).sum() / 4
    total = ms_seed + ms_b - ms_e
    degrees = total**2 / (ms_seed**2 / 2 + ms_b**2 / 2 + ms_e**2 / 4)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(total / 9)
    assert_allclose(spectra.crossed_interval(y), [grand, grand - half, grand + half, degrees], rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_the_interval_carries_the_scale(scale: float) -> None:
    y = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0], [4.0, 5.0, 12.0]])
    found, truth = spectra.crossed_interval(scale * y), spectra.crossed_interval(y)
    assert_allclose(found[:3], scale * np.array(truth[:3]), rtol=1e-12)
    assert_allclose(found.degrees, truth.degrees, rtol=1e-12)


def test_refusals() -> None:
    with pytest.raises(InputError, match="two seeds and two feedbacks"):
        spectra.crossed_interval(np.ones((1, 5)))
    wide = np.array([1.7e308, -1.7e308])
    with pytest.raises(InputError, match="values are so large that their interval"):
        spectra.crossed_interval(np.array([wide, wide]))
