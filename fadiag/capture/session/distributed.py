"""A run of several processes (torch.distributed): who records, and whether all have the same feedback."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed, nn

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.streams.probe import Probe
from fadiag.errors import CaptureError, InputError
from fadiag.store import rank_path

__all__ = ["Ranks", "feedback_digests"]

#: How long a rank waits for the others when a recorder is built: as long as the slowest first probe.
TIMEOUT = timedelta(minutes=5)


class Ranks:
    """The processes of a run, while a recorder is attached to each.

    They talk in a group of their own, over gloo and only while the recorder is built: neither the run's
    collectives nor its device are touched, and a rank that builds no recorder is told of and not waited for
    without end. Without torch.distributed, or with one process, nobody is asked.

    Parameters
    ----------
    mode : {"first", "all"}
        Whether rank 0 records alone, or every rank into a store of its own.

    Raises
    ------
    InputError
        Another mode.
    CaptureError
        Some of the ranks do not build a recorder.
    """

    def __init__(self, mode: Literal["first", "all"]) -> None:
        if mode not in ("first", "all"):
            raise InputError(f"ranks is {mode!r}; give 'first' (rank 0 records) or 'all' (a store a rank)")
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1
        self.all = mode == "all"
        self.run = uuid.uuid4().hex
        self._group: Any = None
        if self.size > 1:
            try:
                self._group = distributed.new_group(backend="gloo", timeout=TIMEOUT)
            except RuntimeError as error:
                raise self._absent(error) from None

    @property
    def records(self) -> bool:
        """Whether this rank records."""
        return self.all or self.rank == 0

    def path(self, path: str | PathLike[str]) -> Path:
        """Return where this rank's store is."""
        return rank_path(path, self.rank) if self.all else Path(path)

    def manifest(self) -> dict[str, Any]:
        """Return what a store of one rank says of the others; nothing where rank 0 records alone."""
        return {"ranks": {"rank": self.rank, "size": self.size, "run": self.run}} if self.all else {}

    def check_feedback(self, layers: Sequence[RecordedLayer]) -> None:
        """Compare the feedback of every layer on all ranks, by its SHA-256.

        Raises
        ------
        CaptureError
            The ranks have other layers or another feedback; the first layer that differs is named.
        """
        if self.size == 1:
            return
        told = self._gather((self.run, feedback_digests(layers)))
        self.run = told[0][0]
        first = told[0][1]
        for rank, (_, digests) in enumerate(told):
            if list(digests) != list(first):
                self._leave()
                raise CaptureError(
                    f"rank 0 records {len(first)} layers and rank {rank} {len(digests)}, or under other "
                    "names; build the same model and recorder on every rank"
                )
            for name, digest in digests.items():
                if digest != first[name]:
                    self._leave()
                    raise CaptureError(
                        f"the feedback B of layer {name!r} on rank {rank} is not rank 0's, so the ranks "
                        "would average the gradients of different rules; build and convert the model under "
                        "the same torch seed on every rank, or wrap it before it is recorded in "
                        "DistributedDataParallel, which sends rank 0's unless broadcast_buffers=False"
                    )

    def check_probes(self, model: nn.Module, probes: Mapping[str, Probe]) -> None:
        """Refuse a probe that would wait for ranks that do not probe.

        Raises
        ------
        CaptureError
            A probe in train mode on rank 0 alone, of a model with synchronized batch norm.
        """
        if self.size == 1 or self.all:
            return
        for name, probe in probes.items():
            for layer, module in model.named_modules():
                if probe.mode == "train" and isinstance(module, nn.SyncBatchNorm):
                    self._leave()
                    raise CaptureError(
                        f"probe {name!r} is in train mode, where layer {layer!r} (SyncBatchNorm) waits for "
                        "every rank, and rank 0 probes alone; give Probe(..., mode='eval') or ranks='all'"
                    )

    def agree(self, step: int, failure: Exception | None = None) -> int:
        """Tell the others how the recorder started, and return the step that all start at.

        Raises
        ------
        CaptureError
            Another rank failed, or the ranks would go on at different steps.
        """
        if self.size == 1:
            return step
        told = self._gather((step, None if failure is None else f"{type(failure).__name__}: {failure}"))
        self._leave()
        if failure is not None:
            return step
        for rank, (_, message) in enumerate(told):
            if message is not None:
                raise CaptureError(f"the recorder of rank {rank} did not start: {message}")
        steps = [at for at, _ in told] if self.all else [told[0][0]]
        if len(set(steps)) > 1:
            raise CaptureError(
                f"the ranks' stores end at different steps ({', '.join(map(str, steps))}); give resume_from= "
                "the step of the checkpoint"
            )
        return int(steps[0])

    def _gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        try:
            distributed.all_gather_object(found, value, group=self._group)
        except RuntimeError as error:
            raise self._absent(error) from None
        return found

    def _leave(self) -> None:
        distributed.destroy_process_group(self._group)

    def _absent(self, error: RuntimeError) -> CaptureError:
        return CaptureError(
            f"not all of the {self.size} ranks built a Recorder within {TIMEOUT.total_seconds():.0f} s; "
            "build one on every rank, those above 0 record nothing with ranks='first' "
            f"(torch says: {' '.join(str(error).split())[:200]})"
        )


def feedback_digests(layers: Sequence[RecordedLayer]) -> dict[str, str]:
    """Return the SHA-256 of each layer's feedback; "" where its backward pass is exact.

    Examples
    --------
    >>> from fadiag import convert
    >>> from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
    >>> from fadiag.capture.layers.selection import choose_layers
    >>> model = convert(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)))
    >>> [len(digest) for digest in feedback_digests(choose_layers(model, DEFAULT_ADAPTERS, None)).values()]
    [64, 64]
    """
    digests = {}
    for layer in layers:
        feedback = layer.feedback
        digests[layer.name] = (
            ""
            if feedback is None
            else hashlib.sha256(
                feedback.detach().cpu().contiguous().view(torch.uint8).numpy().data
            ).hexdigest()
        )
    return digests
