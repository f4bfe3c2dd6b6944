"""Compare the triangular factor with the matrix in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fadiag.capture.signals.qr_factor import factor, unit_rows


@pytest.mark.parametrize("condition", [1, 1e3, 1e9])
@pytest.mark.parametrize("size", [7, 64, 1000])
def test_a_factor_does_not_depend_on_how_the_rows_are_cut(size, condition):
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    x = x * torch.logspace(0, -np.log10(condition), 8) @ torch.linalg.qr(torch.randn(8, 8)).Q
    whole = factor([x.unsqueeze(2)])
    parts = factor([part.unsqueeze(2) for part in x.split(size)])
    tolerance = 1e-11
    torch.testing.assert_close(parts, whole, rtol=0, atol=tolerance * float(whole.abs().max()))
    exact = torch.linalg.qr(torch.cat([torch.ones(300, 1), x], 1).double()).R
    exact *= exact.diagonal().sign()[:, None]
    torch.testing.assert_close(whole, exact, rtol=0, atol=tolerance * float(whole.abs().max()))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 12),
    positions=st.integers(1, 5),
    dead=st.integers(0, 3),
    repeated=st.booleans(),
    scale=st.sampled_from([1e-20, 1.0, 1e15]),
    seed=st.integers(0, 2**16),
)
def test_a_factor_has_the_gram_matrix_of_its_rows(*, rows, columns, positions, dead, repeated, scale, seed):
    x = torch.randn(rows, columns, positions, generator=torch.Generator().manual_seed(seed)) * scale
    x[:, :dead] = 0.0
    if repeated:
        x[:, -1] = x[:, 0]
    upper = factor([x], ones=False)
    flat = x.double().transpose(1, 2).reshape(-1, columns)
    assert upper.shape == (min(rows * positions, columns), columns)
    assert torch.equal(upper, upper.triu())
    assert (upper.diagonal() >= 0).all()
    gram = flat.T @ flat
    torch.testing.assert_close(upper.T @ upper, gram, rtol=0, atol=1e-12 * float(gram.abs().max()))
    squares, fourth, unit = unit_rows([x], flat.mean(0))
    torch.testing.assert_close(squares, flat.square().sum(1), rtol=1e-12, atol=0)
    apart = (flat - flat.mean(0)).square().sum(1)
    torch.testing.assert_close(fourth, apart.square().sum(), rtol=1e-9, atol=1e-26 * scale**4)
    ones = torch.nn.functional.normalize(flat / scale, dim=1)
    torch.testing.assert_close(unit[:, 1:].T @ unit[:, 1:], ones.T @ ones, rtol=0, atol=1e-6 * len(flat))
