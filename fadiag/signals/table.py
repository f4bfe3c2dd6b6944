"""List all signals, all parts of factored signals, and all nulls, one row for each."""

from collections.abc import Mapping
from types import MappingProxyType

from fadiag.signals.spec import NullSpec, PartSpec, SignalSpec, StreamKind

__all__ = ["NULLS", "NULL_STATISTICS", "PARTS", "SIGNALS", "TWINS", "signals_of"]


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
        "outputs to the input of the layer's consumer, or across a skip to its own input",
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

#: The parts that are stored next to the factor of a signal, by name.
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

#: The statistics that may be stored for each draw of a null. X is the unfolded error, with rows x_i.
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

#: The twin under exact backpropagation of each signal that has one.
TWINS: Mapping[str, str] = MappingProxyType({row.name: row.twin for row in SIGNALS.values() if row.twin})


def signals_of(stream: StreamKind) -> tuple[SignalSpec, ...]:
    """Return the signals that a kind of stream may hold.

    Examples
    --------
    >>> [signal.name for signal in signals_of("static")]
    ['feedback', 'weight_init', 'bias_init']
    """
    return tuple(signal for signal in SIGNALS.values() if stream in signal.streams)
