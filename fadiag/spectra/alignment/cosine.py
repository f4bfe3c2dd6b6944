"""Cosines and angles of vectors, in float64, with no epsilon: a dead vector has no direction."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_matrices, as_real, require_finite

__all__ = ["angle", "cosine", "matrix_cosine"]

#: Sums of squares between these have lost nothing to the ends of float64's range, nor will their product.
_LOW, _HIGH = 1e-150, 1e150
#: From this many values on, the fused kernel pays for loading numba.
_FUSED = 2**22


def cosine(x: ArrayLike, y: ArrayLike) -> Floats:
    """Cosine of the vectors along the last axis: ⟨x, y⟩ / (|x| |y|).

    With samples as rows, (..., rows, columns) -> (..., rows): one cosine a sample.

    Parameters
    ----------
    x, y : array_like (..., n)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN exactly where ``x`` or ``y`` is all zeros: no direction, so no cosine. The mask of valid
        vectors is ``~np.isnan(cosine(x, y))``. No epsilon is added, so tiny vectors have their true cosine.

    Raises
    ------
    InputError
        Where an input is empty, complex, or holds NaN or infinities, or where the shapes do not fit.

    Examples
    --------
    >>> cosine([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [1.0, -1.0], [1.0, 0.0]])
    array([ 1.,  0., nan])
    """
    a, b = _pair(x, y)
    return _cosine(a, b)


def matrix_cosine(x: ArrayLike, y: ArrayLike) -> Floats:
    """Cosine of two matrices, each taken as one vector: cos(vec X, vec Y).

    Parameters
    ----------
    x, y : array_like (..., rows, columns)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64
        NaN where one of the two is all zeros, as in `cosine`.

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
    """Angle in radians of the vectors along the last axis, accurate near 0 and π where arccos(cos) is not.

    2 atan2(|u - v|, |u + v|) for the unit vectors u, v (Kahan).

    Parameters
    ----------
    x, y : array_like (..., n)
        Real and finite; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [0, π]
        NaN where one of the two is all zeros.

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
    """Return unit vectors; a vector of zeros stays one."""
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
        # Sums that are not finite come from such values, or from squares beyond the range.
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
    # Norms are taken before broadcasting: one feedback beside many steps is squared once.
    xx = np.broadcast_to(np.einsum(dot, wide_a, wide_a), xy.shape)
    yy = np.broadcast_to(np.einsum(dot, wide_b, wide_b), xy.shape)
    return xy, xx, yy
