"""Write a recording on a thread and report its failures to the caller."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Literal

from fadiag.errors import StoreError
from fadiag.store.write.disk import RESUME, describe_failure, describe_shortage
from fadiag.store.write.queue import WriteQueue
from fadiag.store.write.record import Record
from fadiag.store.write.recording import Recording

__all__ = ["BackgroundRecording"]


class BackgroundRecording:
    """Write and commit records on a thread; the caller changes the recording only inside `exclusive`."""

    def __init__(
        self,
        recording: Recording,
        *,
        buffer_bytes: int,
        commit_every: float,
        on_failure: Literal["raise", "warn"],
    ) -> None:
        self.recording = recording
        self.closed = False
        #: Whether the failure was reported to the user.
        self.reported = False
        self._on_failure = on_failure
        self._disk_checked: set[str] = set()
        self._mutex = threading.RLock()
        self._queue: WriteQueue[Record] = WriteQueue(
            self._write, self._commit, limit=buffer_bytes, period=commit_every
        )

    def ready(self) -> bool:
        """Return whether the thread still writes; raise or warn once if it has failed."""
        if self.closed:
            raise StoreError(f"{self.recording.path} is closed; {RESUME}")
        failure = self._queue.failure
        if failure is None:
            return True
        known, self.reported = self.reported, True
        message = describe_failure(self.recording, failure)
        if self._on_failure == "raise":
            raise StoreError(message) from failure
        if not known:
            warnings.warn(f"{message}; the run goes on unrecorded", RuntimeWarning, stacklevel=3)
        return False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for the current write to end, then keep the writer's thread out."""
        with self._reporting(), self._mutex:
            yield

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Handle a disk failure on the caller's thread like one on the writer's thread."""
        try:
            yield
        except OSError as error:
            self._queue.fail(error)
            self.ready()

    def put(self, record: Record, *, wait: bool) -> bool:
        """Queue a record; return False if the thread has failed, or (without `wait`) if the queue is full."""
        if record.stream not in self._disk_checked:
            self._disk_checked.add(record.stream)
            self._check_disk()
        return self._queue.put(record, record.nbytes, wait=wait)

    def flush(self) -> None:
        """Wait until every queued record is committed."""
        if self.ready():
            self._queue.drain()
            self.ready()

    def close(self, status: str) -> None:
        """Write the queued records, commit the final status and free the store; do nothing if closed."""
        if self.closed:
            return
        try:
            self._queue.stop()
            if self._queue.failure is None:
                with self.exclusive():
                    self.recording.finish(status)
            elif not self.reported:
                self.ready()
        finally:
            self.closed = True
            self.recording.release()

    def _check_disk(self) -> None:
        """Compare the planned bytes of the streams with the free space on the disk."""
        with self._reporting():
            message = describe_shortage(self.recording.path, self.recording.streams.values())
            if message is not None and self._on_failure == "raise":
                raise StoreError(message)
            if message is not None:
                warnings.warn(message, RuntimeWarning, stacklevel=4)

    def _write(self, record: Record) -> None:
        with self._mutex:
            try:
                self.recording.write(record)
            except OSError:
                # The earlier records are complete: commit them if the disk has room for that.
                with contextlib.suppress(OSError):
                    self.recording.commit()
                raise

    def _commit(self) -> None:
        with self._mutex:
            self.recording.commit()
