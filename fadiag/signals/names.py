"""Build and parse the names of stored arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

from fadiag.signals.spec import SignalSpec
from fadiag.signals.table import NULLS, PARTS, SIGNALS, TWINS

__all__ = [
    "SignalRole",
    "is_batch_sum",
    "is_free_label",
    "nulls_of",
    "part_of",
    "role_of",
    "signal_of",
    "under_feedback",
]


@dataclass(frozen=True)
class SignalRole:
    """The meaning of a stored array: a signal, a part of a factored signal, or a statistic of a null.

    Attributes
    ----------
    signal : SignalSpec or None
        The signal that the array holds or belongs to; None if the name is not in the table.
    part : str
        The part of a factored signal; "" for the signal itself.
    null : str
        The null whose draws the array holds; "" if it holds none.
    statistic : str
        The statistic of that null.
    feedback : str
        The label of other backward matrices (``Probe(feedbacks=...)``); "" for the model's own rule.
    """

    signal: SignalSpec | None
    part: str = ""
    null: str = ""
    statistic: str = ""
    feedback: str = ""


def part_of(signal: str, part: str) -> str:
    """Return the name of the array with a part of a factored signal.

    Examples
    --------
    >>> part_of("error", "norm")
    'error_norm'
    """
    return f"{signal}_{PARTS[part].name}"


def role_of(array: str) -> SignalRole:
    """Return the role of a stored array from its name.

    Examples
    --------
    >>> role_of("error_bp_norm").signal.name, role_of("error_bp_norm").part
    ('error_bp', 'norm')
    >>> role_of("error_null_overlap").statistic
    'overlap'
    >>> role = role_of("gradient_mine")
    >>> role.signal.name, role.feedback
    ('gradient', 'mine')
    >>> role_of("loss").signal is None
    True
    """
    if array in SIGNALS:
        return SignalRole(SIGNALS[array])
    for null in NULLS.values():
        for statistic, name in zip(null.statistics, null.arrays, strict=True):
            if name == array:
                return SignalRole(SIGNALS["error"], null=null.name, statistic=statistic)
    for signal, part in _with_parts(array):
        if signal in SIGNALS:
            return SignalRole(SIGNALS[signal], part=part)
        base, _, label = signal.partition("_")
        if label and base in SIGNALS and SIGNALS[base].twin:
            return SignalRole(SIGNALS[base], part=part, feedback=label)
    return SignalRole(None)


def _with_parts(array: str) -> Iterator[tuple[str, str]]:
    """Yield each way to split a name into a signal and a part, the longest part first."""
    for part in sorted(PARTS, key=len, reverse=True):
        if array.endswith(f"_{part}"):
            yield array.removesuffix(f"_{part}"), part
    yield array, ""


def nulls_of(signal: str, statistic: str) -> dict[str, str]:
    """Return the names of the arrays with a statistic of a signal's nulls, by null.

    Examples
    --------
    >>> nulls_of("error", "fourth_raw")
    {'error_null': 'error_null_fourth_raw', 'gate_null': 'gate_null_fourth_raw'}
    >>> nulls_of("modulator", "cosine")
    {}
    """
    roles = {array: role_of(array) for null in NULLS.values() for array in null.arrays}
    return {
        role.null: array
        for array, role in roles.items()
        if role.signal is SIGNALS.get(signal) and role.statistic == statistic
    }


def is_batch_sum(array: str) -> bool:
    """Return whether an array is a sum over the whole batch, such as a gradient.

    Examples
    --------
    >>> is_batch_sum("gradient_bp"), is_batch_sum("gradient_mine"), is_batch_sum("weight")
    (True, True, False)
    """
    signal = role_of(array).signal
    return signal is not None and signal.shape == "weight" and "probe" in signal.streams


def signal_of(array: str) -> SignalSpec:
    """Return the signal that a stored array holds or belongs to.

    Raises
    ------
    KeyError
        The name is not in the table.

    Examples
    --------
    >>> signal_of("modulator_bp_norm").name
    'modulator_bp'
    """
    signal = role_of(array).signal
    if signal is None:
        raise KeyError(array)
    return signal


def under_feedback(signal: str, label: str) -> str:
    """Return the name of a signal under other backward matrices, ``Probe(feedbacks={label: ...})``.

    Examples
    --------
    >>> under_feedback("error", "mine")
    'error_mine'
    """
    return f"{signal}_{label}"


def is_free_label(label: str) -> bool:
    """Return whether `role_of` finds the label again in every array name that contains it.

    Examples
    --------
    >>> is_free_label("mine"), is_free_label("bp"), is_free_label("norm")
    (True, False, False)
    """
    signals = [under_feedback(signal, label) for signal in TWINS]
    arrays = [*signals, *(part_of(signal, part) for signal in signals for part in PARTS)]
    return all(role_of(array).feedback == label for array in arrays)
