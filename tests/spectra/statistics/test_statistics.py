"""Statistics over runs: that they cover what they say, and refuse what they cannot."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from fadiag import spectra
from fadiag.errors import InputError


@pytest.mark.parametrize("n", [3, 6, 10])
def test_the_t_interval_covers_95_percent(n: int) -> None:
    values = np.random.default_rng(n).normal(2, 3, (40_000, n))
    interval = spectra.t_interval(values)
    assert interval.n == n
    assert abs(np.mean((interval.low <= 2) & (interval.high >= 2)) - 0.95) < 0.01


def test_the_t_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=7)
    truth = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert_allclose(spectra.t_interval(values, 0.9)[1:3], truth, rtol=1e-12)


def test_pairs_remove_what_they_share() -> None:
    rng = np.random.default_rng(1)
    seed_effect = rng.normal(0, 100, 5)
    a, b = seed_effect + rng.normal(1, 0.01, 5), seed_effect
    interval = spectra.paired_t_interval(a, b)
    assert 0.9 < interval.low < interval.high < 1.1


def test_welchs_interval_is_scipys() -> None:
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(4, 7)), rng.normal(1, 5, (4, 3))
    found = spectra.welch_interval(a, b, 0.9)
    truth = stats.ttest_ind(a, b, axis=-1, equal_var=False).confidence_interval(0.9)
    assert_allclose(found[1:3], truth, rtol=1e-12)
    assert found.n == 10
    assert spectra.welch_interval([2.0, 2.0], [1.0, 1.0, 1.0])[:3] == (1.0, 1.0, 1.0)


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


def test_max_t_holds_the_family_wise_level_and_finds_effects() -> None:
    rng = np.random.default_rng(3)
    false, found = [], []
    for _ in range(500):
        shared = rng.normal(size=(8, 1))
        noise = shared + rng.normal(size=(8, 5))
        false.append((spectra.max_t_sign_flip(noise, rng).p <= 0.05).any())
        noise[:, 2] += 4
        found.append(spectra.max_t_sign_flip(noise, rng).p[2] <= 0.05)
    assert np.mean(false) < 0.08
    assert np.mean(found) > 0.7


def test_six_runs_of_eight_layers_can_reject() -> None:
    """Holm over eight layers never could: its smallest p-value is 8 x 2 / 64."""
    d = np.random.default_rng(4).normal(5, 0.5, (6, 8))
    result = spectra.max_t_sign_flip(d, np.random.default_rng(5))
    assert result.flips == 64
    assert_allclose(result.p.min(), 2 / 64)
    assert_allclose(result.t, stats.ttest_1samp(d, 0).statistic, rtol=1e-9)


def test_more_runs_draw_flips_and_depend_on_the_generator_only() -> None:
    d = np.random.default_rng(6).normal(0.3, 1, (20, 3))
    a, b = (spectra.max_t_sign_flip(d, np.random.default_rng(7), draws=999) for _ in range(2))
    assert a.flips == 1000
    assert_allclose(a.p, b.p, rtol=0)
    assert a.p.min() >= 1 / 1000


def test_differences_of_zero_and_of_one_value_are_judged() -> None:
    d = np.zeros((6, 2))
    d[:, 1] = 0.1
    result = spectra.max_t_sign_flip(d, np.random.default_rng(8))
    assert_allclose(result.p, [1.0, 2 / 64])
    assert np.isfinite(result.t).all()


def test_an_onset_lasts() -> None:
    steps = np.arange(0, 400, 10)
    values = np.zeros(40)
    values[5:9] = 1  # four in a row: not yet
    values[20:] = 1
    assert spectra.onset(values, 0.5, steps) == (200, True)
    assert spectra.onset(values, np.full(40, 2.0), steps) == (390, False)
    values[22] = np.nan
    assert spectra.onset(values, 0.5, steps) == (230, True)


def test_the_onset_of_noise_is_rare() -> None:
    rng = np.random.default_rng(9)
    threshold = spectra.onset_threshold(rng.normal(size=(20, 999)))
    first = [(rng.normal(size=20) > threshold).any() for _ in range(2000)]
    assert 0.02 < np.mean(first) < 0.09


def test_kaplan_meier_keeps_the_censored() -> None:
    km = spectra.kaplan_meier([6, 6, 6, 6, 7, 9, 10, 10, 11, 13], [1, 1, 1, 0, 1, 0, 1, 0, 0, 1])
    assert_allclose(km.times, [6, 7, 10, 13])
    assert_allclose(km.survival, [0.7, 0.7 * 5 / 6, 0.7 * 5 / 6 * 3 / 4, 0.0])
    assert km.median == 10
    never = spectra.kaplan_meier([5, 9, 9], [True, False, False])
    assert never.median == np.inf
    assert spectra.kaplan_meier([9, 9], [False, False]).times.size == 0


def test_refusals_say_what_to_do() -> None:
    rng = np.random.default_rng(10)
    with pytest.raises(InputError, match="needs at least two runs: record more seeds"):
        spectra.t_interval([1.0])
    with pytest.raises(InputError, match="values holds 1 NaN"):
        spectra.t_interval([1.0, np.nan])
    with pytest.raises(InputError, match="level is 95"):
        spectra.t_interval([1.0, 2.0], 95)
    with pytest.raises(InputError, match=r"a has shape \(2,\) and b \(3,\)"):
        spectra.paired_t_interval([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match=r"b has shape .*at least two runs"):
        spectra.welch_interval([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match=r"a has shape \(2, 3\) and b \(4,\); all axes but the last"):
        spectra.welch_interval(np.ones((2, 3)), np.ones(4))
    with pytest.raises(InputError, match=r"at least 6 paired runs .* paired t interval only"):
        spectra.max_t_sign_flip(np.ones((5, 2)), rng)
    with pytest.raises(InputError, match="two seeds and two feedbacks"):
        spectra.crossed_interval(np.ones((1, 5)))
    with pytest.raises(InputError, match=r"99 draws at 20 steps; .* needs 399 draws or more"):
        spectra.onset_threshold(np.ones((20, 99)))
    with pytest.raises(InputError, match="steps do not increase"):
        spectra.onset(np.ones(5), 0, [0, 1, 1, 2, 3])
    with pytest.raises(InputError, match="an onset needs at least 5"):
        spectra.onset(np.ones(4), 0, np.arange(4))
    with pytest.raises(InputError, match="must have one length"):
        spectra.onset(np.ones(5), np.ones(4), np.arange(5))
    with pytest.raises(InputError, match="one of each a run"):
        spectra.kaplan_meier([], [])


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_intervals_carry_the_scale(scale: float) -> None:
    y = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 9.0], [4.0, 5.0, 12.0]])
    assert_allclose(
        spectra.t_interval(scale * y)[:3], scale * np.array(spectra.t_interval(y)[:3]), rtol=1e-12
    )
    pair, truth = spectra.welch_interval(scale * y[0], scale * y[1]), spectra.welch_interval(y[0], y[1])
    assert_allclose(pair[:3], scale * np.array(truth[:3]), rtol=1e-12)
    found, truth = spectra.crossed_interval(scale * y), spectra.crossed_interval(y)
    assert_allclose(found[:3], scale * np.array(truth[:3]), rtol=1e-12)
    assert_allclose(found.degrees, truth.degrees, rtol=1e-12)


def test_what_lies_beyond_float64_is_named() -> None:
    wide = np.array([1.7e308, -1.7e308])
    with pytest.raises(
        InputError, match="values are so large that their interval holds 0 NaN and 1 infinite"
    ):
        spectra.t_interval(wide)
    with pytest.raises(InputError, match="a - b holds 0 NaN and 2 infinite"):
        spectra.paired_t_interval(wide, -wide)
    with pytest.raises(InputError, match="values are so large that their interval"):
        spectra.crossed_interval(np.array([wide, wide]))


def test_flips_that_tie_up_to_rounding_count() -> None:
    # Differences that cancel: no flip has a smaller mean, whatever the order of the sum leaves of it.
    canceled = 0.1 * np.array([-2, -3, 5, -2, 5, -3])[:, None]
    assert spectra.max_t_sign_flip(canceled, np.random.default_rng(0)).p == 1.0
    # Differences that nearly agree: of |t|, though not of the mean, the rounding is large.
    agree = 1 + 1e-8 * np.random.default_rng(0).standard_normal((12, 1))
    assert spectra.max_t_sign_flip(agree, np.random.default_rng(0)).p == 2 / 2**12
