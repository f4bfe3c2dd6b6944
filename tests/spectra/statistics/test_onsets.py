"""Onsets last, are rare in noise, and keep the runs without one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


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
