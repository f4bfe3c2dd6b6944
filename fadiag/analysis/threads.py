"""Limit BLAS to one thread per worker: workers share out the matrices, and BLAS does not split any.

On a busy machine two BLAS threads make a small eigenproblem up to a hundred times slower.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401 -- scipy has its own BLAS; load it before the search
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


@cache
def _libraries() -> ThreadpoolController:
    """Find the loaded BLAS libraries, once per process, since the search takes milliseconds."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit every BLAS library to one thread, from the call on.

    As a context manager it restores the numbers of threads at the end. Workers call it for each block and
    restore nothing: a worker that ends must not restore threads while another one still measures.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit
