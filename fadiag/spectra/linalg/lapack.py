"""Call LAPACK in float64 without Python's global lock, so that threads decompose matrices in parallel.

numpy holds the lock for a matrix of up to 500 rows, scipy for any matrix. This module calls scipy's own
routines through the C interface of `scipy.linalg.cython_lapack`, which numba uses too. ctypes releases the
lock during a call. Only one triangle of a Gram matrix is computed and read. Small matrices use numpy, because
the call would cost more than the work.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.spectra.validate import Floats

__all__ = ["gram", "gram_eigenvalues", "gram_eigenvectors", "gram_spectrum", "svd_values"]

#: Matrices with up to this many rows or columns are small.
_SMALL = 32

#: Largest number of columns that LAPACK reduces at a time; it determines the workspace size.
_BLOCK = 64


def gram(matrix: NDArray[Any]) -> Floats:
    """Return the smaller of X Xᵀ and Xᵀ X; numpy detects the equal factors and computes one triangle."""
    rows, columns = matrix.shape
    return np.asarray(matrix @ matrix.T if rows <= columns else matrix.T @ matrix)


def gram_eigenvalues(matrix: Floats) -> Floats:
    """Return the eigenvalues of the smaller of X Xᵀ and Xᵀ X, smallest first."""
    if min(matrix.shape) <= _SMALL:
        return np.asarray(np.linalg.eigvalsh(gram(matrix)), np.float64)
    g = _lower_gram(matrix)
    n = len(g)
    diagonal, beside, tau = np.empty((3, n))
    work = np.empty(_BLOCK * n)
    _lapack("dsytrd", b"L", n, g, n, diagonal, beside, tau, work, len(work))
    _lapack("dsterf", n, diagonal, beside)
    return diagonal


def gram_eigenvectors(matrix: Floats, k: int) -> tuple[Floats, Floats]:
    """Return the k largest eigenvalues of the smaller Gram matrix, largest first, and eigenvectors (n, k)."""
    g = _lower_gram(matrix)
    n = len(g)
    values, vectors, work = np.empty(n), np.empty((k, n)), np.empty((6 + _BLOCK) * n)
    found, support, integers = (np.empty(size, np.intc) for size in (1, 2 * k, 10 * n))
    _lapack("dsyevr", b"V", b"I", b"L", n, g, n, 0.0, 0.0, n - k + 1, n, 0.0, found, values, vectors, n,
            support, work, len(work), integers, len(integers))  # fmt: skip
    return values[:k][::-1], vectors[::-1].T


def gram_spectrum(matrix: Floats, k: int) -> tuple[Floats, Floats]:
    """Return all eigenvalues of the smaller Gram matrix, smallest first, and k leading eigenvectors (n, k).

    The eigenvector of the largest eigenvalue comes first. The reduction to tridiagonal form is nearly all of
    the work and is shared.
    """
    g = _lower_gram(matrix)
    n = len(g)
    diagonal, beside, tau = np.empty((3, n))
    work = np.empty(_BLOCK * n)
    _lapack("dsytrd", b"L", n, g, n, diagonal, beside, tau, work, len(work))
    values = diagonal.copy()
    _lapack("dsterf", n, values, beside.copy())
    leading, vectors = np.empty(n), np.empty((k, n))
    found, support, relative, integers = (np.ones(size, np.intc) for size in (1, 2 * k, 1, 10 * n))
    _lapack("dstemr", b"V", b"I", n, diagonal, beside, 0.0, 0.0, n - k + 1, n, found, leading, vectors, n, k,
            support, relative, work, len(work), integers, len(integers))  # fmt: skip
    _lapack("dormtr", b"L", b"L", b"N", n, k, g, n, tau, vectors, n, work, len(work))
    return values, vectors[::-1].T


def svd_values(matrix: Floats) -> Floats:
    """Return the singular values, largest first, by bidiagonalization, without squaring the matrix."""
    if min(matrix.shape) <= _SMALL:
        return np.asarray(np.linalg.svd(matrix, compute_uv=False), np.float64)
    # LAPACK is column-major: it reads the transpose, and is faster if that is tall. It overwrites its input.
    a = np.array(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T, order="C")
    columns, rows = a.shape
    s, none, size = np.empty(min(a.shape)), np.empty(1), np.empty(1)
    integers = np.empty(8 * len(s), np.intc)
    own = (b"N", rows, columns, a, rows, s, none, 1, none, 1)
    _lapack("dgesdd", *own, size, -1, integers)
    work = np.empty(int(size[0]))
    _lapack("dgesdd", *own, work, len(work), integers)
    return s


def _lower_gram(matrix: Floats) -> Floats:
    """Return the smaller Gram matrix in LAPACK's lower triangle; the other triangle is uninitialized."""
    a = np.ascontiguousarray(matrix)
    rows, columns = a.shape
    n = min(rows, columns)
    g = np.empty((n, n))
    side = b"T" if rows <= columns else b"N"
    _call("dsyrk", b"L", side, n, max(rows, columns), 1.0, a, columns, 0.0, g, n)
    return g


def _lapack(name: str, *values: bytes | float | NDArray[Any]) -> None:
    info = np.zeros(1, np.intc)
    _call(name, *values, info)
    if info[0]:
        raise np.linalg.LinAlgError(f"LAPACK's {name} failed on a finite matrix (info = {info[0]})")


def _call(name: str, *values: bytes | float | NDArray[Any]) -> None:
    """Call a routine with the address of each argument: letters, integers, floats and arrays."""
    _routine(name)(
        *(
            ctypes.c_void_p(value.ctypes.data)
            if isinstance(value, np.ndarray)
            else ctypes.byref(_SCALARS[type(value)](value))
            for value in values
        )
    )


_SCALARS: dict[type, Callable[[Any], Any]] = {bytes: ctypes.c_char, int: ctypes.c_int, float: ctypes.c_double}


@cache
def _routine(name: str) -> Callable[..., None]:
    from scipy.linalg import cython_blas, cython_lapack

    capsule = (cython_blas if name == "dsyrk" else cython_lapack).__pyx_capi__[name]
    inside = ctypes.pythonapi
    text = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", inside))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", inside)
    )
    signature = text(capsule)
    return ctypes.CFUNCTYPE(None)(pointer(capsule, signature))
