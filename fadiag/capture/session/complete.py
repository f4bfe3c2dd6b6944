"""Check at the end of a run that the live stream holds the requested signals."""

from collections.abc import Sequence

from fadiag.capture.layers.coverage import warn_missing_signals, warn_replaced
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.errors import CaptureError

__all__ = ["check_live_found"]


def check_live_found(
    live: StreamWriter, layers: Sequence[RecordedLayer], asked: Sequence[str], steps: int
) -> None:
    """Raise if the live stream has no record; warn about layers without the requested signals.

    Raises
    ------
    CaptureError
        The live stream has no record, or a layer that the user requested by name has no signal.
    """
    if steps > 0 and live.last_step is None:
        raise CaptureError(
            f"live recorded nothing: its schedule has none of this run's steps 0 to {steps - 1}; "
            "give Live(every=...) a schedule that has, or leave live= out (all else is in the store)"
        )
    if recorded := live.recorded:
        where = "the training's own passes (live)"
        warn_missing_signals(recorded, layers, asked, where)
        warn_replaced({name: live.attrs_of(name) for name in recorded}, where)
