"""The table of signals: every array that a run can hold, where it is taken, and what it means.

The recorder, the analysis and the documentation read this table. To add a signal, add a row here, take it in
`fadiag.capture`, and test it. Nothing else takes a signal's name apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "NULLS",
    "NULL_STATISTICS",
    "PARTS",
    "SIGNALS",
    "TWINS",
    "NullSpec",
    "PartSpec",
    "SignalRole",
    "SignalSpec",
    "StreamKind",
    "is_batch_sum",
    "is_free_label",
    "nulls_of",
    "part_of",
    "role_of",
    "signal_of",
    "signals_of",
    "under_feedback",
]

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


@dataclass(frozen=True)
class SignalRole:
    """What a stored array is: a signal, a part beside its factor, or a statistic of a null.

    Attributes
    ----------
    signal : SignalSpec or None
        The signal that the array is, or belongs to; None if the table does not know the name.
    part : str
        The part of a factored signal; "" for the signal itself.
    null : str
        The null whose draws it holds; "" otherwise.
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


def _table(*rows: SignalSpec) -> Mapping[str, SignalSpec]:
    return MappingProxyType({row.name: row for row in rows})


_PASSES: tuple[StreamKind, ...] = ("probe", "live")
_PROBE: tuple[StreamKind, ...] = ("probe",)
_STATE: tuple[StreamKind, ...] = ("state",)
_STATIC: tuple[StreamKind, ...] = ("static",)

#: All signals by name, in the order in which they are documented.
SIGNALS: Mapping[str, SignalSpec] = _table(
    SignalSpec(
        "activation",
        "the output of the layer's gate",
        _PASSES,
        "output",
        "h_l = phi(norm_l(a_l)), what the layer hands to the next one",
        needs_gate=True,
    ),
    SignalSpec(
        "modulator",
        "the output of the layer's gate, in the backward pass",
        _PASSES,
        "output",
        "dL/dh_l, the credit that the layer receives before its gate",
        twin="modulator_bp",
        backward=True,
        needs_gate=True,
    ),
    SignalSpec(
        "error_post",
        "the input of the layer's gate, in the backward pass",
        _PASSES,
        "output",
        "dL/dz_l = modulator * phi'(z_l), the error behind the norm",
        backward=True,
        needs_gate=True,
    ),
    SignalSpec(
        "error",
        "the layer's output, in the backward pass",
        _PASSES,
        "output",
        "delta_l = dL/da_l, the error that makes the layer's gradient",
        twin="error_bp",
        backward=True,
    ),
    SignalSpec(
        "error_bp",
        "the layer's output, in the exact backward pass",
        _PROBE,
        "output",
        "delta_l with W^T in the place of B, on the same batch, weights and masks",
        backward=True,
    ),
    SignalSpec(
        "modulator_bp",
        "the output of the layer's gate, in the exact backward pass",
        _PROBE,
        "output",
        "dL/dh_l with W^T in the place of B, on the same batch, weights and masks",
        backward=True,
        needs_gate=True,
    ),
    SignalSpec(
        "gradient",
        "the layer's weight: after a probe's backward pass, or as the optimizer receives it",
        ("probe", "state"),
        "weight",
        "G_l = delta_l^T h_(l-1)",
        twin="gradient_bp",
        needs_optimizer=True,
    ),
    SignalSpec(
        "gradient_bp",
        "the layer's weight, after the exact backward pass",
        _PROBE,
        "weight",
        "G_l made of error_bp",
    ),
    SignalSpec(
        "input",
        "the layer's input",
        _PASSES,
        "input",
        "h_(l-1), what the layer receives",
        optional=True,
    ),
    SignalSpec(
        "jacobian_cosine",
        "the output of the layer's gate",
        _PROBE,
        "sample",
        "cosine of the two backward maps from the outputs to h_l, with B and with W^T, of each sample",
        optional=True,
    ),
    SignalSpec("weight", "the layer, before the update", _STATE, "weight", "W_l"),
    SignalSpec("bias", "the layer, before the update", _STATE, "bias", "b_l"),
    SignalSpec(
        "feedback",
        "the layer: once if it is fixed, with each record if the rule changes it",
        ("state", "static"),
        "weight",
        "B_l, which takes the place of W_l in the backward pass; under a direct rule F_l, from the network's "
        "outputs to the input of the layer's consumer",
    ),
    SignalSpec(
        "momentum",
        "the optimizer's own buffer",
        _STATE,
        "weight",
        "the running mean of the gradient that the optimizer keeps",
        needs_optimizer=True,
    ),
    SignalSpec(
        "update",
        "the layer, after the update",
        _STATE,
        "weight",
        "W_l after the optimizer's step, less W_l before it",
        needs_optimizer=True,
    ),
    SignalSpec(
        "bias_update",
        "the layer, after the update",
        _STATE,
        "bias",
        "b_l after the optimizer's step, less b_l before it",
        needs_optimizer=True,
    ),
    SignalSpec(
        "update_rounding_floor",
        "the layer, after the update",
        _STATE,
        "scalar",
        "the share of the update that is rounding of the weight it was taken from",
        needs_optimizer=True,
    ),
    SignalSpec("weight_init", "the layer, at the start of the run", _STATIC, "weight", "W_l at step 0"),
    SignalSpec("bias_init", "the layer, at the start of the run", _STATIC, "bias", "b_l at step 0"),
)

