"""Coordinate the processes of a distributed run: only rank 0 records, and all must have the same feedback."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import distributed, nn

from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.streams.probe import Probe
from fadiag.errors import CaptureError, InputError

__all__ = ["Processes", "feedback_digests"]

#: How long a rank waits for the others when it builds a recorder. The slowest first probe must fit.
TIMEOUT = timedelta(minutes=5)


class Processes:
    """Exchanges messages between the processes of a run (torch.distributed) while they build their recorders.

    The messages go over gloo in a separate group, and only while a recorder is built. So they touch neither
    the run's collectives nor its device. If a rank builds no recorder, the others raise an error after a
    timeout. Without torch.distributed, or with one process, nothing is sent.

    Parameters
    ----------
    recording : {"first"}
        The processes that record. Only rank 0 does.

    Raises
    ------
    InputError
        Any other choice.
    CaptureError
        Some of the ranks do not build a recorder.
    """

    def __init__(self, recording: Literal["first"]) -> None:
        if recording != "first":
            raise InputError(
                f"processes is {recording!r}; only 'first' (rank 0) records. To see the samples of the other "
                "ranks, give rank 0 a Probe with the whole batch"
            )
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1
        self._group: Any = None
        if self.size > 1:
            try:
                self._group = distributed.new_group(backend="gloo", timeout=TIMEOUT)
            except RuntimeError as error:
                raise self._missing(error) from None

    @property
    def records(self) -> bool:
        """Whether this process records."""
        return self.rank == 0

    def check_feedback(self, layers: Sequence[RecordedLayer]) -> None:
        """Compare the SHA-256 of every layer's feedback on all ranks.

        Raises
        ------
        CaptureError
            The ranks have different layers or feedback. The error names the first layer that differs.
        """
        if self.size == 1:
            return
        first, *others = self._gather(feedback_digests(layers))
        for rank, digests in enumerate(others, 1):
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
        """Raise if a probe would wait for other ranks, which run no probe.

        Raises
        ------
        CaptureError
            A probe is in train mode and the model has synchronized batch norm.
        """
        if self.size == 1:
            return
        for name, probe in probes.items():
            for layer, module in model.named_modules():
                if probe.mode == "train" and isinstance(module, nn.SyncBatchNorm):
                    self._leave()
                    raise CaptureError(
                        f"probe {name!r} is in train mode, where layer {layer!r} (SyncBatchNorm) waits for "
                        "every rank, and rank 0 probes alone; give Probe(..., mode='eval')"
                    )

    def agree(self, step: int, failure: Exception | None = None) -> int:
        """Report to the other ranks if the recorder started, and return the step at which rank 0 starts.

        Raises
        ------
        CaptureError
            Another rank failed.
        """
        if self.size == 1:
            return step
        message = None if failure is None else f"{type(failure).__name__}: {failure}"
        answers = self._gather((step, message))
        self._leave()
        if failure is not None:
            return step
        for rank, (_, message) in enumerate(answers):
            if message is not None:
                raise CaptureError(f"the recorder of rank {rank} did not start: {message}")
        return int(answers[0][0])

    def _gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        try:
            distributed.all_gather_object(found, value, group=self._group)
        except RuntimeError as error:
            raise self._missing(error) from None
        return found

    def _leave(self) -> None:
        distributed.destroy_process_group(self._group)

    def _missing(self, error: RuntimeError) -> CaptureError:
        return CaptureError(
            f"not all of the {self.size} ranks built a Recorder within {TIMEOUT.total_seconds():.0f} s; "
            "build one on every rank: those above 0 record nothing "
            f"(torch says: {' '.join(str(error).split())[:200]})"
        )


def feedback_digests(layers: Sequence[RecordedLayer]) -> dict[str, str]:
    """Return the SHA-256 of each layer's feedback; "" if its backward pass is exact.

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
