"""ProbeChecks runs the checks of a probe, and raises, warns or leaves out wrong signals when one fails."""

from collections.abc import Collection, Sequence
from math import isfinite
from typing import Any, Literal

from fadiag.capture.checks.adapter_check import check_effects
from fadiag.capture.checks.error_check import ErrorCheck, check_errors
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.passes import Passes
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.warn import warn_user
from fadiag.errors import CaptureError
from fadiag.rules.left_out import listed

__all__ = ["CheckMode", "ProbeChecks"]

#: The effect of a failed check.
CheckMode = Literal["raise", "warn", "off"]

#: The most calls that one reading checks. Each group of 7 takes 10 passes, and a deep model has long passes.
_MOST_CALLS = 126


class ProbeChecks:
    """Runs the checks of one probe, and stores their results.

    Parameters
    ----------
    mode : {"raise", "warn", "off"}

    Attributes
    ----------
    is_due : bool
        Whether the probe checks its next reading.
    may_raise : bool
        Whether a failure may raise. Once the training runs, a failure only warns.
    """

    def __init__(self, mode: CheckMode) -> None:
        self.mode = mode
        self.is_due = True
        self.may_raise = True
        self._found: dict[str, ErrorCheck] = {}
        self._failed: list[RecordedLayer] = []

    @property
    def needs_errors(self) -> bool:
        """Whether the next reading needs the errors of the exact pass."""
        waits = any(found.verdict == "zero" for found in self._found.values())
        return self.mode != "off" and (self.is_due or waits)

    def check_adapters(self, passes: Passes, named: Collection[str]) -> None:
        """Check that ``using`` has an effect on the layers that have a feedback and on those in ``named``.

        Raises
        ------
        CaptureError
            An adapter's ``using`` has no effect, or its effect remains after the context.
        """
        chosen = [
            layer
            for layer in (*passes.layers, *passes.others)
            if layer.adapter.feedback_kind not in ("exact", "altered", "unknown") or layer.name in named
            if layer.sender is None and not layer.adapter.is_direct  # link_senders checks those
        ]
        if self.mode == "off" or not self.is_due or not chosen:
            return
        try:
            check_effects(passes, chosen)
        except CaptureError as error:
            if self.mode == "raise" and self.may_raise:
                raise
            warn_user(str(error))

    def check_errors(self, passes: Passes, calls: Sequence[Call]) -> None:
        """Check the errors of the exact pass: all of them, or those that were 0 and no longer are.

        If there are more than `_MOST_CALLS` calls, the check takes an even selection, unchecked calls first.
        The first check warns of the calls that it leaves unchecked.

        Raises
        ------
        CaptureError
            An error is not the derivative of the loss.
        """
        if not self.needs_errors:
            return
        chosen = [
            call
            for call in calls
            if not self.has_failed(call) and (self.is_due or self._is_no_longer_zero(call))
        ]
        if not chosen:
            return
        has_unchecked = len(chosen) > _MOST_CALLS and not self._found
        if len(chosen) > _MOST_CALLS:
            new = [call for call in chosen if call.name not in self._found] or chosen
            count = min(_MOST_CALLS, len(new))
            chosen = [new[i * (len(new) - 1) // max(1, count - 1)] for i in range(count)]
        failed, unclear = dict[str, ErrorCheck](), list[str]()
        for call, found in check_errors(passes, chosen):
            if found.verdict == "failed":
                if self.mode == "raise" and self.may_raise:
                    raise CaptureError(_failure(call.name, found))
                failed[call.name] = found
                self._failed.append(call.layer)
            elif found.verdict == "inconclusive":
                unclear.append(call.name)
            self._found[call.name] = found
        if failed:
            name, found = next(iter(failed.items()))
            warn_user(
                f"{_failure(name, found)}. Left out from now on: error_bp, modulator_bp and gradient_bp of "
                f"{listed(map(repr, failed), 4)}"
            )
        if unclear:
            where = listed(map(repr, unclear), 4)
            warn_user(
                f"the check cannot decide whether error_bp is the derivative of the loss at {where}: "
                "equal passes give different losses, the loss is too coarse for the step, or it has a kink "
                "there; the attribute error_bp_check says 'inconclusive'"
            )
        if has_unchecked:
            self._warn_unchecked(calls)

    def has_failed(self, call: Call) -> bool:
        """Return whether the error_bp of a call, or of a call with the same weight, is known to be wrong.

        The calls share the weight's gradient, which is wrong if any of their errors is wrong.
        """
        return any(call.layer is other or call.layer.weight_id == other.weight_id for other in self._failed)

    def attrs(self, call: Call) -> dict[str, Any]:
        """Return the attributes of the check for the store, with the figures if there are any."""
        if self.mode == "off":
            return {"error_bp_check": "off"}
        found = self._found.get(call.name)
        if self.has_failed(call):
            own = found is not None and found.verdict == "failed"
            found = found if own else ErrorCheck("failed")
        if found is None:
            return {"error_bp_check": "unchecked"}
        figures = {"along": found.along, "random": found.random}
        return {
            "error_bp_check": found.verdict,
            **{f"error_bp_check_{name}": x for name, x in figures.items() if isfinite(x)},
            **({"feedback_kind": "unknown"} if found.verdict == "failed" else {}),
        }

    def _warn_unchecked(self, calls: Sequence[Call]) -> None:
        unchecked = [call for call in calls if self.attrs(call)["error_bp_check"] == "unchecked"]
        if unchecked:
            warn_user(
                f"error_bp is checked at {len(self._found)} of {len(calls)} calls of layers, since the check "
                f"of a deep model takes long; the attribute error_bp_check of {len(unchecked)} calls says "
                "'unchecked'. Probe(check_every=...) checks more of them at later readings"
            )

    def _is_no_longer_zero(self, call: Call) -> bool:
        found, error = self._found.get(call.name), call.values.get("error")
        return found is not None and found.verdict == "zero" and error is not None and bool(error.any())


def _failure(name: str, found: ErrorCheck) -> str:
    return (
        f"error_bp of layer {name!r} is not the derivative of the loss. Along it the loss changes by "
        f"{found.along:.3g} of what it should (1 where right); along random directions it is off by "
        f"{found.random:.2g} |error_bp| (0 where right). Something between this layer and the loss has a "
        "backward pass that is not autograd's and that no adapter knows, or cuts the graph (detach). Give "
        "adapters=(LayerAdapter(...),) for it, leave the layer out by layers=[...], or give check='warn' "
        "(its error_bp, modulator_bp and gradient_bp are left out, its feedback_kind is 'unknown') or "
        "check='off'"
    )
