"""Write a recording on a thread, and report what fails there."""

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
    """Write records and commit them on a thread; the caller changes the recording within `exclusive`."""

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
        #: Whether the user knows of the failure.
        self.reported = False
        self._on_failure = on_failure
        self._disk_checked: set[str] = set()
        self._mutex = threading.RLock()
        self._queue: WriteQueue[Record] = WriteQueue(
            self._write, self._commit, limit=buffer_bytes, period=commit_every
        )

    def ready(self) -> bool:
        """Return whether writing goes on; report a failure by an error, or by one warning."""
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
        """Keep the writer's thread out, after the write that it is at."""
        with self._reporting(), self._mutex:
            yield

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Treat a failure of the disk on the caller's thread like one on the writer's."""
        try:
            yield
        except OSError as error:
            self._queue.fail(error)
            self.ready()

    def put(self, record: Record, *, wait: bool) -> bool:
        """Queue a record; return False if there is no room (`wait` False) or the thread has failed."""
        if record.stream not in self._disk_checked:
            self._disk_checked.add(record.stream)
            self._check_disk()
        return self._queue.put(record, record.nbytes, wait=wait)

    def flush(self) -> None:
        """Wait until all that was queued is committed."""
        if self.ready():
            self._queue.drain()
            self.ready()

    def close(self, status: str) -> None:
        """Write all that waits, commit the last status and free the store; a second call does nothing."""
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
        """Compare what the streams plan to write with the room on the disk."""
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
                # The records before this one are whole: commit them, if the disk still takes that much.
                with contextlib.suppress(OSError):
                    self.recording.commit()
                raise

    def _commit(self) -> None:
        with self._mutex:
            self.recording.commit()
