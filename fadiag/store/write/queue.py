"""A bounded queue with a thread that empties it: the training goes on while the disk works."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["WriteQueue"]

T = TypeVar("T")


class WriteQueue(Generic[T]):
    """Hand items to `work` on a thread of its own, in order, never holding more than `limit` bytes.

    Every `period` seconds in which something was done, `rest` is called (a commit). The first exception stops
    the work: it is kept in `failure`, items that wait are dropped, and `put` returns False from then on.
    """

    def __init__(
        self, work: Callable[[T], None], rest: Callable[[], None], *, limit: int, period: float
    ) -> None:
        self.failure: BaseException | None = None
        self._work, self._rest = work, rest
        self._limit, self._period = limit, period
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._state = threading.Condition()
        self._asked = self._answered = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fadiag-writer", daemon=True)
        self._thread.start()

    def put(self, item: T, size: int, *, wait: bool) -> bool:
        """Queue an item; with a full queue wait for room, or (`wait` False) return False at once."""
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
        """Stop the work for a reason: what waits is dropped."""
        with self._state:
            self.failure = self.failure or error
            self._items.clear()
            self._bytes = 0
            self._state.notify_all()

    def drain(self) -> None:
        """Return when all that was queued is done and `rest` was called after it, or the work has failed."""
        with self._state:
            self._asked += 1
            mine = self._asked
            self._state.notify_all()
            while self._answered < mine and self.failure is None:
                self._state.wait()

    def stop(self) -> None:
        """Drain, and end the thread; a second call does nothing."""
        if self._thread.is_alive():
            self.drain()
            with self._state:
                self._stopping = True
                self._state.notify_all()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # told to the caller at its next call
            self.fail(error)

    def _loop(self) -> None:
        rested, dirty = time.monotonic(), False
        while True:
            with self._state:
                while not self._items and self._asked == self._answered and not self._stopping:
                    left = self._period - (time.monotonic() - rested) if dirty else None
                    if left is not None and left <= 0:
                        break
                    self._state.wait(left)
                if self._stopping and not self._items:
                    return
                asked = self._asked
                item = self._items[0] if self._items else None
            if item is not None:
                self._work(item[0])
                dirty = True
                with self._state:
                    if self.failure is not None:
                        return
                    self._items.popleft()
                    self._bytes -= item[1]
                    self._state.notify_all()
                    asked = self._answered if self._items else asked
                del item
            if asked > self._answered or (dirty and time.monotonic() - rested >= self._period):
                self._rest()
                rested, dirty = time.monotonic(), False
                with self._state:
                    self._answered = max(asked, self._answered)
                    self._state.notify_all()
