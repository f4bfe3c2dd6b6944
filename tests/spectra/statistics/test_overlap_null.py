"""The overlap by chance, held by simulation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def test_the_moments_of_chance_are_those_of_drawn_subspaces() -> None:
    rng = np.random.default_rng(7)
    u = np.linalg.qr(rng.standard_normal((4000, 12, 3)))[0]
    shared = spectra.overlap_of_bases(u, np.eye(12)[:, :3])
    moments = spectra.overlap_moments(12, 3)
    assert_allclose(shared.mean(), moments.mean, atol=4 * moments.std / np.sqrt(4000))
    assert_allclose(shared.std(), moments.std, rtol=0.05)
    wide = np.square(u.swapaxes(-1, -2) @ np.eye(12)[:, :5]).sum(axis=(-2, -1)) / 3
    other = spectra.overlap_moments(12, 3, 5)
    assert_allclose([wide.mean(), wide.std()], [other.mean, other.std], rtol=0.05)


def test_a_line_overlaps_with_itself() -> None:
    assert spectra.overlap_moments(1, 1) == (1.0, 0.0)
    assert spectra.overlap_moments(7, 7) == (1.0, 0.0)


def test_refusals() -> None:
    with pytest.raises(InputError, match="other is 9; it must be between 1 and 8"):
        spectra.overlap_moments(8, 2, 9)
