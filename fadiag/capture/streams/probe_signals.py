"""Run the passes of one probe reading and collect their signals and nulls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fadiag.capture.checks.probe_checks import ProbeChecks
from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.arrays import Array
from fadiag.capture.signals.layer_signals import LayerSignals, SignalTensor, batch_size
from fadiag.capture.signals.reduction import Auto, Reduction
from fadiag.capture.streams.call_signals import call_attrs, is_table, read_signal
from fadiag.capture.streams.gate_null import gate_null_absences
from fadiag.capture.streams.jacobian import jacobian_cosines
from fadiag.capture.streams.null_samples import SampleSelection
from fadiag.capture.streams.nulls import draw_nulls
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError
from fadiag.signals import TWINS, role_of, signal_of, under_feedback
from fadiag.store import Unfolding

__all__ = ["ProbeRequest", "read_signals"]

#: A pass under another backward rule, and the names under which its signals are recorded.
_Renamed = tuple[Trace, Mapping[str, str]]


@dataclass(frozen=True)
class ProbeRequest:
    """The signals and nulls that a probe reads; see `fadiag.Probe` for each entry."""

    signals: Sequence[str]
    redraws: int
    gate_draws: int
    jacobian_vectors: int
    feedbacks: Mapping[str, Mapping[str, Tensor]]
    unfolding: Unfolding


def read_signals(
    passes: Passes, request: ProbeRequest, reduce: Reduction, checks: ProbeChecks | None = None
) -> list[LayerSignals]:
    """Return the signals of every call of every layer, in forward order.

    Raises
    ------
    CaptureError
        The batch is empty, the nulls take too much memory, the Jacobian needs a last layer that is not
        recorded, or a check fails.
    """
    layers = passes.layers
    truth = passes.truth()
    is_true = passes.is_true(truth)
    redraws = request.redraws if truth else 0
    vectors = 0 if is_true else request.jacobian_vectors
    twins = {signal: twin for signal, twin in TWINS.items() if twin in request.signals}
    claims = bool(twins or redraws or vectors)  # whether a result refers to exact backpropagation
    checks = checks if claims or request.feedbacks else None
    is_checked = claims and checks is not None and checks.needs_errors
    exact = {"error", *twins} if redraws or vectors or is_checked else set(twins)
    wanted = set(request.signals) - set(TWINS.values())
    if is_true:  # the model has no feedback and no hooks, so its own pass is exact
        wanted |= exact
    wanted |= {"error"} if request.gate_draws or vectors else set()
    own = passes.run({}, wanted, keep_graph=bool(request.gate_draws or vectors))
    last = own.last or layers[-1]
    _check_last_layer(request, last, passes.others)
    if all(call.a_shape.numel() == 0 for call in own.calls):  # one expert may have no sample
        raise CaptureError("the batch is empty; give Probe a batch with at least one sample")
    if checks is not None:
        checks.check_adapters(passes, {name for given in request.feedbacks.values() for name in given})
    true, others = own, list[_Renamed]()
    if claims:
        if not is_true:
            true = passes.run(truth, exact, keep_graph=bool(vectors), hooks="none")
        others.append((true, twins))
    if is_checked and checks is not None:
        checks.check_errors(passes, true.calls)
    for label, matrices in request.feedbacks.items():
        names = {signal: under_feedback(signal, label) for signal in TWINS}
        others.append((passes.run(matrices, TWINS, hooks="feedback"), names))
    cosines: Mapping[str, Array] = {}
    if vectors:
        cosines = jacobian_cosines(
            (own.calls, partial(passes.under, {})),
            (true.calls, partial(passes.under, truth, hooks="none")),
            vectors,
            torch.Generator().manual_seed(passes.seed),
        )
    read = [_signals_of_call(call, request.signals, others, cosines) for call in own.calls]
    batch = batch_size(read, own.outputs) or own.calls[-1].a_shape[:1].numel()
    if isinstance(reduce, Auto):
        reduce.choose(read, batch)
    reduce.samples.tables = {call.name for call in own.calls if is_table(call)}
    selection = SampleSelection(reduce.samples, request.unfolding, batch)
    k = max(1, (last.outputs or layers[-1].outputs) - 1)  # the number of classes minus one
    absent = gate_null_absences(own) if request.gate_draws else {}
    counts = {"redraws": redraws, "gate_draws": request.gate_draws}
    nulls = draw_nulls(passes, own, true.calls, selection, k, absent=absent, **counts)
    found = []
    for call, signals in zip(own.calls, read, strict=True):
        arrays = reduce(call.name, signals, batch)
        for name, array in arrays.items():
            if signal_of(name).shape == "weight":  # a gradient sums over all samples
                arrays[name] = replace(array, attrs={**array.attrs, "samples": batch})
        arrays |= nulls.get(call.name, {})
        attrs = call_attrs(call, own)
        if call.name in absent:
            attrs["no_gate_null"] = absent[call.name]
        if request.redraws and not truth and not is_true:
            attrs["no_error_null"] = "no layer has a feedback to redraw"
        if checks is not None and claims:
            attrs |= checks.attrs(call)
            if checks.has_failed(call):
                arrays = {name: array for name, array in arrays.items() if not _needs_truth(name)}
        recorded, room = reduce.samples.recorded_of(batch), reduce.samples.room_of(call.name)
        found.append(LayerSignals(call.name, attrs, arrays, recorded, room))
    return found


def _needs_truth(array: str) -> bool:
    """Return whether an array comes from the exact pass or is compared with it."""
    role = role_of(array)
    name = "" if role.signal is None else role.signal.name
    against_twin = role.part == "cosine" and not role.feedback
    return name in {*TWINS.values(), "jacobian_cosine"} or role.null == "error_null" or against_twin


def _signals_of_call(
    call: Call, signals: Sequence[str], others: Sequence[_Renamed], cosines: Mapping[str, Array]
) -> dict[str, list[SignalTensor]]:
    """Return the signals of a call in all passes, each as a list of one micro-batch."""
    found = {name: [read_signal(name, call)] for name in signals if name in call.values}
    for trace, names in others:
        other = trace.call_named(call.name)
        if other is not None:
            found |= {new: [read_signal(name, other)] for name, new in names.items() if name in other.values}
    if call.name in cosines:
        found["jacobian_cosine"] = [SignalTensor(torch.from_numpy(cosines[call.name]), ("sample",))]
    return found


def _check_last_layer(request: ProbeRequest, last: RecordedLayer, others: Sequence[RecordedLayer]) -> None:
    """Raise CaptureError if the request needs the error of a last layer that is not recorded."""
    how = "with an adapter " if last.adapter is unknown_layers else ""
    if last in others and request.jacobian_vectors:
        raise CaptureError(
            f"jacobian_vectors needs the error of the model's last layer, {last.name!r}, which is not "
            f"recorded; add it to layers=[...] {how}or leave jacobian_vectors out"
        )
