"""RunWriter writes one run into a store."""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from numpy.typing import NDArray

from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store.layout import ArraySpec
from fadiag.store.values import JSON, check_whole, clean_json
from fadiag.store.write.background import BackgroundRecording
from fadiag.store.write.create_resume import create_recording, resume_recording
from fadiag.store.write.declare import declare_signal, declare_static, declare_stream
from fadiag.store.write.record import checked_record
from fadiag.store.write.stream import StreamState

__all__ = ["RunWriter"]


class RunWriter:
    """Write one run into a store, on a separate thread, with a commit about every second.

    Parameters
    ----------
    path : path
        Folder of the store. It must not exist yet, except with `resume`.
    manifest : mapping
        Description of the run as plain JSON: ``meta``, ``config``, ``versions``, ...
    buffer_bytes : int
        Largest number of bytes that wait for the disk. One record of a stream must fit.
    on_full : {"block", "skip"}
        If the buffer is full, wait or skip the record. The store counts the skipped records.
    on_failure : {"raise", "warn"}
        If the disk is full or missing, raise `StoreError` at the next call, or give one `RuntimeWarning` and
        record nothing more.
    commit_every : float
        Seconds between commits.
    resume : bool
        Continue after the last committed record of an existing store, or create a new store.
    resume_from : int, optional
        Continue from a checkpoint of this step: the records from this step on are dropped.

    Raises
    ------
    StoreError
        The path exists already, cannot be written, or is a sealed store.
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
        if resume_from is not None:
            resume_from = check_whole("step", resume_from)
        if resume_from is not None or (resume and self.path.exists()):
            recording = resume_recording(self.path, manifest, resume_from)
        else:
            recording = create_recording(self.path, manifest)
        self._recording, self._buffer_bytes, self._wait = recording, buffer_bytes, on_full == "block"
        self._background = BackgroundRecording(
            recording, buffer_bytes=buffer_bytes, commit_every=commit_every, on_failure=on_failure
        )

    def declare_stream(self, stream: str, *, attrs: Mapping[str, JSON], planned: int | None = None) -> None:
        """Add a stream; `planned` is the expected number of records, if known.

        Raises
        ------
        InputError
            The name is used already or not allowed, or the attributes are not plain JSON.
        """
        if self._background.ready():
            with self._background.exclusive():
                declare_stream(self._recording, stream, attrs, planned)

    def declare(
        self,
        stream: str,
        layer: str,
        signal: str,
        spec: ArraySpec,
        *,
        layer_attrs: Mapping[str, JSON] | None = None,
    ) -> None:
        """Add a signal of a layer, or of the stream itself (layer ``""``).

        If the stream has records already, the signal has its fill value in them.

        Raises
        ------
        InputError
            The stream is unknown, the signal is declared twice, a dimension has two lengths in a layer, or a
            record is larger than `buffer_bytes`.
        """
        if self._background.ready():
            with self._background.exclusive():
                self._check_size(stream, layer, signal, spec)
                declare_signal(self._recording, stream, layer, signal, spec, layer_attrs=layer_attrs or {})

    def put_static(
        self,
        layer: str,
        signal: str,
        array: NDArray[Any],
        *,
        dims: Sequence[str],
        attrs: Mapping[str, JSON] | None = None,
    ) -> None:
        """Write an array without steps, once; a resumed store does not overwrite it."""
        if self._background.ready():
            with self._background.exclusive():
                declare_static(self._recording, layer, signal, array, dims=dims, attrs=attrs or {})

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
        """Queue one record; do not change its arrays afterwards.

        Parameters
        ----------
        values : mapping of (layer, signal) to array
            Arrays of the declared shape, or with fewer ``sample`` rows; the missing rows are filled. An
            absent signal gets its fill value.
        extra : mapping of name to number
            Scalars of the stream, stored as float64 and declared at first use.

        Raises
        ------
        InputError
            The step does not increase, a signal is undeclared or has a wrong shape or dtype, or a coordinate
            or scalar is not a number. Nothing of the record is written, and the next record may follow.
        StoreError
            An earlier record could not be written.
        """
        if not self._background.ready():
            return
        home = self._recording.stream(stream)
        record = checked_record(
            home, step, values, wall_time=wall_time, epoch=epoch, rows_valid=rows_valid, extra=extra or {}
        )
        for name in extra or {}:
            self._declare_scalar(home, name)
        if self._background.put(record, wait=self._wait):
            home.last_step = record.step
            home.appended += 1
        elif self._background.ready():
            self._recording.count_skipped(record)

    def set_attrs(self, path_in_store: str, attrs: Mapping[str, JSON]) -> None:
        """Merge attributes into those of a group or an array; readers see them after the next commit."""
        if self._background.ready():
            with self._background.exclusive():
                clean = clean_json(f"attributes of {path_in_store}", attrs)
                self._recording.tree.merge_attrs(path_in_store.strip("/"), clean)

    def attrs(self, path_in_store: str) -> Mapping[str, JSON]:
        """Return the attributes of a group or an array, or an empty mapping if it is not in the store."""
        with self._background.exclusive():
            node = self._recording.tree.nodes.get(path_in_store.strip("/"))
            return {} if node is None else dict(node.attrs)

    def last_step(self, stream: str) -> int | None:
        """Return the step of a stream's last record, or None if it has no records."""
        return self._recording.stream(stream).last_step

    def flush(self) -> None:
        """Wait until every appended record is committed."""
        self._background.flush()

    def close(self, status: str = "complete") -> None:
        """Write the waiting records, commit the status and free the lock; do nothing if closed."""
        self._background.close(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that ends in an exception is not complete. The user has seen a `StoreError` already.
        self._background.reported |= isinstance(error, StoreError)
        self.close("complete" if error is None else "failed")

    def _declare_scalar(self, stream: StreamState, name: str) -> None:
        path = f"{stream.name}/{name}"
        spec = stream.specs.get(path)
        if spec is None:
            self.declare(stream.name, "", name, ArraySpec((), (), "float64"))
        elif spec.shape:  # one number would shift every later record of the array
            raise InputError(f"{path} was declared with shape {spec.shape}; give it in values, not in extra")

    def _check_size(self, stream: str, layer: str, signal: str, spec: ArraySpec) -> None:
        size = self._recording.stream(stream).record_bytes + spec.nbytes
        if size > self._buffer_bytes:
            raise InputError(
                f"{signal!r} of layer {layer!r} has {spec.nbytes:,} bytes a record, {size:,} with the rest of"
                f" stream {stream!r}, beyond buffer_bytes={self._buffer_bytes:,}; raise buffer_bytes, record"
                " fewer samples or leave the signal out"
            )
