"""Draws for nulls: a cosine or a signal whose directions carry no information."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_count, as_matrices, as_real, require_finite

__all__ = ["permuted_cosines", "sign_flipped"]


def permuted_cosines(w: ArrayLike, b: ArrayLike, draws: int, rng: np.random.Generator) -> Floats:
    """Cosines of W with permuted B: the null of alignment, for a B of any law with exchangeable entries.

    For a Gaussian B the law is known, see `cosine_null_quantile`.

    Parameters
    ----------
    w, b : array_like
        Of one shape, neither all zeros.
    draws : int
        Number of permutations.
    rng : numpy.random.Generator

    Returns
    -------
    array (draws,), float64

    Raises
    ------
    InputError
        The shapes differ, or an input is all zeros or holds NaN or infinities.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.arange(6.0).reshape(2, 3)
    >>> permuted_cosines(w, np.ones((2, 3)), 2, np.random.default_rng(0)).round(3)
    array([0.826, 0.826])
    """
    vectors = []
    for values, name in ((w, "w"), (b, "b")):
        array = as_real(values, name)
        require_finite(array, name)
        if not array.any():
            raise InputError(f"{name} of shape {array.shape} is empty or all zeros: it has no direction")
        flat = array.astype(np.float64).ravel() / np.abs(array).max()
        vectors.append(flat / np.linalg.norm(flat))
    if np.shape(w) != np.shape(b):
        raise InputError(f"w has shape {np.shape(w)} and b {np.shape(b)}; they must be equal")
    weight, feedback = vectors
    draws = as_count(draws, "draws", 1)
    return np.array([weight @ rng.permutation(feedback) for _ in range(draws)])


def sign_flipped(x: ArrayLike, rng: np.random.Generator) -> Floats:
    """Flip the sign of each entry with probability one half: magnitudes and zeros stay, directions go.

    A null for the rank of an error. Permuted columns would be anti-conservative there.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.
    rng : numpy.random.Generator

    Returns
    -------
    array (..., rows, columns), float64

    Raises
    ------
    InputError
        As `singular_values`.

    Examples
    --------
    >>> import numpy as np
    >>> np.abs(sign_flipped([[1.0, 2.0]], np.random.default_rng(0)))
    array([[1., 2.]])
    """
    array = as_matrices(x).astype(np.float64)
    return np.where(rng.integers(0, 2, array.shape, dtype=np.int8) == 1, array, -array)
