"""Laws and draws of chance: what a number would be if there were nothing to see."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_count, as_matrices, as_real, as_spectra, require_finite

__all__ = [
    "TIE",
    "OverlapMoments",
    "at_or_above",
    "gaussian_with_spectrum",
    "overlap_moments",
    "p_value",
    "permuted_cosines",
    "sign_flipped",
]

#: Values closer than this share of their scale are equal: above what a signal or factor that is stored as
#: float32 does to a rank, a cosine or an overlap (1e-7), far below what a number of draws can tell apart.
TIE = 1e-6


def at_or_above(null: ArrayLike, observed: ArrayLike, *, tie: float = TIE) -> NDArray[np.int64]:
    """Count the draws at or above the observed value, with those that equal it up to rounding.

    Where a statistic does not depend on what is drawn, every draw is a tie; but two ways to the same number
    (from a signal or from its factor, in one order of summation or another) differ in its last digits, and so
    the p-value would be 1 or the smallest there is, by chance. The scale of equality is the observed value's
    magnitude, or the median one of the draws where that is larger. It errs towards a large p-value.

    Parameters
    ----------
    null : array_like (..., M)
        Not all NaN; a NaN does not count.
    observed : array_like (...)
        Nothing is at or above NaN.
    tie : float
        The share of the scale within which two values are equal.

    Returns
    -------
    array (...), int64

    Raises
    ------
    InputError
        Where there are no draws, only NaN, infinities, or what is no real number.

    Examples
    --------
    >>> int(at_or_above([1.0, 1.0, 0.9], 1.0 + 1e-9))
    2
    """
    draws = as_real(null, "null").astype(np.float64, copy=False)
    seen = as_real(observed, "observed").astype(np.float64, copy=False)[..., None]
    if draws.ndim < 1 or draws.shape[-1] == 0 or np.isnan(draws).all(axis=-1).any():
        raise InputError(f"null has shape {draws.shape}; it needs a draw that is a number beside each value")
    for values, name in ((draws, "null"), (seen, "observed")):
        if np.isinf(values).any():
            raise InputError(f"{name} holds {int(np.isinf(values).sum())} infinite values; leave them out")
    # One of the draws, not the mean of two, which may leave float64's range.
    middle = np.nanquantile(np.abs(draws), 0.5, axis=-1, keepdims=True, method="higher")
    with np.errstate(over="ignore"):
        lowest = seen - tie * np.fmax(np.abs(seen), middle)
    return np.asarray(np.count_nonzero(draws >= lowest, axis=-1))


def permuted_cosines(w: ArrayLike, b: ArrayLike, draws: int, rng: np.random.Generator) -> Floats:
    """Cosines of W with B whose entries are permuted: the null for a B of any law with exchangeable entries.

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
        Where shapes differ, one is all zeros, or holds NaN or infinities.

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


def p_value(observed: ArrayLike, null: ArrayLike) -> Floats:
    """One-sided p-value of a statistic against M draws of its null: (1 + #{null >= observed}) / (M + 1).

    A draw that equals the observed value up to rounding counts (see `at_or_above`). Never below 1 / (M + 1);
    exact where the observed statistic is exchangeable with the draws, as under redrawn feedback.

    Parameters
    ----------
    observed : array_like (...)
        NaN (no statistic) stays NaN.
    null : array_like (..., M)
        Finite.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        Where there are no draws, or they hold NaN or infinities, or shapes do not fit.

    Examples
    --------
    >>> float(p_value(3.0, [1.0, 2.0, 3.0, 4.0]))
    0.6
    """
    seen, draws = as_real(observed, "observed"), as_real(null, "null")
    if draws.ndim < 1 or draws.shape[-1] == 0:
        raise InputError(f"null has shape {draws.shape}; it must be (..., M) with at least one draw")
    require_finite(draws, "null")
    try:
        above = at_or_above(draws, seen)
    except ValueError:
        raise InputError(
            f"observed {seen.shape} and null {draws.shape} do not fit: (...) and (..., M)"
        ) from None
    return np.asarray(np.where(np.isnan(seen), np.nan, (1 + above) / (draws.shape[-1] + 1)))


class OverlapMoments(NamedTuple):
    """Mean and standard deviation of an overlap by chance."""

    mean: float
    std: float


def overlap_moments(columns: int, k: int, other: int | None = None) -> OverlapMoments:
    """Moments of |Uᵀ V|_F² / k where one side is uniformly drawn (Haar).

    Mean m/n; variance of |Uᵀ V|_F² is 2km(n-k)(n-m) / (n²(n-1)(n+2)). A mark of scale: with shared gates the
    null is redrawn feedback.

    Parameters
    ----------
    columns : int
        Dimension n of the space, at least 2.
    k : int
        Dimension of the one subspace (U).
    other : int, optional
        Dimension m of the other (V); k unless told.

    Returns
    -------
    OverlapMoments

    Raises
    ------
    InputError
        Where a dimension does not fit into the space.

    Examples
    --------
    >>> moments = overlap_moments(100, 10)
    >>> moments.mean, round(moments.std, 4)
    (0.1, 0.0127)
    """
    n = as_count(columns, "columns", 2)
    k = as_count(k, "k", 1, n)
    m = k if other is None else as_count(other, "other", 1, n)
    variance = 2 * k * m * (n - k) * (n - m) / (n**2 * (n - 1) * (n + 2))
    return OverlapMoments(m / n, float(np.sqrt(variance)) / k)


def sign_flipped(x: ArrayLike, rng: np.random.Generator) -> Floats:
    """Flip the sign of each entry with probability one half: magnitudes and gates stay, directions go.

    The null for the rank of an error; a permutation of columns is anti-conservative there.

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


def gaussian_with_spectrum(s: ArrayLike, rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """Draw a matrix with given singular values and uniformly drawn (Haar) sides.

    The modulator of the mask null: put through a layer's own gates it tells credit from gating.

    Parameters
    ----------
    s : array_like (k,)
        Singular values, k at most min(rows, columns).
    rows, columns : int
        Shape of the matrix.
    rng : numpy.random.Generator

    Returns
    -------
    array (rows, columns), float64

    Raises
    ------
    InputError
        Where there are more singular values than the shape has, or they are negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> x = gaussian_with_spectrum([3.0, 1.0], 5, 4, np.random.default_rng(0))
    >>> np.linalg.svd(x, compute_uv=False).round(9)[:2]
    array([3., 1.])
    """
    spectrum = as_spectra(s)
    rows, columns = as_count(rows, "rows", 1), as_count(columns, "columns", 1)
    if spectrum.ndim != 1 or len(spectrum) > min(rows, columns):
        raise InputError(
            f"s has shape {spectrum.shape}; a {rows} x {columns} matrix takes up to {min(rows, columns)}"
        )
    left, right = (np.linalg.qr(rng.standard_normal((side, len(spectrum)))) for side in (rows, columns))
    # Signs of R's diagonal make Q uniform (Mezzadri 2007).
    signs = np.sign(np.diagonal(left.R)) * np.sign(np.diagonal(right.R))
    return np.asarray((left.Q * (spectrum * signs)) @ right.Q.T)
