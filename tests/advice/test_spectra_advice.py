"""The advice of fadiag.spectra."""

import numpy as np
import pytest
import scipy.sparse
import torch

from fadiag import spectra
from fadiag.errors import InputError
from fadiag.spectra.alignment.path_alignment import path_alignment
from fadiag.spectra.alignment.subspace import overlap, principal_angles_of_bases, right_basis
from fadiag.spectra.statistics.cosine_null import cosine_null_quantile
from fadiag.spectra.statistics.intervals import paired_t_interval, t_interval
from fadiag.spectra.statistics.onsets import onset, onset_threshold
from fadiag.spectra.statistics.p_value import p_value
from fadiag.spectra.statistics.sign_flip import max_t_sign_flip
from tests.advice.advice import Table

ADVICE = Table()
rank = spectra.effective_rank
EYE = np.eye(4)
HOLED = np.array([[1.0, np.nan], [0.0, 1.0]])
FLAT = np.ones((5, 4))  # a matrix of rank 1


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:.*quantization:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "calls"),
    [
        (lambda x: x.requires_grad_(), ".detach().cpu().numpy()"),
        (lambda x: x.to(torch.bfloat16), ".detach().float().cpu().numpy()"),
        (lambda x: x.to(torch.float8_e4m3fn), ".detach().float().cpu().numpy()"),
        (lambda x: x.to_sparse(), ".detach().to_dense().cpu().numpy()"),
        (lambda x: x.to_sparse_csr(), ".detach().to_dense().cpu().numpy()"),
        (lambda x: x.to(torch.bfloat16).to_sparse(), ".detach().to_dense().float().cpu().numpy()"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), ".detach().dequantize().cpu().numpy()"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_a_tensor_becomes_an_array_as_the_message_says(make, calls):
    x = make(torch.eye(4))
    with pytest.raises(InputError) as error:
        rank(x)
    assert str(error.value).endswith(f"; pass x{calls}")
    assert rank(eval(f"x{calls}")) == pytest.approx(4)


ADVICE.row(
    "; pass {name}{_to_numpy(values)}",
    lambda at: rank(torch.eye(4, requires_grad=True)),
    lambda at: rank(torch.eye(4, requires_grad=True).detach().cpu().numpy()),
)
ADVICE.row(
    "pass {name}.toarray()",
    lambda at: rank(scipy.sparse.eye(4, format="csr")),
    lambda at: rank(scipy.sparse.eye(4, format="csr").toarray()),
)
ADVICE.row(
    "is a masked array; fill or drop what is masked",
    lambda at: rank(np.ma.masked_array(EYE, mask=EYE > 0)),
    lambda at: rank(np.ma.masked_array(EYE, mask=EYE > 0).filled(0.5)),
    lambda at: rank(np.ma.compress_rows(np.ma.masked_array(EYE, mask=np.diag([1, 1, 1, 0])))),
)
ADVICE.row(
    "pass its real part or its modulus",
    lambda at: rank(EYE + 0j),
    lambda at: rank((EYE + 0j).real),
    lambda at: rank(abs(EYE + 0j)),
)
ADVICE.row(
    "leave them out or repair them first",
    lambda at: rank(HOLED),
    lambda at: rank(HOLED[1:]),
    lambda at: rank(np.nan_to_num(HOLED)),
)
ADVICE.row(
    "give those above the layer, the nearest first",
    lambda at: path_alignment([], [EYE]),
    lambda at: path_alignment([np.ones((3, 4)), np.ones((2, 3))], [np.ones((2, 4))]),
)
ADVICE.row(
    "take it from right_basis or a QR",
    lambda at: principal_angles_of_bases(2 * EYE, EYE),
    lambda at: principal_angles_of_bases(right_basis(2 * EYE, 4), EYE),
    lambda at: principal_angles_of_bases(np.linalg.qr(2 * EYE).Q, EYE),
)
ADVICE.row(
    "take a smaller k, or use overlap",
    lambda at: principal_angles_of_bases(right_basis(FLAT, 2), right_basis(EYE, 2)),
    lambda at: principal_angles_of_bases(right_basis(FLAT, 1), right_basis(EYE, 1)),
    lambda at: overlap(FLAT, EYE, 2),
)
ADVICE.row(
    "an interval needs at least two runs: record more seeds",
    lambda at: t_interval([1.0]),
    lambda at: t_interval([1.0, 2.0]),
)
ADVICE.row(
    "redraw more often, judge fewer steps, or pass a threshold",
    lambda at: onset_threshold(np.ones((10, 19))),
    lambda at: onset_threshold(np.ones((10, 199))),
    lambda at: onset_threshold(np.ones((1, 19))),
    lambda at: onset(np.ones(10), cosine_null_quantile(1 - 0.05 / 10, 100), np.arange(10)),
)
ADVICE.row(
    "an onset needs at least {need}: record more often",
    lambda at: onset([1, 1], 0.5, [0, 10]),
    lambda at: onset(np.ones(6), 0.5, np.arange(6)),
)
ADVICE.row(
    "infinite values; leave them out",
    lambda at: p_value(1.0, [np.inf, 1.0]),
    lambda at: p_value(1.0, [1.0]),
)
ADVICE.row(
    "layer (below, give the paired t interval only)",
    lambda at: max_t_sign_flip(np.ones((3, 2)), np.random.default_rng(0)),
    lambda at: paired_t_interval([1.0, 2.0, 3.0], [0.0, 1.0, 3.0]),
)
