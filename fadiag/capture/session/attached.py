"""AttachedModel holds the recorded model and its layers, and checks that they do not change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import choose_layers, others_of
from fadiag.capture.layers.sharding import check_whole
from fadiag.capture.layers.unchanged import ModelStructure
from fadiag.capture.layers.wrappers import unwrap_model
from fadiag.capture.passes.isolation import TrainingFlags
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.probe_links import link_layers
from fadiag.capture.tracing.declared_ops import declare_ops
from fadiag.rules.layer_choice import LayerChoice

__all__ = ["AttachedModel"]


class AttachedModel:
    """A model with its recorded layers and the operations that the user declared.

    Parameters
    ----------
    model : nn.Module
        A compiled or data-parallel wrapper is removed.
    chosen : iterable of str, module or module class, optional
        The layers to record, see `choose_layers`.
    adapters : sequence of LayerAdapter
        They have priority over the default ones.
    probes : mapping of str to Probe
        A pass of the first one shows which layers receive direct feedback.
    passes, gates : sequence
        See `declare_ops`.

    Attributes
    ----------
    module : nn.Module
    layers, others : tuple of RecordedLayer
        The recorded layers, and all others.
    flags : TrainingFlags
    ops : DeclaredOps
    """

    def __init__(
        self,
        model: nn.Module,
        chosen: LayerChoice | Iterable[LayerChoice] | None,
        *,
        adapters: Sequence[LayerAdapter],
        probes: Mapping[str, Probe],
        passes: Sequence[Any],
        gates: Sequence[Any],
    ) -> None:
        self.module = unwrap_model(model)
        check_whole(self.module)
        known = (*adapters, *DEFAULT_ADAPTERS)
        layers = choose_layers(self.module, known, chosen)
        others = others_of(self.module, known, layers)
        self.flags = TrainingFlags(self.module)
        self.layers, self.others = link_layers(
            self.module, layers, others, adapters=known, probes=probes, flags=self.flags
        )
        self.ops = declare_ops(self.module, passes, gates, self.layers)
        self._structure = ModelStructure(self.module, self.layers, self.others, known)

    def check(self, step: int) -> None:
        """Raise CaptureError if the model's layers or recorded parameters have changed since the start."""
        self._structure.check(step)
