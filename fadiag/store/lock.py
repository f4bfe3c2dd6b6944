"""Lock a store so that one process at a time writes it; the kernel frees the lock if the process dies."""

import errno
import fcntl
import os
import time
import weakref
from pathlib import Path

from fadiag.errors import LockedError

__all__ = ["MovedError", "StoreLock", "is_locked"]


class MovedError(OSError):
    """Report that the store was moved while it was written, and its path leads elsewhere now."""


class StoreLock:
    """Hold the lock of a store until `release`; a second holder in any process is refused.

    Raises
    ------
    LockedError
        Another writer holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._held = os.fstat(self._descriptor)
        # `is_locked` takes a shared lock for an instant, so one refusal does not prove that a writer exists.
        for attempt in range(5):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 4:
                    os.close(self._descriptor)
                    raise LockedError(
                        f"{path} is being written by another recorder; wait for it, stop it,"
                        " or take another path"
                    ) from None
                time.sleep(0.01)
        # A forked child (a data loader's worker) must not hold the lock after its parent is killed.
        me = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _release_in_child(me))

    def check_place(self, path: Path) -> None:
        """Raise `MovedError` if the path no longer leads to the locked directory."""
        if not os.path.samestat(self._held, os.stat(path)):  # noqa: PTH116 - often called, and a Path is slow
            raise MovedError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _release_in_child(reference: "weakref.ref[StoreLock]") -> None:
    lock = reference()
    if lock is not None:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a writer holds the store now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
