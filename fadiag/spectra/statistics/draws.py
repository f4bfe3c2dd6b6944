"""Draws for nulls: a cosine or a signal whose directions carry no information."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_count, as_matrices, as_real, require_finite

__all__ = ["permuted_cosines", "sign_flipped"]

#: The share of the entries that may stay where they are while the others are shifted.
_BEYOND = 0.01


def permuted_cosines(w: ArrayLike, b: ArrayLike, draws: int, rng: np.random.Generator) -> Floats:
    """Cosines of W with B's entries in random order: the null of alignment for a B of any law.

    For a B whose entries are exchangeable and independent of W, the rank of the observed cosine among the
    draws is uniform, whatever W is and however few entries there are. For a Gaussian B without a mean the law
    is known too, see `cosine_null_quantile`.

    The orders are cosets of a cyclic group: a few random orders, each with all its shifts along a random
    ring. A Fourier transform gives all shifts at once, so that 10,000 orders cost about as much as 20.

    Parameters
    ----------
    w, b : array_like (..., n)
        Entries along the last axis; leading axes broadcast. None all zeros. All pairs get the same orders.
    draws : int
        Number of orders besides the one that B has. Best is one below a number with many divisors.
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
    # Entries beyond the rings stay where they are in all shifts: they must be few.
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
    return np.concatenate(found, axis=-1)[..., 1:]  # the first is the order that B has


def _directions(values: ArrayLike, name: str) -> Floats:
    """Return vectors along the last axis at length one."""
    array = as_real(values, name)
    require_finite(array, name)
    wide = np.atleast_1d(array).astype(np.float64)
    peak = np.abs(wide).max(axis=-1, keepdims=True, initial=0.0)
    if not wide.shape[-1] or not (peak > 0).all():
        raise InputError(f"{name} of shape {array.shape} is empty or all zeros: it has no direction")
    wide /= peak
    return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True))


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
