"""Connect to a dask scheduler, to measure runs on a cluster."""

import socket
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager

from fadiag.errors import ClusterError

__all__ = ["cluster_executor"]


@contextmanager
def cluster_executor(address: str, *, timeout: float = 5.0) -> Iterator[Executor]:
    """Connect to a dask scheduler and yield an executor for ``analyze(executor=...)``.

    Workers read the stores themselves. They need fadiag, and must see the stores under the same paths. If a
    cluster starts its first worker only when work arrives, use ``client.get_executor()`` instead.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``.
    timeout : float
        Seconds within which the scheduler and one worker must answer.

    Raises
    ------
    ClusterError
        dask.distributed is not installed (the extra ``dask``), the address is not valid, nothing answers
        there, no worker is connected, or the cluster is lost during the analysis.

    Examples
    --------
    >>> with cluster_executor("tcp://127.0.0.1:1") as executor:  # doctest: +IGNORE_EXCEPTION_DETAIL
    ...     fadiag.analyze("run.zarr", executor=executor)
    Traceback (most recent call last):
    fadiag.errors.ClusterError: no scheduler answers at tcp://127.0.0.1:1 (...)
    """
    try:
        from distributed import Client, KilledWorker
        from distributed.comm.addressing import get_address_host_port
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise ClusterError("a dask scheduler needs dask.distributed: pip install 'fadiag[dask]'") from None
    try:
        host, port = get_address_host_port(address)
    except ValueError as cause:
        raise ClusterError(
            f"{address!r} is no scheduler's address, such as tcp://10.0.0.1:8786 ({cause})"
        ) from None
    try:
        # A client that cannot connect leaves threads that complain at exit, so try a plain socket first.
        socket.create_connection((host, port), timeout).close()
        client = Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as cause:
        raise ClusterError(
            f"no scheduler answers at {address} ({cause}); start one with `dask scheduler`, or measure here"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError:
            raise ClusterError(
                f"the scheduler at {address} has no worker after {timeout:g} s; "
                f"start one: dask worker {address}"
            ) from None
        try:
            yield client.get_executor()  # type: ignore[no-untyped-call]
        except (KilledWorker, CommClosedError, CancelledError) as cause:
            raise ClusterError(
                f"the cluster at {address} was lost while it measured ({type(cause).__name__}: {cause}); "
                "with an output that can be read again (.zarr, .nc) the analysis goes on from there"
            ) from cause
