"""Warn about layers that will not be recorded although the user may expect them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.backward_hooks import has_backward_hooks
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.warn import warn_user
from fadiag.errors import CaptureError
from fadiag.rules.left_out import listed
from fadiag.signals import SIGNALS

__all__ = [
    "unknown_layer_types",
    "warn_missing_signals",
    "warn_replaced",
    "warn_undrawn",
    "warn_unknown_layers",
]

_WHY = {
    "is never called": " (outside of no_grad)",
    "receives no error": " (its output is detached, made under no_grad, or not used by the loss)",
}


def unknown_layer_types(others: Iterable[RecordedLayer]) -> dict[str, str]:
    """Return the names and types of the modules that no adapter knows."""
    return {
        x.name: type_before_parametrizations(x.module).__name__ for x in others if x.adapter is unknown_layers
    }


def warn_unknown_layers(others: Sequence[RecordedLayer]) -> None:
    """Warn about the modules that no adapter knows."""
    left_out = unknown_layer_types(others)
    if left_out:
        names = listed([f"{name!r} ({kind})" for name, kind in left_out.items()], 4)
        warn_user(
            f"not recorded, since no adapter knows them: {names}. fadiag assumes that their backward pass is "
            "exact: if it is not, error_bp is not that of backpropagation below them. Give adapters=("
            "exact_layers(...),) or your own LayerAdapter to record them, or layers=[...] to leave them out"
        )


def warn_missing_signals(
    recorded: Mapping[str, Collection[str]],
    layers: Sequence[RecordedLayer],
    asked: Collection[str],
    where: str,
) -> None:
    """Warn about layers without signals; raise for a layer that was asked for by name.

    Parameters
    ----------
    recorded : mapping of str to collection of str
        The signals of each call of a layer, by the call's name.
    layers : sequence of RecordedLayer
        The layers to record.
    asked : collection of str
        The signals that were asked for. If none needs the backward pass, a layer may have no error.
    where : str
        The name of the stream in the message.

    Raises
    ------
    CaptureError
        A layer that was asked for by name was never called, or received no error.
    """
    backward = {signal for signal in asked if SIGNALS[signal].backward}
    names = {layer.name for layer in layers}
    found: dict[str, set[str]] = {}
    for call, signals in recorded.items():
        found.setdefault(call if call in names else call.rpartition("@")[0], set()).update(signals)
    silent = {
        layer: "is never called" if layer.name not in found else "receives no error"
        for layer in layers
        if layer.name not in found or (backward and not backward & found[layer.name])
    }
    for layer, why in silent.items():
        if layer.named:
            raise CaptureError(
                f"layer {layer.name!r} was asked for by name and {why} in {where}{_WHY[why]}; leave it out "
                "of layers=[...], or give a model and a loss that use it"
            )
    if silent:
        which = listed([f"{layer.name!r} {why}{_WHY[why]}" for layer, why in silent.items()], 4)
        warn_user(f"layers without signals in {where}: {which}. Name the layers to record in layers=[...]")


def warn_replaced(attrs: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Warn about the layers whose attribute ``no_modulator`` says why they have no modulator.

    Parameters
    ----------
    attrs : mapping of str to mapping
        The attributes of each call of a layer, by the call's name.
    where : str
        The name of the stream in the message.
    """
    without = {name: own["no_modulator"] for name, own in attrs.items() if "no_modulator" in own}
    for why in dict.fromkeys(without.values()):
        names = listed([repr(name) for name, reason in without.items() if reason == why], 4)
        warn_user(
            f"no modulator, error_post and gate null of {names} in {where}: {why}. Error and activation "
            "are recorded. Put the hook on the consumer, the layer that reads the gate's output, and let it "
            "return the credit without the gate (docs/adapters.md, pattern 8)"
        )


def warn_undrawn(model: nn.Module, name: str, redraws: int) -> None:
    """Warn that a probe redraws nothing in a model whose backward hooks may hold a feedback."""
    hooked = [repr(at or "(root)") for at, module in model.named_modules() if has_backward_hooks(module)]
    if hooked:
        warn_user(
            f"probe {name!r}: redraws={redraws} draws nothing, since no adapter knows a feedback to redraw. "
            f"The backward hooks of {listed(hooked, 4)} may send one: give adapters=(direct_hooks(...),) or "
            "a LayerAdapter for it (docs/adapters.md), or leave redraws out where they only read"
        )
