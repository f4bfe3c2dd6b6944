"""The Marchenko-Pastur law against drawn matrices and known shares."""

import numpy as np
from numpy.testing import assert_allclose

from fadiag import spectra


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
