"""Detect that a model's weights have changed since the last update, for example by a loaded checkpoint."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fadiag.capture.layers.recorded_layer import RecordedLayer

__all__ = ["LastWeights", "why_not_recorded"]

#: The approximate number of entries compared in each parameter.
_ENTRIES = 16


class LastWeights:
    """Stores a few entries of each recorded parameter after every update, for comparison.

    Whole parameters would take too long to read after each update. A few entries are enough, because an
    average or an earlier checkpoint differs everywhere. Version counters are not enough, because they do not
    count ``parameter.data.copy_``. For masks they are enough, because pruning replaces the mask.

    Parameters
    ----------
    layers : sequence of RecordedLayer
    """

    def __init__(self, layers: Sequence[RecordedLayer]) -> None:
        self._layers = layers
        found = {id(p): p for layer in layers for p in layer.module.parameters()}
        self._parameters = list(found.values())
        self._memory: list[int] = []
        self._entries: list[list[Tensor]] = []  # one list for each device and dtype
        self._kept: list[Tensor] = []
        self._masks: list[tuple[Tensor, int]] = []

    def keep(self) -> None:
        """Save the current entries."""
        self._kept, self._masks = self._read(), self._read_masks()

    def are_there(self) -> bool:
        """Return whether the model still has the saved entries."""
        now, kept, masks = _joined(self._read()), _joined(self._kept), self._read_masks()
        if len(masks) != len(self._masks) or any(
            a is not b or version != before
            for (a, version), (b, before) in zip(masks, self._masks, strict=True)
        ):
            return False
        return now.shape == kept.shape and torch.allclose(now, kept, rtol=0, atol=0, equal_nan=True)

    def _read_masks(self) -> list[tuple[Tensor, int]]:
        """Return the masks of pruned weights and the version counter of each."""
        masks = (layer.module._buffers.get("weight_mask") for layer in self._layers)
        return [(mask, mask._version) for mask in masks if mask is not None]

    def _read(self) -> list[Tensor]:
        memory = [parameter.data_ptr() for parameter in self._parameters]
        if memory != self._memory:  # a parameter may move to other memory
            self._memory, found = memory, dict[tuple[torch.device, torch.dtype], list[Tensor]]()
            for p in self._parameters:
                entries = p.detach().reshape(-1)[:: max(1, p.numel() // _ENTRIES)]
                found.setdefault((p.device, p.dtype), []).append(entries)
            self._entries = list(found.values())
        return [torch.cat(entries) for entries in self._entries]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.float64, device="cpu"), *(p.double().cpu() for p in parts)])


def why_not_recorded(step: int, *, has_stepped: bool) -> str:
    """Return the warning of a recorder that closes with other weights than those of its last step."""
    if not has_stepped:
        return (
            "recorder.step() was never called, though the weights changed, so nothing after step "
            f"{step} is recorded; call recorder.step() after each optimizer.step()"
        )
    return (
        "at close() the model has other weights than the last update left, so nothing more of step "
        f"{step} is recorded: was an average or the best checkpoint loaded, or recorder.step() left "
        "out? Close the recorder before other weights are loaded"
    )
