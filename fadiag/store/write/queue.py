"""Empty a bounded queue on a thread, so that training continues while the disk works."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["WriteQueue"]

T = TypeVar("T")


class WriteQueue(Generic[T]):
    """Call `write` on each item, in order, on a thread; at most `limit` bytes of items wait.

    After writes, `commit` is called every `period` seconds. The first exception stops the thread and is
    stored as `failure`. The waiting items are then dropped, and `put` returns False.
    """

    def __init__(
        self, write: Callable[[T], None], commit: Callable[[], None], *, limit: int, period: float
    ) -> None:
        self.failure: BaseException | None = None
        self._write, self._commit = write, commit
        self._limit, self._period = limit, period
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._state = threading.Condition()
        # Count the requested drains and those that a commit has served.
        self._asked = self._served = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fadiag-writer", daemon=True)
        self._thread.start()

    def put(self, item: T, size: int, *, wait: bool) -> bool:
        """Add an item; if the queue is full, wait for room or return False at once."""
        with self._state:
            while self.failure is None and self._bytes + size > self._limit:
                if not wait:
                    return False
                self._state.wait()
            if self.failure is not None:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._state.notify_all()
            return True

    def fail(self, error: BaseException) -> None:
        """Store the error as the failure and drop the waiting items."""
        with self._state:
            self.failure = self.failure or error
            self._items.clear()
            self._bytes = 0
            self._state.notify_all()

    def drain(self) -> None:
        """Wait until all items so far are written and committed, or the thread has failed."""
        with self._state:
            self._asked += 1
            mine = self._asked
            self._state.notify_all()
            while self._served < mine and self.failure is None:
                self._state.wait()

    def stop(self) -> None:
        """Drain the queue and end its thread; a second call does nothing."""
        if self._thread.is_alive():
            self.drain()
            with self._state:
                self._stopping = True
                self._state.notify_all()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # the caller's next call reports it
            self.fail(error)

    def _loop(self) -> None:
        committed, dirty = time.monotonic(), False
        while True:
            with self._state:
                while not self._items and self._asked == self._served and not self._stopping:
                    left = self._period - (time.monotonic() - committed) if dirty else None
                    if left is not None and left <= 0:
                        break
                    self._state.wait(left)
                if self._stopping and not self._items:
                    return
                asked = self._asked
                item = self._items[0] if self._items else None
            if item is not None:
                self._write(item[0])
                dirty = True
                with self._state:
                    if self.failure is not None:
                        return
                    self._items.popleft()
                    self._bytes -= item[1]
                    self._state.notify_all()
                    asked = self._served if self._items else asked
                del item
            if asked > self._served or (dirty and time.monotonic() - committed >= self._period):
                self._commit()
                committed, dirty = time.monotonic(), False
                with self._state:
                    self._served = max(asked, self._served)
                    self._state.notify_all()
