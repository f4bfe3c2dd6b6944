"""Describe which signals of the training batches to record, and when."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from fadiag.capture.arguments import call_text, names_of
from fadiag.capture.signals.reduction import Reduction, ReductionName, reduction_of
from fadiag.capture.signals.samples import Rows
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.errors import CaptureError, InputError
from fadiag.signals import TWINS, signals_of
from fadiag.store import Unfolding

__all__ = ["LIVE_SIGNALS", "Live", "check_live"]

#: The signals that can be recorded live.
LIVE_SIGNALS = tuple(signal.name for signal in signals_of("live"))


@dataclass(frozen=True, init=False, repr=False)
class Live:
    """Record signals of the training batches.

    The micro-batches of a step are its forward passes with a backward pass to a recorded weight. If a step
    has no such pass, all passes with a backward pass count. The recorder concatenates their samples. If a
    step has fewer samples than the first, the record is padded with NaN, and the coordinate ``rows_valid``
    holds the number of samples. If it has more, the surplus is left out, with a warning.

    Parameters
    ----------
    signals : iterable of str
        Names from `LIVE_SIGNALS`.
    every : int, iterable of int, or callable
        The schedule, see `fadiag.capture.as_schedule`.
    reduction, unfolding, rows
        How much of the signals is stored, see `Probe`.

    Raises
    ------
    InputError
        A signal that cannot be recorded live, with the reason.

    Examples
    --------
    >>> Live(["error"], every=10)
    Live(('error',), every=10)
    >>> Live(["error_bp"])
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: 'error_bp' cannot be recorded live: the training batch goes backward once, by \
the model's own rule; record it with a Probe
    """

    signals: tuple[str, ...]
    schedule: Schedule
    reduction: ReductionName
    unfolding: Unfolding
    rows: Rows

    def __init__(
        self,
        signals: Iterable[str] = ("activation", "modulator", "error"),
        *,
        every: int | Iterable[int] | Schedule = 50,
        reduction: ReductionName = "auto",
        unfolding: Unfolding = "samples",
        rows: Rows = None,
    ) -> None:
        chosen = names_of(signals)
        for signal in chosen:
            if signal in TWINS.values():
                raise InputError(
                    f"{signal!r} cannot be recorded live: the training batch goes backward once, by the "
                    "model's own rule; record it with a Probe"
                )
            if signal not in LIVE_SIGNALS:
                raise InputError(f"unknown live signal {signal!r}; there are {', '.join(LIVE_SIGNALS)}")
        object.__setattr__(self, "signals", chosen)
        object.__setattr__(self, "schedule", as_schedule(every))
        object.__setattr__(self, "reduction", reduction)
        object.__setattr__(self, "unfolding", unfolding)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "_every", every)
        self.reduce()  # raises InputError here, and not first in the recorder

    def __repr__(self) -> str:
        how = {"reduction": self.reduction, "unfolding": self.unfolding, "rows": self.rows}
        return call_text(Live.__init__, [repr(self.signals)], {"every": vars(self)["_every"], **how})

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes of its stream in the store."""
        how = {"reduction": self.reduction, "unfolding": self.unfolding}
        return {"kind": "live", "loss_reduction": "as trained", **how}

    def reduce(self) -> Reduction:
        """Return a new reduction for one run."""
        return reduction_of(self.reduction, self.unfolding, self.rows)


def check_live(model: nn.Module, live: Live | None) -> None:
    """Raise if the signals of a model's own passes cannot be recorded."""
    if live is None:
        return
    if not isinstance(live, Live):
        raise InputError(f"live is a {type(live).__name__}; give a fadiag.capture.Live")
    if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
        raise CaptureError(
            "live signals of a compiled model cannot be recorded: hooks attached after compiling never fire; "
            "train the model uncompiled, or use probes, which run the module inside"
        )
