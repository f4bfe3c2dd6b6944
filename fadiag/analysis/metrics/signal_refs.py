"""Parse the signal names of metrics: ``error``, ``above/error``, ``first/activation``, ``static/feedback``.

=====================  =============================================================================
``<signal>``           of the same layer and stream, at each step
``state/<signal>``     of the state stream, at the same step
``static/<signal>``    of the static group, without steps
``above/<signal>``     of the next layer in forward order; ``above2/`` is the layer after it, and so on
``above*/<signal>``    of every layer above
``below/<signal>``     of the previous layer
``first/<signal>``     the stream's first record; it is the same for all steps
``recent/<signal>``    the last `WINDOW` records up to each step, as an axis ``window`` after the step
=====================  =============================================================================

Prefixes combine in the order layer, records, stream: ``above/state/weight``.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, cast

__all__ = ["WINDOW", "SignalRef", "parse"]

#: Number of records in the window of ``recent/<signal>``.
WINDOW = 10

Records = Literal["each", "first", "recent"]
OtherStream = Literal["", "state", "static"]

_GRAMMAR = re.compile(
    r"((?P<layer>below|above(?P<count>\d+|\*)?)/)?"
    r"((?P<records>first|recent)/)?"
    r"((?P<stream>state|static)/)?"
    r"(?P<signal>.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class SignalRef:
    """A reference to the signal that a metric reads: its layer, its records and its stream.

    Attributes
    ----------
    signal : str
        The array's name in its stream.
    stream : {"", "state", "static"}
        Where the array is stored; "" is the stream that the metric is measured on.
    records : {"each", "first", "recent"}
        One record per step, the very first record, or the last `WINDOW` records up to each step.
    above : int
        Number of layers above the metric's own layer; negative below it.
    every : bool
        Whether the reference is to all layers above.
    """

    signal: str
    stream: OtherStream = ""
    records: Records = "each"
    above: int = 0
    every: bool = False

    @property
    def name(self) -> str:
        """The name of the array in its layer: ``error``, ``state/weight``."""
        return f"{self.stream}/{self.signal}" if self.stream else self.signal

    def expanded(self, count: int) -> tuple["SignalRef", ...]:
        """Return one reference for each of the `count` layers above; a reference without ``above*`` as it is.

        If there is no layer above, the result still refers to the next one.

        Examples
        --------
        >>> [str(ref) for ref in parse("above*/weight").expanded(2)]
        ['above/weight', 'above2/weight']
        """
        if not self.every:
            return (self,)
        return tuple(replace(self, above=i, every=False) for i in range(1, max(1, count) + 1))

    def __str__(self) -> str:
        layer = "below/" if self.above < 0 else "above/" if self.above else ""
        if self.every or self.above > 1:
            layer = f"above{'*' if self.every else self.above}/"
        records = "" if self.records == "each" else f"{self.records}/"
        return f"{layer}{records}{self.name}"


@cache
def parse(text: str) -> SignalRef:
    """Parse a reference in the notation of the table of metrics.

    Examples
    --------
    >>> parse("above2/state/weight")
    SignalRef(signal='weight', stream='state', records='each', above=2, every=False)
    >>> parse("recent/update").records
    'recent'
    """
    found = _GRAMMAR.fullmatch(text)
    assert found is not None  # the signal's part matches any text
    layer, count = found["layer"], found["count"]
    above = 0 if layer is None else -1 if layer == "below" else 1 if count in (None, "*") else int(count)
    return SignalRef(
        signal=found["signal"],
        stream=cast(OtherStream, found["stream"] or ""),
        records=cast(Records, found["records"] or "each"),
        above=above,
        every=count == "*",
    )
