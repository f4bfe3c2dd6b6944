"""Factors in place of the signals: what they keep of the matrix, against the raw matrix in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag import spectra
from fadiag.capture import Live, Probe, Recorder, Subset
from fadiag.capture.factor import blocks_of, factor
from fadiag.capture.reduction import Factors
from fadiag.capture.signals import Reading
from fadiag.errors import InputError
from fadiag.rules import convert
from fadiag.store import open_run

SHAPES = [(4096, 32), (2048, 64), (512, 128), (128, 512)]
LARGE = [
    pytest.param(*shape, marks=pytest.mark.slow)
    for shape in [(131072, 32), (32768, 64), (4096, 256), (512, 2048)]
]


def ill(rows, columns, seed, mean=0.0):
    """Float32 data of condition 1e9."""
    rng = np.random.default_rng(seed)
    rank = min(rows, columns)
    left, right = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in (rows, columns))
    shift = mean * rng.standard_normal(columns) / np.sqrt(rows * columns)
    return ((left * np.logspace(0, -9, rank)) @ right.T + shift).astype(np.float32)


def effective_rank(matrix):
    values = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    return spectra.effective_rank_of_spectrum(values)


def reduced(arrays, dims=("sample", "out"), unfolding="samples", rows=None):
    readings = {name: [Reading(torch.from_numpy(x), dims)] for name, x in arrays.items()}
    return Factors(unfolding, rows)("layer", readings)


def centred(signal):
    if signal.attrs["factor_side"] == "rows":
        return signal.array[1:]
    return signal.array - signal.array.astype(np.float64).mean(0)


@pytest.mark.parametrize(("rows", "columns"), SHAPES + LARGE)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_the_effective_rank_of_a_factor_is_that_of_the_matrix_at_condition_1e9(rows, columns, mean):
    x, twin = ill(rows, columns, 0, mean), ill(rows, columns, 1, mean)
    found = reduced({"error": x, "error_bp": twin})
    for name, matrix in (("error", x), ("error_bp", twin)):
        matrix = matrix.astype(np.float64)
        print(name, effective_rank(found[name].array)/effective_rank(matrix)-1, effective_rank(centred(found[name]))/effective_rank(matrix - matrix.mean(0))-1)
        assert found[name].array.dtype == np.float32
        assert effective_rank(found[name].array) == pytest.approx(effective_rank(matrix), rel=1e-8)
        assert effective_rank(centred(found[name])) == pytest.approx(
            effective_rank(matrix - matrix.mean(0)), rel=1e-8
        )
