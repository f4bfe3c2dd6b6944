"""Choose the signals of the state stream: the weights, and what the optimizer does to them."""

from collections.abc import Iterable, Sequence
from typing import Any

from fadiag.capture.arguments import names_of
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.streams.optimizer_steps import holders_of
from fadiag.errors import InputError
from fadiag.signals import SIGNALS, signals_of

__all__ = ["STATE_SIGNALS", "choose_state_signals", "why_impossible"]

#: The signals of the state stream. Feedback is recorded here if the rule changes it.
STATE_SIGNALS = tuple(signal.name for signal in signals_of("state"))


def choose_state_signals(
    asked: Iterable[str] | None, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]
) -> tuple[str, ...]:
    """Return the state signals to record: those asked for, or all that can be recorded.

    Raises
    ------
    InputError
        An unknown signal, one that needs the optimizer without one, or an optimizer that holds none of the
        recorded weights.
    """
    holders = holders_of(optimizers)
    trained = [layer for layer in layers if layer.weight.requires_grad]
    if optimizers and trained and not any(id(layer.weight) in holders for layer in trained):
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


def why_impossible(signal: str, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]) -> str | None:
    """Return why no record can hold a signal; None if that is not known before the first update."""
    if signal == "feedback" and all(x.feedback_is_fixed for x in layers):
        return "no recorded layer's feedback changes (one that stays is in the static stream)"
    if SIGNALS[signal].shape == "bias" and all(layer.bias is None for layer in layers):
        return "no recorded layer has a bias"
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if signal == "momentum" and all(g.get("momentum") == 0 and "betas" not in g for g in groups):
        return f"the momentum of {type(optimizers[0]).__name__} is 0, so it keeps none"
    return None
