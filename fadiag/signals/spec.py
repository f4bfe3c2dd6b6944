"""What a row of the tables says: of a signal, of a part beside its factor, and of a null."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["NullSpec", "PartSpec", "Shape", "SignalSpec", "StreamKind"]

#: The streams that a signal may belong to.
StreamKind = Literal["probe", "live", "state", "static"]
#: What the axes of a signal are: those of the layer's output or input, of its weight or bias, of the samples
#: alone, or none.
Shape = Literal["output", "input", "weight", "bias", "sample", "scalar"]


@dataclass(frozen=True)
class SignalSpec:
    """One row of the table.

    Parameters
    ----------
    name : str
        The array's name in the store.
    taken_at : str
        The place in the network or in the training step.
    streams : tuple of str
        The streams that may hold it.
    shape : str
        What its axes are. With ``output`` and ``input`` the first axis is the samples, with ``weight`` the
        array is (out, in).
    definition : str
        One sentence, in the symbols of the documentation.
    twin : str
        The same signal under exact backpropagation; "" if it has none.
    backward : bool
        Whether a backward pass makes it, so that it is scaled with the loss and may be missing.
    needs_gate : bool
        Whether it is known only where the layer's gate is known.
    needs_optimizer : bool
        Whether the state stream needs the optimizer for it.
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
    """What is stored beside the factor of a signal, under ``<signal>_<name>``."""

    name: str
    definition: str
    per_sample: bool = False


@dataclass(frozen=True)
class NullSpec:
    """What is stored of each draw of a null, under ``<null>_<statistic>``.

    Parameters
    ----------
    name, definition : str
    statistics : tuple of str
        Names from `NULL_STATISTICS`.
    draw_dim : str
        The name of the axis of the draws.
    prefix : str
        What precedes ``null_low``, ``null_high``, ... in the names of the results.
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
