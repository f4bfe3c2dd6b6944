"""Create a new store, or reopen an existing store to append to it."""

import dataclasses
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fadiag.errors import InputError, StoreError
from fadiag.store.layout import SCHEMA
from fadiag.store.lock import StoreLock
from fadiag.store.read.arrays import read_steps
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.snapshot import RootAttributes, Snapshot
from fadiag.store.values import JSON, clean_json
from fadiag.store.write.recording import Recording
from fadiag.store.write.stream import StreamState
from fadiag.store.write.tree import StoreNode

__all__ = ["create_recording", "resume_recording"]


def create_recording(path: Path, manifest: Mapping[str, JSON]) -> Recording:
    """Create a store and lock it.

    Raises
    ------
    StoreError
        The path exists, or its folder cannot be written.
    """
    clean = clean_json("manifest", manifest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError:
        if not path.parent.is_dir():
            raise StoreError(f"{path} cannot be made: {path.parent} is a file; take a folder") from None
        raise StoreError(
            f"{path} exists; go on in it with RunWriter(resume=True), or take another path"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}; take a folder that can be written"
        ) from None
    lock = StoreLock(path)
    now = time.time()
    attributes = RootAttributes(SCHEMA, uuid.uuid4().hex, 0, "recording", now, now, {}, {}, [], clean)
    recording = Recording(path, lock, attributes)
    recording.commit()
    return recording


def resume_recording(path: Path, manifest: Mapping[str, JSON], resume_from: int | None) -> Recording:
    """Lock an existing store and continue after its last committed record.

    With `resume_from`, the records from that step on are dropped: a smaller length is committed. The
    generation increases, so a reader can distinguish the two histories.

    Raises
    ------
    StoreError
        The store is sealed.
    InputError
        The store holds a symbolic link, and a write through it could leave the store.
    """
    read_snapshot(path)  # refuse a path that is not a store before locking it
    lock = StoreLock(path)
    try:
        snapshot = read_snapshot(path)
        if snapshot.sealed:
            raise StoreError(f"{path} was compacted and is sealed; resume the store it was made from")
        _refuse_links(path)
        recording = Recording(path, lock, snapshot.attributes)
        before = snapshot.attributes.committed
        _restore(recording, snapshot, resume_from)
        attributes = recording.attributes
        attributes.generation += resume_from is not None
        attributes.resumes.append(
            {
                "time": time.time(),
                "generation": attributes.generation,
                "resume_from": resume_from,
                "committed_before": before,
                "manifest": clean_json("manifest", manifest),
            }
        )
        was, attributes.status = attributes.status, "recording"
        recording.commit()
        if was != "recording":
            recording.write_documents(final=False)
    except BaseException:
        lock.release()
        raise
    return recording


def _restore(recording: Recording, snapshot: Snapshot, resume_from: int | None) -> None:
    """Load the nodes and the record counts of a store, up to the step to resume from."""
    for path, attrs in snapshot.groups.items():
        recording.tree.add(StoreNode(path, dict(attrs)))
    for name in snapshot.attributes.committed:
        steps = read_steps(snapshot, name)
        records = len(steps) if resume_from is None else int(np.searchsorted(steps, resume_from))
        recording.streams[name] = StreamState(name, records, int(steps[records - 1]) if records else None)
    for path, array in snapshot.arrays.items():
        layout = array.layout
        if layout.stepped:
            layout = dataclasses.replace(layout, shape=(0, *layout.record_shape))
        node = recording.tree.add(StoreNode(path, dict(array.attrs), layout))
        if layout.stepped:
            stream = recording.streams[node.stream]
            stream.arrays.append(node)
            if array.first_record > stream.records:
                recording.backfill(node, stream.records)
    recording.inherited = set(recording.tree.nodes)


def _refuse_links(path: Path) -> None:
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = f"{folder}/{name}"
            if os.path.islink(entry):  # noqa: PTH114 - often called, and a Path is slow
                raise InputError(f"{entry} is a symbolic link; a store that is resumed must hold none")
