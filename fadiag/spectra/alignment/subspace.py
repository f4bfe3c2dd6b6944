"""Compute overlap and principal angles between the leading right (feature side) subspaces of two matrices."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.alignment.right_basis import right_basis
from fadiag.spectra.validate import Floats, as_count, as_matrices, as_real, require_finite

__all__ = ["overlap", "overlap_of_bases", "principal_angles", "principal_angles_of_bases"]

#: Squared cosines below _STEEP or above _FLAT give fewer digits of the angle than the bases have.
_STEEP, _FLAT = 1e-6, {np.dtype(np.float32): 0.5, np.dtype(np.float64): 1 - 1e-3}


def overlap(x: ArrayLike, y: ArrayLike, k: int) -> Floats:
    """Return the overlap of the leading k right singular subspaces: |Uᵀ V|_F² / k, between 0 and 1.

    For a uniformly drawn subspace its mean is k / columns (`overlap_moments`). If a matrix has only r < k
    directions, the missing ones have overlap 0. The value is then at most r / k.

    Parameters
    ----------
    x, y : array_like (..., rows, columns)
        Equal columns; rows may differ; leading axes broadcast.
    k : int
        Number of directions, at most the shortest side of the two matrices.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        ``k`` is out of range, the columns differ, or as `singular_values`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.diag([3.0, 2.0, 1.0])
    >>> float(overlap(x, x[:, [0, 2, 1]], 2).round(12))
    0.5
    """
    return overlap_of_bases(*_bases(x, y, k))


def overlap_of_bases(u: ArrayLike, v: ArrayLike) -> Floats:
    """Return the overlap |Uᵀ V|_F² / k of bases (..., columns, k) from `right_basis`; see `overlap`.

    Examples
    --------
    >>> float(overlap_of_bases([[1.0], [0.0]], [[0.6], [0.8]]).round(12))
    0.36
    """
    a, b = _orthonormal(u, "u"), _orthonormal(v, "v")
    _same_sides(a, b)
    cross = np.swapaxes(a, -1, -2) @ b
    shared = np.square(cross, dtype=np.float64).sum(axis=(-2, -1)) / a.shape[-1]
    return np.asarray(np.minimum(shared, 1.0))


def principal_angles(x: ArrayLike, y: ArrayLike, k: int) -> Floats:
    """Return the principal angles between the leading k right singular subspaces, smallest first, in radians.

    Angles above 45 degrees come from cosines, Uᵀ V. Smaller angles come from sines, V - U Uᵀ V, since arccos
    loses all digits there (Björck and Golub 1973; Knyazev and Argentati 2002).

    Parameters
    ----------
    x, y : array_like (..., rows, columns)
        Equal columns; leading axes broadcast.
    k : int
        Number of directions; both matrices must have that many.

    Returns
    -------
    array (..., k), float64, in [0, π/2]

    Raises
    ------
    InputError
        A matrix has fewer than ``k`` directions, so an angle is undefined, or as `overlap`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.diag([3.0, 2.0, 1.0])
    >>> np.degrees(principal_angles(x, x[:, [0, 2, 1]], 2)).round(6)
    array([ 0., 90.])
    """
    return principal_angles_of_bases(*_bases(x, y, k))


def principal_angles_of_bases(u: ArrayLike, v: ArrayLike) -> Floats:
    """Return the principal angles of orthonormal bases (..., columns, k); see `principal_angles`.

    Examples
    --------
    >>> import numpy as np
    >>> float(np.degrees(principal_angles_of_bases([[1.0], [0.0]], [[0.6], [0.8]])[0]).round(6))
    53.130102
    """
    a, b = _orthonormal(u, "u"), _orthonormal(v, "v")
    _same_sides(a, b)
    for side, name in ((a, "first"), (b, "second")):
        # right_basis writes a missing direction as zeros. Columns with a nonzero first entry need no check.
        blank = ~side[..., :1, :].any(axis=-2)
        missing = int((_norms(side) == 0).sum(axis=-1).max()) if blank.any() else 0
        if missing:
            raise InputError(
                f"the {name} input has {side.shape[-1] - missing} directions, k is {side.shape[-1]}; "
                "take a smaller k, or use overlap, which counts a missing direction as 0"
            )
    product = np.swapaxes(a, -1, -2) @ b
    cross = product.astype(np.float64, copy=False)
    # Squared cosines are accurate to rounding. So are the angles, except near 0 and 90 degrees.
    squares = np.linalg.eigvalsh(np.swapaxes(cross, -1, -2) @ cross)[..., ::-1]
    angles = np.arccos(np.sqrt(np.clip(squares, 0.0, 1.0)))
    ends = (squares[..., 0] > _FLAT[product.dtype]) | (squares[..., -1] < _STEEP)
    if ends.any():
        left, right = (np.broadcast_to(side, (*ends.shape, *side.shape[-2:]))[ends] for side in (a, b))
        angles[ends] = _angles_near_ends(left.astype(np.float64), right.astype(np.float64))
    return np.asarray(angles)


def _angles_near_ends(a: Floats, b: Floats) -> Floats:
    """Return angles that are accurate to rounding: from cosines above 45 degrees, from sines below."""
    cross = np.swapaxes(a, -1, -2) @ b
    cosines = np.clip(np.linalg.svd(cross, compute_uv=False), 0.0, 1.0)
    angles = np.arccos(cosines)
    small = cosines**2 >= 0.5
    near = small[..., 0]  # only these pairs have an angle that needs its sine
    if near.any():
        beyond = np.linalg.svd(b[near] - a[near] @ cross[near], compute_uv=False)[..., ::-1]
        angles[near] = np.where(small[near], np.arcsin(np.clip(beyond, 0.0, 1.0)), angles[near])
    return np.asarray(angles)


def _bases(x: ArrayLike, y: ArrayLike, k: int) -> tuple[Floats, Floats]:
    a, b = as_matrices(x, "x"), as_matrices(y, "y")
    if a.shape[-1] != b.shape[-1]:
        raise InputError(f"x has {a.shape[-1]} columns and y has {b.shape[-1]}; they must be equal")
    k = as_count(k, "k", 1, min(*a.shape[-2:], *b.shape[-2:]))
    return right_basis(a, k), right_basis(b, k)


def _orthonormal(basis: ArrayLike, name: str) -> Floats:
    array = as_real(basis, name)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise InputError(f"{name} has shape {array.shape}; it must be (..., columns, k)")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = _norms(array)
        unit = ((np.abs(norms - 1) < 1e-3) | (norms == 0)).all()
    if not unit:
        require_finite(array, name)
        raise InputError(f"{name} has columns that are not of unit length; take it from right_basis or a QR")
    return array


def _norms(array: NDArray[Any]) -> NDArray[Any]:
    columns = np.swapaxes(array, -1, -2)
    return np.asarray(np.vecdot(columns, columns))


def _same_sides(a: Floats, b: Floats) -> None:
    if a.shape[-2:] != b.shape[-2:]:
        raise InputError(f"the bases have shapes {a.shape[-2:]} and {b.shape[-2:]}; they must be equal")
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise InputError(f"leading axes {a.shape[:-2]} and {b.shape[:-2]} do not broadcast") from None
