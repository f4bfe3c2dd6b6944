"""Draw null cosines and null signals, whose directions carry no information."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_count, as_matrices, as_real, require_finite

__all__ = ["permuted_cosines", "sign_flipped"]

#: Largest share of entries that may stay in place while the others are shifted.
_BEYOND = 0.01


def permuted_cosines(w: ArrayLike, b: ArrayLike, draws: int, rng: np.random.Generator) -> Floats:
    """Return cosines of W with B's entries in random order: the null of alignment for any distribution of B.

    If the entries of B are exchangeable and independent of W, the rank of the observed cosine among the draws
    is uniform. This holds for every W and any number of entries. For a Gaussian B of mean zero the
    distribution is also known exactly, see `cosine_null_quantile`.

    The orders are cosets of a cyclic group: a few random orders, each with all its shifts along a random
    ring. A Fourier transform computes all shifts at once, so 10,000 orders cost about as much as 20.

    Parameters
    ----------
    w, b : array_like (..., n)
        Entries along the last axis, not all zero; leading axes broadcast. All pairs get the same orders.
    draws : int
        Number of orders, not counting B's own. It is fastest if draws + 1 has many divisors.
    rng : numpy.random.Generator

    Returns
    -------
    array (..., draws), float64

    Raises
    ------
    InputError
        The lengths differ, or an input is all zeros or holds NaN or infinities.

    Examples
    --------
    >>> import numpy as np
    >>> permuted_cosines(np.arange(6.0), np.ones(6), 2, np.random.default_rng(0)).round(3)
    array([0.826, 0.826])
    """
    weight, feedback = _directions(w, "w"), _directions(b, "b")
    size = weight.shape[-1]
    if size != feedback.shape[-1]:
        raise InputError(f"w has shape {np.shape(w)} and b {np.shape(b)}; they need as many entries")
    total = as_count(draws, "draws", 1) + 1
    # Entries outside the rings stay in place in all shifts, so they must be few.
    shifts = max(
        length
        for length in range(1, min(total, size) + 1)
        if total % length == 0 and size % length <= _BEYOND * size
    )
    order = rng.permutation(size)
    rings, rest = np.split(order, [size // shifts * shifts])
    rings = rings.reshape(-1, shifts)
    turning = np.conj(np.fft.rfft(weight[..., rings]))
    found = []
    for coset in range(total // shifts):
        moved = feedback if coset == 0 else feedback[..., rng.permutation(size)]
        products = np.einsum("...rf,...rf->...f", turning, np.fft.rfft(moved[..., rings]))
        still = np.einsum("...i,...i->...", weight[..., rest], moved[..., rest])
        found.append(np.fft.irfft(products, shifts) + still[..., None])
    return np.concatenate(found, axis=-1)[..., 1:]  # the first is B's own order


def _directions(values: ArrayLike, name: str) -> Floats:
    """Return unit vectors along the last axis."""
    array = as_real(values, name)
    require_finite(array, name)
    wide = np.atleast_1d(array).astype(np.float64)
    peak = np.abs(wide).max(axis=-1, keepdims=True, initial=0.0)
    if not wide.shape[-1] or not (peak > 0).all():
        raise InputError(f"{name} of shape {array.shape} is empty or all zeros: it has no direction")
    wide /= peak
    return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True))


def sign_flipped(x: ArrayLike, rng: np.random.Generator) -> Floats:
    """Flip the sign of each entry with probability one half, which destroys directions but not magnitudes.

    This is a null for the rank of an error. Permuted columns would be anti-conservative.

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
