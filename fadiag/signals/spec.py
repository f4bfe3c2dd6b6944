"""Define the rows of the tables of signals, of parts of factored signals, and of nulls."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["NullSpec", "PartSpec", "Shape", "SignalSpec", "StreamKind"]

#: The streams that a signal may belong to.
StreamKind = Literal["probe", "live", "state", "static"]
#: The axes of a signal: those of the layer's output or input, of its weight or bias, the samples only, or no
#: axes.
Shape = Literal["output", "input", "weight", "bias", "sample", "scalar"]


@dataclass(frozen=True)
class SignalSpec:
    """One row of the table of signals.

    Parameters
    ----------
    name : str
        The array's name in the store.
    taken_at : str
        The place in the network or in the training step where the signal is read.
    streams : tuple of str
        The streams that may hold it.
    shape : str
        The kind of axes. With ``output`` and ``input`` the first axis is the samples. With ``weight`` the
        array is (out, in).
    definition : str
        One sentence, in the symbols of the documentation.
    twin : str
        The same signal under exact backpropagation; "" if it has none.
    backward : bool
        Whether a backward pass computes it. It is then scaled with the loss and may be missing.
    needs_gate : bool
        Whether it is recorded only if the layer's gate is known.
    needs_optimizer : bool
        Whether the state stream needs the optimizer to record it.
    optional : bool
        Whether a probe records it only on request.
    """

    name: str
    taken_at: str
    streams: tuple[StreamKind, ...]
    shape: Shape
    definition: str
    twin: str = ""
    backward: bool = False
    needs_gate: bool = False
    needs_optimizer: bool = False
    optional: bool = False

    @property
    def per_sample(self) -> bool:
        """Whether the first axis is the samples of the batch."""
        return self.shape in ("output", "input", "sample")


@dataclass(frozen=True)
class PartSpec:
    """A part of a factored signal that is stored next to the factor, under ``<signal>_<name>``."""

    name: str
    definition: str
    per_sample: bool = False


@dataclass(frozen=True)
class NullSpec:
    """A null, and the statistics of each draw that are stored under ``<null>_<statistic>``.

    Parameters
    ----------
    name, definition : str
    statistics : tuple of str
        Names from `NULL_STATISTICS`.
    draw_dim : str
        The name of the axis of the draws.
    prefix : str
        The prefix of ``null_low``, ``null_high``, ... in the names of the results.
    """

    name: str
    definition: str
    statistics: tuple[str, ...]
    draw_dim: str
    prefix: str = ""

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the stored arrays."""
        return tuple(f"{self.name}_{statistic}" for statistic in self.statistics)

    def dims(self, statistic: str) -> tuple[str, ...]:
        """Return the axes of the array with a statistic."""
        return (self.draw_dim, *(("null_value",) if statistic.startswith("spectrum") else ()))
