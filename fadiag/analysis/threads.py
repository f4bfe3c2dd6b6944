"""One BLAS thread each: outer workers over matrices, never BLAS threads inside them.

Two BLAS threads on a busy machine make a small eigenproblem up to a hundred times slower. threadpoolctl is no
dependency: the OpenBLAS builds that numpy and scipy bring are asked through the extension modules that link
them. With another BLAS (MKL, Accelerate) set its own variable, for example ``MKL_NUM_THREADS=1``.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy.linalg
import scipy.linalg.lapack

__all__ = ["one_blas_thread", "set_blas_threads"]

_PREFIXES = ("scipy_openblas_", "openblas_")
_SUFFIXES = ("64_", "", "_64")


def _entry_points() -> list[tuple[ctypes.CDLL, str, str]]:
    """Find the get and set functions of each OpenBLAS that numpy and scipy have loaded."""
    found = []
    for module in (numpy.linalg._umath_linalg, scipy.linalg.lapack._flapack):  # type: ignore[attr-defined]
        library = ctypes.CDLL(module.__file__)  # already loaded: this looks symbols up, it loads nothing new
        for prefix in _PREFIXES:
            for suffix in _SUFFIXES:
                getter, setter = f"{prefix}get_num_threads{suffix}", f"{prefix}set_num_threads{suffix}"
                if hasattr(library, getter) and hasattr(library, setter):
                    found.append((library, getter, setter))
    return found


def set_blas_threads(count: int) -> list[int]:
    """Set the number of threads of each OpenBLAS found, and return what it was (empty if none was found)."""
    before = []
    for library, getter, setter in _entry_points():
        before.append(int(getattr(library, getter)()))
        getattr(library, setter)(count)
    return before


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every OpenBLAS found at one thread; the numbers before are put back at the end."""
    before = set_blas_threads(1)
    try:
        yield
    finally:
        for (library, _, setter), count in zip(_entry_points(), before, strict=True):
            getattr(library, setter)(count)
