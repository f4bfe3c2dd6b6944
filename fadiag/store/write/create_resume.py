"""Beginning a store, and going on in one that is there."""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fadiag.errors import StoreError
from fadiag.store.layout import SCHEMA
from fadiag.store.lock import StoreLock
from fadiag.store.names import JSON, clean_json
from fadiag.store.read.snapshot import RootAttributes, read_snapshot, refuse_links
from fadiag.store.write.recording import Recording

__all__ = ["create_recording", "resume_recording"]


def create_recording(path: Path, manifest: Mapping[str, JSON]) -> Recording:
    """Make a new store and lock it.

    Raises
    ------
    StoreError
        The path is taken, or its folder cannot be written.
    """
    clean = clean_json("manifest", manifest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError:
        if not path.parent.is_dir():
            raise StoreError(f"{path} cannot be made: {path.parent} is a file; take a folder") from None
        raise StoreError(f"{path} exists; resume it with resume=True, or take another path") from None
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
    """Lock a store that is there and go on behind its last committed record.

    With `resume_from` the records of that step and of later ones are given up: a smaller length is committed
    and the generation rises, so that a reader can tell the two histories apart.
    """
    read_snapshot(path)  # a path that is no store is refused before anything is locked
    lock = StoreLock(path)
    try:
        snapshot = read_snapshot(path)
        if snapshot.sealed:
            raise StoreError(f"{path} was compacted and is sealed; resume the store it was made from")
        refuse_links(path)
        recording = Recording(path, lock, snapshot.attributes)
        recording.restore(snapshot)
        before = dict(snapshot.attributes.committed)
        if resume_from is not None:
            for stream in recording.streams.values():
                stream.rows = int(np.searchsorted(recording.steps(stream.name), resume_from))
            recording.attributes.generation += 1
        recording.attributes.resumes.append(
            {
                "time": time.time(),
                "generation": recording.attributes.generation,
                "resume_from": resume_from,
                "committed_before": before,
                "manifest": clean_json("manifest", manifest),
            }
        )
        was = recording.attributes.status
        recording.attributes.status = "recording"
        for node in recording.tree.nodes.values():
            rows = recording.streams[node.stream].rows if node.stream in recording.streams else 0
            if node.attrs.get("declared_at", 0) > rows:
                recording.declare_at(node, rows)
        recording.commit()
        if was != "recording":
            recording.reset_nodes()
    except BaseException:
        lock.release()
        raise
    return recording
