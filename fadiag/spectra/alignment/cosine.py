"""Compute cosines and angles of vectors in float64, without epsilon: a zero vector has no direction."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_matrices, as_real, require_finite

__all__ = ["angle", "cosine", "matrix_cosine"]

#: Sums of squares between these bounds, and their products, do not overflow or underflow in float64.
_LOW, _HIGH = 1e-150, 1e150
#: From this number of values on, the fused kernel saves more time than loading numba costs.
_FUSED = 2**22


def cosine(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the cosine of vectors along the last axis: ⟨x, y⟩ / (|x| |y|).

    With samples as rows, (..., rows, columns) -> (..., rows): one cosine per sample.

    Parameters
    ----------
    x, y : array_like (..., n)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN exactly where ``x`` or ``y`` is all zeros and has no direction. The mask of valid vectors is
        ``~np.isnan(cosine(x, y))``. No epsilon is added, so tiny vectors have their true cosine.

    Raises
    ------
    InputError
        An input is empty, complex, or holds NaN or infinities, or the shapes do not fit.

    Examples
    --------
    >>> cosine([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [1.0, -1.0], [1.0, 0.0]])
    array([ 1.,  0., nan])
    """
    a, b = _pair(x, y)
    return _cosine(a, b)


def matrix_cosine(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the cosine of two matrices, each flattened to one vector: cos(vec X, vec Y).

    Parameters
    ----------
    x, y : array_like (..., rows, columns)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64
        NaN where a matrix is all zeros, as in `cosine`.

    Raises
    ------
    InputError
        As `cosine`.

    Examples
    --------
    >>> import numpy as np
    >>> float(matrix_cosine(np.eye(2), 3 * np.eye(2)).round(12))
    1.0
    """
    a, b = as_matrices(x, "x"), as_matrices(y, "y")
    if a.shape[-2:] != b.shape[-2:]:
        raise InputError(f"x has matrices of shape {a.shape[-2:]}, y of {b.shape[-2:]}; they must be equal")
    size = a.shape[-2] * a.shape[-1]
    return cosine(a.reshape(*a.shape[:-2], size), b.reshape(*b.shape[:-2], size))


def angle(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the angle in radians of vectors along the last axis, accurate near 0 and π too.

    2 atan2(|u - v|, |u + v|) for the unit vectors u, v (Kahan). arccos(cos) loses digits near 0 and π.

    Parameters
    ----------
    x, y : array_like (..., n)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [0, π]
        NaN where a vector is all zeros.

    Raises
    ------
    InputError
        As `cosine`.

    Examples
    --------
    >>> import numpy as np
    >>> float(np.degrees(angle([1.0, 0.0], [1.0, 1.0])).round(9))
    45.0
    """
    a, b = _pair(x, y)
    u, v = _units(a), _units(b)
    apart = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))
    return np.asarray(np.where(u.any(axis=-1) & v.any(axis=-1), apart, np.nan))


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = as_real(x, "x"), as_real(y, "y")
    for array, name in ((a, "x"), (b, "y")):
        if array.ndim < 1 or array.shape[-1] == 0:
            raise InputError(f"{name} has shape {array.shape}; it must be (..., n) with n at least 1")
    if a.shape[-1] != b.shape[-1]:
        raise InputError(f"x has vectors of length {a.shape[-1]} and y of {b.shape[-1]}; they must be equal")
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise InputError(f"x of shape {a.shape} and y of shape {b.shape} do not broadcast") from None
    return a, b


def _units(array: NDArray[Any]) -> Floats:
    """Return unit vectors; a vector of zeros stays zero."""
    require_finite(array, "an input")
    wide = array.astype(np.float64)
    peak = np.abs(wide).max(axis=-1, keepdims=True)
    np.divide(wide, peak, out=wide, where=peak > 0)
    norm = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.asarray(np.divide(wide, norm, out=wide, where=norm > 0))


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        xy, xx, yy = _products(a, b)
    if not (np.isfinite(xx).all() and np.isfinite(yy).all()):
        # Non-finite sums come from non-finite values, or from squares beyond the range.
        require_finite(a, "x")
        require_finite(b, "y")
    inside = (xx > _LOW) & (xx < _HIGH) & (yy > _LOW) & (yy < _HIGH)
    value = np.full(np.shape(xy), np.nan)
    norms = np.sqrt(np.where(inside, xx, 1.0) * np.where(inside, yy, 1.0))
    np.divide(xy, norms, out=value, where=inside)
    if not inside.all():
        shape = np.broadcast_shapes(a.shape, b.shape)
        u, v = (_units(np.broadcast_to(array, shape)[~inside]) for array in (a, b))
        alive = u.any(axis=-1) & v.any(axis=-1)
        value[~inside] = np.where(alive, np.einsum("ij,ij->i", u, v), np.nan)
    return np.asarray(np.clip(value, -1.0, 1.0))


def _products(a: NDArray[Any], b: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return ⟨x, y⟩, |x|² and |y|² in float64."""
    if a.shape == b.shape and a.size >= _FUSED:
        from fadiag.spectra.linalg.kernels import products

        rows = (-1, a.shape[-1])
        found = products(np.ascontiguousarray(a.reshape(rows)), np.ascontiguousarray(b.reshape(rows)))
        xy, xx, yy = (np.reshape(part, a.shape[:-1]) for part in found)
        return xy, xx, yy
    wide_a, wide_b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    dot = "...i,...i->..."
    xy = np.asarray(np.einsum(dot, wide_a, wide_b))
    # Norms are computed before broadcasting, so one feedback against many steps is squared once.
    xx = np.broadcast_to(np.einsum(dot, wide_a, wide_a), xy.shape)
    yy = np.broadcast_to(np.einsum(dot, wide_b, wide_b), xy.shape)
    return xy, xx, yy