#: What stands beside the factor of a signal, by name.
PARTS: Mapping[str, PartSpec] = MappingProxyType(
    {
        part.name: part
        for part in (
            PartSpec("norm", "the norm of each sample", per_sample=True),
            PartSpec("cosine", "the cosine of each sample with the signal's twin", per_sample=True),
            PartSpec(
                "row_moments",
                "the number of rows, and the sums of |x_i|^2, |x_i|^4 and |x_i - mean|^4 over them",
            ),
            PartSpec("row_normalized", "the factor of the rows at length one"),
            PartSpec("spectrum_raw", "the singular values"),
            PartSpec("spectrum_centered", "the singular values of the rows less their mean"),
        )
    }
)

#: What may be stored of each draw of a null. X has the unfolded error's rows x_i.
NULL_STATISTICS: Mapping[str, str] = MappingProxyType(
    {
        "spectrum_raw": "the singular values of X",
        "spectrum_centered": "the singular values of X less its mean row",
        "fourth_raw": "sum |x_i|^4",
        "fourth_centered": "sum |x_i|^4 of the rows less their mean",
        "cosine": "the cosine with the true error, mean over samples",
        "overlap": "the overlap with the true error's leading right subspace",
    }
)
_SPECTRAL = ("spectrum_raw", "spectrum_centered", "fourth_raw", "fourth_centered")

#: The nulls whose draws are recorded, by name.
NULLS: Mapping[str, NullSpec] = MappingProxyType(
    {
        null.name: null
        for null in (
            NullSpec(
                "error_null",
                "the error under freshly drawn feedback of the same law, on the same weights and batch",
                (*_SPECTRAL, "cosine", "overlap"),
                "draw",
            ),
            NullSpec(
                "gate_null",
                "the error with each consumer's credit rotated at its input: B R in the place of B, R Haar",
                _SPECTRAL,
                "gate_draw",
                prefix="gate_",
            ),
        )
    }
)


def signals_of(stream: StreamKind) -> tuple[SignalSpec, ...]:
    """Return the signals that a kind of stream may hold.

    Examples
    --------
    >>> [signal.name for signal in signals_of("static")]
    ['feedback', 'weight_init', 'bias_init']
    """
    return tuple(signal for signal in SIGNALS.values() if stream in signal.streams)


def part_of(signal: str, part: str) -> str:
    """Return the name under which a part stands beside a signal's factor.

    Examples
    --------
    >>> part_of("error", "norm")
    'error_norm'
    """
    return f"{signal}_{PARTS[part].name}"


def role_of(array: str) -> SignalRole:
    """Return what a stored array is, by its name.

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
    """Yield the ways to read a name as a signal and a part of it; the longest part comes first."""
    for part in sorted(PARTS, key=len, reverse=True):
        if array.endswith(f"_{part}"):
            yield array.removesuffix(f"_{part}"), part
    yield array, ""


def nulls_of(signal: str, statistic: str) -> dict[str, str]:
    """Return the arrays with a statistic of a signal's nulls, by the name of the null.

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
        if role.signal is SIGNALS[signal] and role.statistic == statistic
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


#: The twin under exact backpropagation of each signal that has one.
TWINS: Mapping[str, str] = MappingProxyType({row.name: row.twin for row in SIGNALS.values() if row.twin})


def signal_of(array: str) -> SignalSpec:
    """Return the signal that a stored array is, or belongs to.

    Raises
    ------
    KeyError
        The table does not know the name.

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
    """Return whether `role_of` reads a label back from each array that is named by it.

    Examples
    --------
    >>> is_free_label("mine"), is_free_label("bp"), is_free_label("norm")
    (True, False, False)
    """
    signals = [under_feedback(signal, label) for signal in TWINS]
    arrays = [*signals, *(part_of(signal, part) for signal in signals for part in PARTS)]
    return all(role_of(array).feedback == label for array in arrays)
