"""One BLAS thread a worker: threads run over matrices, never inside one.

Two BLAS threads on a busy machine make a small eigenproblem up to a hundred times slower.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401 -- scipy brings a BLAS of its own; load it before the search
from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


@cache
def _libraries() -> ThreadpoolController:
    """Find the BLAS libraries that are loaded: milliseconds, so once a process."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit every BLAS to one thread, from the call on.

    As a context manager it restores the numbers at the end. Workers call it for each block and restore
    nothing: one that ends must not give threads back while another still measures.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit
