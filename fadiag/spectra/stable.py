"""Stable rank: the energy in units of the largest direction."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.spectra.singular import gram
from fadiag.spectra.validate import Floats, as_matrices, as_spectra, scale_exactly

__all__ = ["stable_rank", "stable_rank_of_spectrum"]

#: Up to this size all eigenvalues cost less than the Krylov iterations for one.
_SMALL = 192


def stable_rank(x: ArrayLike) -> Floats:
    """Stable rank: sum s² / max s². A matrix of zeros has rank 0.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        Where ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

    Examples
    --------
    >>> import numpy as np
    >>> float(stable_rank(np.diag([2.0, 2.0, 1.0])).round(12))
    2.25
    """
    array = as_matrices(x)
    stack = array.reshape(-1, *array.shape[-2:])
    values = [_of_gram(gram(scale_exactly(m)[0])) for m in stack]
    return np.array(values, dtype=np.float64).reshape(array.shape[:-2])


def _of_gram(g: Floats) -> float:
    total = float(np.trace(g))
    return total / _largest(g) if total > 0 else 0.0


def _largest(g: Floats) -> float:
    if len(g) > _SMALL:
        from scipy.sparse.linalg import ArpackNoConvergence, eigsh

        # A fixed start makes the number reproducible; a random direction is orthogonal to no eigenvector.
        start = np.random.default_rng(0).standard_normal(len(g))
        try:
            return float(eigsh(g, k=1, which="LA", v0=start, tol=1e-10, return_eigenvectors=False)[0])
        except ArpackNoConvergence:
            pass
    return float(np.linalg.eigvalsh(g)[-1])


def stable_rank_of_spectrum(s: ArrayLike) -> Floats:
    """Stable rank from singular values (..., k); see `stable_rank`.

    Examples
    --------
    >>> float(stable_rank_of_spectrum([2.0, 2.0, 0.0]))
    2.0
    """
    array = as_spectra(s)
    peak = array.max(axis=-1, keepdims=True)
    relative = np.divide(array, peak, out=np.zeros_like(array), where=peak > 0)
    return np.asarray(np.square(relative).sum(axis=-1))
