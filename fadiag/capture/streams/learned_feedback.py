"""Check that the optimizer updates a learned feedback matrix as it updates the weight."""

from collections.abc import Iterable
from typing import Any

from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.errors import CaptureError

__all__ = ["check_learned_feedback"]

#: Entries of a parameter group that list its parameters; all others are settings.
_CONTENTS = frozenset({"params", "param_names"})


def check_learned_feedback(layers: Iterable[RecordedLayer], optimizers: Iterable[Any]) -> None:
    """Raise if a learned B is not updated as its weight is.

    B and W have the same gradient. So B approaches W only if one kind of optimizer updates both with the same
    settings. A weight that is in no optimizer is not checked.

    Parameters
    ----------
    layers : iterable of RecordedLayer
    optimizers : iterable of optimizers

    Raises
    ------
    CaptureError
        B is in no parameter group, or its group has other settings than the weight's.
    """
    held = {
        id(parameter): (optimizer, group)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for layer in layers:
        if not layer.adapter.feedback_is_learned(layer.module) or id(layer.weight) not in held:
            continue
        optimizer, group = held[id(layer.weight)]
        whose = f"the learned feedback B of layer {layer.name!r}"
        if id(layer.feedback) not in held:
            raise CaptureError(
                f"{whose} is in no parameter group, while its weight is in one of "
                f"{type(optimizer).__name__}, so B would not follow the weight; convert the model before the "
                "optimizer is built, and give the optimizer model.parameters()"
            )
        other, settings = held[id(layer.feedback)]
        names = sorted({*group, *settings} - _CONTENTS)
        differ = [name for name in names if not bool(group.get(name) == settings.get(name))]
        if type(other) is not type(optimizer) or differ:
            both = [name for name in differ if name in group and name in settings]
            what = ", ".join(f"{name} {settings[name]!r} for {group[name]!r}" for name in both)
            raise CaptureError(
                f"{whose} is updated by {type(other).__name__}, its weight by {type(optimizer).__name__}"
                + (f", with {what}" if what else "")
                + "; put both into one parameter group"
            )
