"""Compute the stable rank: the energy of a matrix divided by that of its largest direction."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.spectra.linalg.lapack import gram_eigenvalues
from fadiag.spectra.linalg.singular import energy_gram, in_single
from fadiag.spectra.validate import Floats, as_matrices, as_spectra, scale_exactly, unit_peak

__all__ = ["stable_rank", "stable_rank_of_spectrum"]

#: Up to this size, all eigenvalues cost less than the Krylov iterations for one eigenvalue.
_SMALL = 192


def stable_rank(x: ArrayLike) -> Floats:
    """Return the stable rank, sum s² / max s²; a matrix of zeros has rank 0.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite. The transpose has the same rank.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        As `singular_values`.

    Examples
    --------
    >>> import numpy as np
    >>> float(stable_rank(np.diag([2.0, 2.0, 1.0])).round(12))
    2.25
    """
    array = as_matrices(x)
    stack = array.reshape(-1, *array.shape[-2:])
    return np.array([_of_matrix(m) for m in stack], dtype=np.float64).reshape(array.shape[:-2])


def _of_matrix(matrix: NDArray[Any]) -> float:
    wide = scale_exactly(matrix)[0]
    total = float(np.vdot(wide, wide))
    if total == 0:
        return 0.0
    large = min(matrix.shape) > _SMALL
    peak = _by_krylov(wide, energy_gram(matrix), in_single(matrix)) if large else None
    return total / (float(gram_eigenvalues(wide)[-1]) if peak is None else peak)


def _by_krylov(matrix: Floats, g: Floats, single: bool) -> float | None:
    """Return the largest s² from the leading direction of the Gram matrix, or None without convergence.

    The direction may come from float32, because |X v|² (Rayleigh's quotient) depends on its error squared.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    operator: NDArray[Any] = g.astype(np.float32) if single else g
    # A fixed start makes the result reproducible. A random direction is orthogonal to no eigenvector.
    start = np.random.default_rng(0).standard_normal(len(g)).astype(operator.dtype)
    try:
        vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-6 if single else 1e-8)[1]
    except ArpackNoConvergence:
        return None
    v = vectors[:, 0].astype(np.float64)
    image = v @ matrix if len(matrix) == len(v) else matrix @ v
    return float(np.vdot(image, image) / np.vdot(v, v))


def stable_rank_of_spectrum(s: ArrayLike) -> Floats:
    """Return the stable rank from singular values (..., k); see `stable_rank`.

    Examples
    --------
    >>> float(stable_rank_of_spectrum([2.0, 2.0, 0.0]))
    2.0
    """
    return np.asarray(np.square(unit_peak(as_spectra(s))).sum(axis=-1))
