"""`RunWriter`: what a recorder writes a run with."""

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store.layout import ArraySpec
from fadiag.store.lock import MovedError
from fadiag.store.names import JSON, check_number, check_whole, clean_json
from fadiag.store.write.create_resume import create_recording, resume_recording
from fadiag.store.write.disk_space import shortage
from fadiag.store.write.pool import BufferPool
from fadiag.store.write.queue import WriteQueue
from fadiag.store.write.recording import Record, Recording

__all__ = ["RunWriter"]


class RunWriter:
    """Write one run into a store, on a thread of its own, one commit about every second.

    Parameters
    ----------
    path : path
        The store, a directory that does not exist yet (or does, with `resume`).
    manifest : mapping
        What the run is, plain JSON: ``meta``, ``config``, ``versions``, ...
    buffer_bytes : int
        Bytes that may wait for the disk. One record of a stream must fit.
    on_full : {"block", "skip"}
        With full buffers, wait, or leave the record out; what was left out is counted in the store.
    on_failure : {"raise", "warn"}
        A disk that is full or gone is a `StoreError` at the next call, or one `RuntimeWarning`, after which
        nothing more is recorded.
    commit_every : float
        Seconds between commits.
    resume : bool
        Go on behind the last committed record of a store that is there; make one where there is none.
    resume_from : int, optional
        Go on from a checkpoint taken at this step: records of this step and of later ones are given up.

    Raises
    ------
    StoreError
        The path is taken, cannot be written, or is a sealed store.
    LockedError
        Another writer holds the store.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={"meta": {"seed": 0}}) as writer:
    ...     writer.declare_stream("probe", attrs={"kind": "probe"})
    ...     writer.declare("probe", "fc1", "error", ArraySpec(("sample", "out"), (4, 3), "float32"))
    ...     writer.append("probe", 0, {("fc1", "error"): np.ones((4, 3), np.float32)})
    >>> from fadiag.store import open_run
    >>> dict(open_run(path)["probe/fc1/error"].sizes)
    {'step': 1, 'sample': 4, 'out': 3}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        manifest: Mapping[str, JSON],
        buffer_bytes: int = 128 * 2**20,
        on_full: Literal["block", "skip"] = "block",
        on_failure: Literal["raise", "warn"] = "raise",
        commit_every: float = 1.0,
        resume: bool = False,
        resume_from: int | None = None,
    ) -> None:
        self.path = absolute_path(path)
        if on_full not in {"block", "skip"}:
            raise InputError(f"on_full is {on_full!r}; use 'block' or 'skip'")
        if on_failure not in {"raise", "warn"}:
            raise InputError(f"on_failure is {on_failure!r}; use 'raise' or 'warn'")
        if buffer_bytes < 1 or not commit_every >= 0:
            raise InputError(
                f"buffer_bytes {buffer_bytes} and commit_every {commit_every}: both are positive"
            )
        self._buffer_bytes, self._on_full, self._on_failure = buffer_bytes, on_full, on_failure
        if resume_from is not None or (resume and self.path.exists()):
            if resume_from is not None:
                resume_from = check_whole("step", resume_from)
            self._recording = resume_recording(self.path, manifest, resume_from)
        else:
            self._recording = create_recording(self.path, manifest)
        self._mutex = threading.RLock()
        self._pool = BufferPool(buffer_bytes)
        self._last = {name: self._last_written(name) for name in self._recording.streams}
        self._appended = {name: stream.rows for name, stream in self._recording.streams.items()}
        self._sizes: dict[str, int] = {}
        self._started: set[str] = set()
        self._closed = self._warned = False
        self._queue: WriteQueue[Record] = WriteQueue(
            self._write, self._commit, limit=buffer_bytes, period=commit_every
        )

    @property
    def run_id(self) -> str:
        """Random name of the run, kept when it is resumed."""
        return self._recording.attributes.run_id

    @property
    def generation(self) -> int:
        """How often the run was set back by `resume_from`."""
        return self._recording.attributes.generation

    def declare_stream(self, stream: str, *, attrs: Mapping[str, JSON], planned: int | None = None) -> None:
        """Add a stream; `planned` is the number of records to come, where it is known.

        Raises
        ------
        InputError
            The name is taken or is none, or the attributes are not plain JSON.
        """
        if self._ready():
            with self._mutex, self._failures():
                self._recording.declare_stream(stream, attrs, planned)
                self._last.setdefault(stream, None)
                self._appended.setdefault(stream, 0)

    def declare(
        self,
        stream: str,
        layer: str,
        signal: str,
        spec: ArraySpec,
        *,
        layer_attrs: Mapping[str, JSON] | None = None,
    ) -> None:
        """Add a signal of a layer (layer ``""``: of the stream itself).

        A signal declared after the first record reads as its fill value before.

        Raises
        ------
        InputError
            An unknown stream, a signal declared twice, a dimension of two lengths in a layer, or records
            larger than `buffer_bytes`.
        """
        size = self._sizes.get(stream, 0) + spec.nbytes
        if size > self._buffer_bytes:
            raise InputError(
                f"{signal!r} of layer {layer!r} has {spec.nbytes:,} bytes a record, {size:,} with the rest of"
                f" stream {stream!r}, beyond buffer_bytes={self._buffer_bytes:,}; raise buffer_bytes, record"
                " fewer samples or leave the signal out"
            )
        if self._ready():
            with self._mutex, self._failures():
                appended = self._appended.get(stream, 0)
                self._recording.declare(stream, layer, signal, spec, layer_attrs or {}, appended=appended)
                self._sizes[stream] = size

    def put_static(
        self,
        layer: str,
        signal: str,
        array: NDArray[Any],
        *,
        dims: Sequence[str],
        attrs: Mapping[str, JSON] | None = None,
    ) -> None:
        """Write an array that has no steps, once; in a resumed store the first one is kept."""
        if self._ready():
            with self._mutex, self._failures():
                self._recording.put_static(layer, signal, array, dims, attrs or {})

    def buffer(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Lend an array to fill and hand to `append`, which gives it back when it is written."""
        return self._pool.lend(shape, dtype)

    def append(
        self,
        stream: str,
        step: int,
        values: Mapping[tuple[str, str], NDArray[Any]],
        *,
        wall_time: float | None = None,
        epoch: float | None = None,
        rows_valid: int | None = None,
        extra: Mapping[str, float] | None = None,
    ) -> None:
        """Queue one record; the arrays belong to the writer from now on.

        Parameters
        ----------
        values : mapping of (layer, signal) to array
            Of the declared shape, or with fewer ``sample`` rows, which are filled up. What is absent is
            written as its fill value.
        extra : mapping of name to number
            Scalars of the stream, float64, declared when first seen.

        Raises
        ------
        InputError
            A step that does not grow, an undeclared signal, a wrong shape or dtype, a coordinate or a scalar
            that is not one number. Nothing of the record is written then, and the next one may come.
        StoreError
            What is behind could not be written.
        """
        if not self._ready():
            return
        number = check_whole("step", step)
        if stream not in self._last:
            raise InputError(f"stream {stream!r} is not declared; the streams are {sorted(self._last)}")
        last = self._last[stream]
        if last is not None and number <= last:
            raise InputError(
                f"step {number} of stream {stream!r} comes after step {last}; steps must grow, and to go back"
                f" to a checkpoint open the store with resume_from={number}"
            )
        with self._failures():
            self._check_disk(stream)
        arrays, rows = self._arrays(stream, values)
        coordinates = {
            "step": number,
            "wall_time": time.time() if wall_time is None else check_number("wall_time", wall_time),
            "epoch": np.nan if epoch is None else check_number("epoch", epoch),
            "rows_valid": rows if rows_valid is None else check_whole("rows_valid", rows_valid),
            **{name: check_number(f"scalar {name!r}", value) for name, value in (extra or {}).items()},
        }
        for name in extra or {}:
            self._declare_scalar(stream, name)
        size = sum(array.nbytes for array in arrays.values())
        if self._queue.put(Record(stream, coordinates, arrays), size, wait=self._on_full == "block"):
            self._last[stream] = number
            self._appended[stream] += 1
        elif self._queue.failure is None:
            self._count_skipped(stream, number)
            for array in arrays.values():
                self._pool.take_back(array)
        else:
            self._ready()

    def set_attrs(self, path_in_store: str, attrs: Mapping[str, JSON]) -> None:
        """Merge attributes into those of a group or an array, seen from the next commit on."""
        if self._ready():
            with self._mutex:
                clean = clean_json(f"attributes of {path_in_store}", attrs)
                self._recording.tree.merge_attrs(path_in_store.strip("/"), clean)

    def attrs(self, path_in_store: str) -> Mapping[str, JSON]:
        """Return the attributes of a group or an array; empty where it is not in the store."""
        with self._mutex:
            node = self._recording.tree.nodes.get(path_in_store.strip("/"))
            return {} if node is None else dict(node.attrs)

    def last_step(self, stream: str) -> int | None:
        """Step of the last record of a stream, None where there is none."""
        if stream not in self._last:
            raise InputError(f"stream {stream!r} is not declared; the streams are {sorted(self._last)}")
        return self._last[stream]

    def flush(self) -> None:
        """Return when all that was appended is committed."""
        if self._ready():
            self._queue.drain()
            self._ready()

    def close(self, status: str = "complete") -> None:
        """Write what waits, commit, set the store's status and free it; a second call does nothing."""
        if self._closed:
            return
        try:
            self._queue.stop()
            if self._queue.failure is None:
                with self._failures():
                    self._recording.finish(status)
            elif not self._warned:
                self._ready()
        finally:
            self._closed = True
            self._recording.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that ends in an exception is not complete; an error of the disk was told already.
        self._warned = self._warned or isinstance(error, StoreError)
        self.close("complete" if error is None else "failed")

    # -- on the writer's thread -----------------------------------------------------------------------------

    def _write(self, row: Record) -> None:
        with self._mutex:
            try:
                self._recording.write_record_of_stream(row)
            except OSError:
                # The rows before this one are whole: commit them, if the disk still takes that much.
                with contextlib.suppress(OSError):
                    self._recording.commit()
                raise
        for array in row.values.values():
            self._pool.take_back(array)

    def _commit(self) -> None:
        with self._mutex:
            self._recording.commit()

    # -- on the caller's thread -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Treat a failing disk here as one on the writer's thread: an error, or a warning and no more."""
        try:
            yield
        except OSError as error:
            self._queue.fail(error)
            self._ready()

    def _ready(self) -> bool:
        """Whether writing goes on; raises what went wrong behind the caller's back, or warns of it once."""
        if self._closed:
            raise StoreError(f"{self.path} is closed; open it again with resume=True")
        failure = self._queue.failure
        if failure is None:
            return True
        told = _explain(self._recording, failure)
        if self._on_failure == "warn":
            if not self._warned:
                self._warned = True
                warnings.warn(f"{told}; the run goes on unrecorded", RuntimeWarning, stacklevel=3)
            return False
        self._warned = True
        raise StoreError(told) from failure

    def _arrays(
        self, stream: str, values: Mapping[tuple[str, str], NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], int]:
        slots = self._recording.streams[stream].slots
        arrays: dict[str, NDArray[Any]] = {}
        counts: set[int] = set()
        padded = False
        for (layer, signal), array in values.items():
            path = self._recording.path_of(stream, layer, signal)
            spec = slots.get(path)
            if spec is None:
                raise InputError(f"{path} was not declared; declare it before appending to it")
            data = np.asarray(array)
            samples = bool(spec.dims) and spec.dims[0] == "sample"
            short = samples and data.shape[1:] == spec.shape[1:] and 0 < len(data) <= spec.shape[0]
            if data.dtype.name != spec.dtype or not (short or data.shape == spec.shape):
                raise InputError(
                    f"{path} was declared {spec.dtype} {spec.shape}, this record has {data.dtype.name}"
                    f" {data.shape}"
                )
            if samples:
                counts.add(len(data))
                padded = padded or len(data) < spec.shape[0]
            arrays[path] = data
        if padded and len(counts) > 1:
            raise InputError(
                f"arrays of one record of stream {stream!r} have {sorted(counts)} samples; give one number"
            )
        return arrays, max(counts, default=0)

    def _declare_scalar(self, stream: str, name: str) -> None:
        """Declare a scalar that is new; one number for an array would move every later record of it."""
        spec = self._recording.streams[stream].slots.get(f"{stream}/{name}")
        if spec is None:
            self.declare(stream, "", name, ArraySpec((), (), "float64"))
        elif spec.shape:
            raise InputError(
                f"{stream}/{name} was declared with shape {spec.shape}; give it in values, not in extra"
            )

    def _count_skipped(self, stream: str, step: int) -> None:
        # Without the mutex, which a slow disk holds through a whole write: skipping must not wait for it. The
        # table is replaced in one assignment, so a commit on the other thread reads the old one or the new.
        attributes = self._recording.attributes
        told = attributes.skipped.get(stream, {"count": 0, "first": step})
        attributes.skipped = {
            **attributes.skipped,
            stream: {**told, "count": told["count"] + 1, "last": step},
        }

    def _check_disk(self, stream: str) -> None:
        """Compare what the streams are planned to write with what the disk has left, once a stream."""
        if stream in self._started:
            return
        self._started.add(stream)
        told = shortage(self.path, self._recording.streams.values(), self._sizes)
        if told is not None:
            if self._on_failure == "raise":
                raise StoreError(told)
            warnings.warn(told, RuntimeWarning, stacklevel=3)

    def _last_written(self, stream: str) -> int | None:
        steps = self._recording.steps(stream)
        return int(steps[-1]) if len(steps) else None


def _explain(recording: Recording, failure: BaseException) -> str:
    kept = ", ".join(f"{name}: {n}" for name, n in recording.attributes.committed.items()) or "none"
    gone = isinstance(failure, FileNotFoundError) and not recording.path.exists()
    if gone or isinstance(failure, MovedError):
        return (
            f"{recording.path} was moved or deleted while it was recorded, and nothing more is written;"
            f" records committed: {kept}; move it back and go on with resume=True"
        )
    if isinstance(failure, OSError):
        where = f" ({failure.filename})" if failure.filename else ""
        cause = f"{failure.strerror}{where}"
    else:
        cause = f"{type(failure).__name__}: {failure}"
    return (
        f"{recording.path} cannot be written: {cause}; records committed: {kept};"
        " mend the disk and go on with resume=True"
    )
