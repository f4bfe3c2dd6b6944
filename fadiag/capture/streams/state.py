"""Choose the signals of the state stream: weights, feedback, gradients and updates."""

from collections.abc import Iterable, Sequence
from typing import Any

from fadiag.capture.arguments import names_of
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.streams.optimizer_steps import holders_of
from fadiag.errors import InputError
from fadiag.signals import SIGNALS, signals_of

__all__ = ["STATE_SIGNALS", "choose_state_signals", "why_absent", "why_impossible"]

#: The signals of the state stream. It holds the feedback only if the rule changes it.
STATE_SIGNALS = tuple(signal.name for signal in signals_of("state"))
#: Signals that an optimizer has only for its own parameters.
_OF_PARAMETERS = ("gradient", "momentum")


def choose_state_signals(
    asked: Iterable[str] | None, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]
) -> tuple[str, ...]:
    """Return the state signals to record: the requested ones, or all that can be recorded.

    Raises
    ------
    InputError
        A signal is unknown or needs an optimizer that was not given, or the optimizer holds none of the
        recorded weights.
    """
    holders = holders_of(optimizers)
    trained = [layer for layer in layers if any(p.requires_grad for p in layer.trained.values())]
    if optimizers and trained and not any(id(p) in holders for x in trained for p in x.trained.values()):
        raise InputError(
            f"the optimizer has none of the recorded weights ({trained[0].name!r}, ...), so its gradients "
            "and updates would not be theirs; build it from this model's parameters, or leave optimizer= out"
        )
    if asked is None:
        return tuple(s for s in STATE_SIGNALS if optimizers or not SIGNALS[s].needs_optimizer)
    chosen = names_of(asked)
    for signal in chosen:
        if signal not in STATE_SIGNALS:
            raise InputError(f"unknown state signal {signal!r}; there are {', '.join(STATE_SIGNALS)}")
        if SIGNALS[signal].needs_optimizer and not optimizers:
            raise InputError(
                f"state signal {signal!r} cannot be recorded without the optimizer; "
                "give Recorder(..., optimizer=optimizer)"
            )
        if (why := why_impossible(signal, optimizers, layers)) is not None:
            raise InputError(f"state signal {signal!r} would never be there: {why}; leave it out of state=")
    return chosen


def why_absent(signal: str, layer: RecordedLayer) -> str:
    """Return why the state stream never has a signal of one layer; "" if it may have it.

    A computed weight, such as that of weight norm, is never in the optimizer.
    """
    if not layer.parametrization or signal not in _OF_PARAMETERS:
        return ""
    names = " and ".join(layer.trained) or "buffers"
    return (
        f"{layer.parametrization} computes the weight of layer {layer.name!r} from {names}, and the "
        f"optimizer has the {signal} of these; a Probe records the gradient of the weight itself"
    )


def why_impossible(signal: str, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]) -> str | None:
    """Return why no record can hold a signal; None if only the first update can show it."""
    if signal == "feedback" and all(x.feedback_is_fixed for x in layers):
        return "no recorded layer's feedback changes (one that stays is in the static stream)"
    if all(why_absent(signal, layer) for layer in layers):
        return why_absent(signal, layers[0])
    if SIGNALS[signal].shape == "bias" and all(layer.bias is None for layer in layers):
        return "no recorded layer has a bias"
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if signal == "momentum" and all(g.get("momentum") == 0 and "betas" not in g for g in groups):
        return f"the momentum of {type(optimizers[0]).__name__} is 0, so it stores none"
    return None
