"""Find the module that sends direct feedback to each layer, by a pass of the first probe."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.direct import find_senders
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.direct_links import check_senders, link_senders
from fadiag.capture.passes.error_context import name_probe
from fadiag.capture.passes.isolation import TrainingFlags, outside_of_contexts
from fadiag.capture.streams.probe import Probe
from fadiag.errors import CaptureError

__all__ = ["link_layers"]


def link_layers(
    model: nn.Module,
    layers: tuple[RecordedLayer, ...],
    others: tuple[RecordedLayer, ...],
    *,
    adapters: Sequence[LayerAdapter],
    probes: Mapping[str, Probe],
    flags: TrainingFlags,
) -> tuple[tuple[RecordedLayer, ...], tuple[RecordedLayer, ...]]:
    """Return the recorded layers and the others, each with the module that sends direct feedback to it.

    If the model has no such modules, no pass is made.

    Raises
    ------
    CaptureError
        There is no probe; or see `link_senders`.
    InputError
        See `link_senders` and `check_senders`.
    """
    senders = find_senders(model, adapters)
    if not senders:
        return layers, others
    if not probes:
        raise CaptureError(
            f"module {senders[0].name!r} sends direct feedback, and a pass of a probe shows which layer "
            "it credits; give probes={'probe': Probe(batch, loss)}"
        )
    name, probe = next(iter(probes.items()))
    with name_probe(name), outside_of_contexts(model):
        passes = probe.passes_on(model, layers, others, flags)
        layers, others = link_senders(passes, senders)
        check_senders(replace(passes, layers=layers, others=others))
    return layers, others
