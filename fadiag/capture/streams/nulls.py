"""Draw the two null distributions of each layer's error: redrawn feedback and rotated credit."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.layer_signals import SignalArray
from fadiag.capture.streams.gate_null import draw_gate_nulls
from fadiag.capture.streams.null_draws import NullDraws, Reference
from fadiag.capture.streams.null_samples import SampleSelection
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError
from fadiag.signals import NULLS

__all__ = ["MOST_BYTES", "draw_nulls"]

#: The most bytes that the nulls of one record may take.
MOST_BYTES = 2**27
#: Two passes with the same feedback differ by less than this share of the effect of other feedback.
_SAME = 0.05


def draw_nulls(
    passes: Passes,
    own: Trace,
    truth: Sequence[Call],
    selection: SampleSelection,
    k: int,
    *,
    redraws: int,
    gate_draws: int,
    absent: Mapping[str, str],
) -> dict[str, dict[str, SignalArray]]:
    """Draw all nulls and return their arrays, by call.

    Parameters
    ----------
    passes : Passes
    own : Trace
        The model's own pass. Its graph is retained if there are gate draws.
    truth : sequence of Call
        The calls of the exact backward pass, if there are redraws.
    selection : SampleSelection
    k : int
        The number of leading directions in the overlap.
    redraws, gate_draws : int
    absent : mapping of str to str
        The reason for each call without a gate null, see `gate_null_absences`.

    Raises
    ------
    CaptureError
        The arrays would take more than `MOST_BYTES`.
    """
    with_error = [call for call in own.calls if "error" in call.values]
    true = {call.name: call for call in truth if "error" in call.values} if redraws else {}
    redrawn = {
        name: NullDraws(NULLS["error_null"], call, selection, redraws, Reference(call, selection, k))
        for name, call in true.items()
    }
    rotated = {
        call.name: NullDraws(NULLS["gate_null"], call, selection, gate_draws)
        for call in with_error
        if gate_draws and call.name not in absent
    }
    _check_size([*redrawn.values(), *rotated.values()])
    if rotated:
        draw_gate_nulls(passes, own, rotated)
    if redrawn:
        _redraw(passes, redrawn, redraws)
    found: dict[str, dict[str, SignalArray]] = {}
    for by_call in (redrawn, rotated):
        for name, draws in by_call.items():
            found[name] = found.get(name, {}) | draws.arrays()
    return found


def _check_size(draws: Sequence[NullDraws]) -> None:
    size = sum(one.nbytes for one in draws)
    if size > MOST_BYTES:
        raise CaptureError(
            f"the nulls of one record take {size / 2**20:.0f} MiB, and at most {MOST_BYTES / 2**20:.0f} are "
            "allowed; give Probe fewer redraws and gate_draws, fewer samples (rows=), or "
            "unfolding='channels', or record fewer layers"
        )


def _redraw(passes: Passes, draws: Mapping[str, NullDraws], count: int) -> None:
    """Draw the errors under fresh feedback, if possible by backward passes through one graph.

    The first pass puts our matrices into the layers. If the backward pass reads these matrices, new values in
    them give the next draw. The second draw is made in both ways. If the results differ, every draw is a
    whole pass.
    """
    generator = torch.Generator("cpu").manual_seed(passes.seed)
    held = _fresh(passes, generator)
    trace = passes.run(held, ("error",), keep_graph=True)
    # A layer whose inputs have no gradient sends no credit down. Its matrix is large, and nothing reads it.
    # Direct feedback to the layer itself is the exception.
    layers = {p.layer.name for p in trace.places if p.layer.sender is None or p.layer.credits_input}
    idle = layers - {place.layer.name for place in trace.places if place.inputs}
    first, again = _errors(trace), True
    _put(draws, 0, first)
    for draw in range(1, count):
        fresh = _fresh(passes, generator, idle)
        errors = _through(passes, trace, held, fresh) if again else None
        if errors is None or draw == 1:
            whole = _errors(passes.run(held | fresh, ("error",)))
            again = errors is not None and _alike(errors, whole, first)
            errors = whole
        _put(draws, draw, errors)


def _fresh(passes: Passes, generator: torch.Generator, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Return fresh feedback as new tensors, with the dtype and device of the layers' tensors."""
    drawn = passes.redrawn(generator, without=without)
    own = {
        layer.name: layer.weight if layer.sender is None else layer.sender.feedback
        for layer in (*passes.layers, *passes.others)
        if layer.name in drawn
    }
    return {name: matrix.detach().to(own[name], copy=True) for name, matrix in drawn.items()}


def _errors(trace: Trace) -> dict[str, Tensor]:
    return {call.name: call.values["error"] for call in trace.calls if "error" in call.values}


def _through(
    passes: Passes, trace: Trace, held: Mapping[str, Tensor], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Return the errors of a backward pass through a retained graph, with fresh values in its matrices.

    Return None if the graph cannot be used again.
    """
    for name, matrix in fresh.items():
        held[name].data.copy_(matrix)  # .data, because autograd refuses a saved tensor that it saw change
    calls = [call for call in trace.calls if "error" in call.values and call.a_edge is not None]
    assert trace.loss is not None
    with passes.under(held):
        edges = [call.a_edge for call in calls]
        try:
            errors = torch.autograd.grad(trace.loss, edges, retain_graph=True, allow_unused=True)  # type: ignore[arg-type]
        except Exception:
            # A rule's backward pass may run only once, or need state that the forward pass left in a module.
            # A whole pass comes next and raises any other error.
            return None
    if any(error is None for error in errors):
        return None
    return {call.name: error for call, error in zip(calls, errors, strict=True)}


def _alike(errors: Mapping[str, Tensor], whole: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> bool:
    """Return whether errors agree with those of a whole pass and not with those of the first draw."""

    def is_same(error: Tensor, expected: Tensor, other: Tensor) -> bool:
        rounding = 100 * torch.finfo(error.dtype).eps * expected.norm()
        return bool((error - expected).norm() <= _SAME * (expected - other).norm() + rounding)

    return errors.keys() == whole.keys() and all(
        is_same(error, whole[name], first[name]) for name, error in errors.items()
    )


def _put(draws: Mapping[str, NullDraws], draw: int, errors: Mapping[str, Tensor]) -> None:
    for name, error in errors.items():
        if name in draws:
            draws[name].put(draw, error)
