"""Compute debiased linear CKA, the similarity of two layers' activations (not of their credit signals)."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.linalg.center import centered
from fadiag.spectra.linalg.lapack import gram
from fadiag.spectra.validate import Floats, as_matrices, require_one_stack, scale_exactly

__all__ = ["linear_cka_debiased"]


def linear_cka_debiased(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the debiased linear CKA of two representations of the same samples.

    It is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = X Xᵀ and L = Y Yᵀ. HSIC is estimated without bias,
    from pairs of different samples only. Independent representations of any width then have mean 0; the usual
    CKA tends to 1 for wide ones.
    Rotations, translations and a common factor do not change it. It is a kernel (left side) similarity: at
    initialization two errors have 0.96-0.99 with a cosine of 0. So it does not measure credit.

    Parameters
    ----------
    x, y : array_like (..., samples, features)
        The same samples, at least four; features may differ; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN where the rows of one side are constant or all equally far apart: its pairs hold no information.

    Raises
    ------
    InputError
        The inputs have fewer than four samples or different numbers of samples, or an input is empty,
        complex, or holds NaN or infinities.

    References
    ----------
    L. Song et al., "Feature selection via dependence maximization", JMLR 13, 2012 (eq. 5).
    S. Kornblith et al., "Similarity of neural network representations revisited", ICML 2019.
    T. Nguyen, M. Raghu and S. Kornblith, "Do wide and deep networks learn the same things?", ICLR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((20, 5))
    >>> float(linear_cka_debiased(x, 3 * x[:, ::-1] + 1).round(12))
    1.0
    """
    a, b = as_matrices(x, "x"), as_matrices(y, "y")
    samples = a.shape[-2]
    if samples != b.shape[-2]:
        raise InputError(f"x has {samples} samples and y has {b.shape[-2]}; they must be the same samples")
    if samples < 4:
        raise InputError(f"x has {samples} samples; the debiased estimate needs at least four")
    require_one_stack(x=a, y=b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    values = np.empty(lead)
    stacks = (np.broadcast_to(array, (*lead, *array.shape[-2:])) for array in (a, b))
    left, right = stacks
    for index in np.ndindex(lead):
        values[index] = _of_pair(_prepared(left[index]), _prepared(right[index]))
    return values


def _prepared(matrix: Floats) -> Floats:
    # A shift does not change the estimate. After centering, its sums over rows are zero and need not cancel.
    return scale_exactly(centered(scale_exactly(matrix)[0]))[0]


def _of_pair(x: Floats, y: Floats) -> float:
    xx, yy = _hsic(x, x), _hsic(y, y)
    if xx == 0 or yy == 0:
        return np.nan
    return float(np.clip(_hsic(x, y) / np.sqrt(xx) / np.sqrt(yy), -1.0, 1.0))


def _hsic(x: Floats, y: Floats) -> float:
    """Return n (n - 3) HSIC of centered matrices; for x with itself, values at rounding level become 0."""
    n, width = len(x), min(x.shape[1], y.shape[1])
    a, b = (np.einsum("ij,ij->i", m, m) for m in (x, y))
    diagonal = float(a @ b)
    if x is y:
        g = gram(x)
        whole = float(np.vdot(g, g))
    elif n <= width:
        whole = float(np.vdot(x @ x.T, y @ y.T))
    else:
        cross = x.T @ y
        whole = float(np.vdot(cross, cross))
    value = whole - n / (n - 2) * diagonal + float(a.sum() * b.sum()) / ((n - 1) * (n - 2))
    return 0.0 if x is y and value <= 8 * n * np.finfo(np.float64).eps * whole else value
