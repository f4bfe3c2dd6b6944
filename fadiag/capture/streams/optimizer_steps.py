"""OptimizerStepMonitor counts optimizer steps and reports when the gradients of a step are ready."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.errors import CaptureError, InputError

__all__ = ["OptimizerStepMonitor", "as_optimizers", "holders_of"]

_ONCE = "call recorder.step() once after each optimizer.step()"


def as_optimizers(given: Any) -> list[Any]:
    """Return the given optimizers as a list; none, one or a sequence may be given.

    Raises
    ------
    InputError
        One of them is not an optimizer.
    """
    if given is None:
        return []
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    for optimizer in found:
        if not hasattr(optimizer, "register_step_pre_hook"):
            raise InputError(f"optimizer is a {type(optimizer).__name__}; give a torch.optim.Optimizer")
    return found


def holders_of(optimizers: Iterable[Any]) -> dict[int, list[Any]]:
    """Return the optimizers that hold each parameter, by the parameter's id."""
    holders: dict[int, list[Any]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                holders.setdefault(id(parameter), []).append(optimizer)
    return holders


class OptimizerStepMonitor:
    """Counts the steps of optimizers between `start` and `stop`.

    Parameters
    ----------
    optimizers : sequence of optimizers
    on_gradients : callable
        Called with an optimizer when its gradients are ready and its weights are still the old ones. That is
        before its step, and again after the first evaluation of a closure, which computes the gradients.
    """

    def __init__(self, optimizers: Sequence[Any], on_gradients: Callable[[Any], None]) -> None:
        self._optimizers = optimizers
        self._on_gradients = on_gradients
        self._handles: list[Any] = []
        self._begun: Counter[int] = Counter()

    def start(self) -> None:
        """Attach the hooks and start to count from 0."""
        self.stop()
        self._begun.clear()
        self._handles = [o.register_step_pre_hook(self._on_step) for o in self._optimizers]

    def stop(self) -> None:
        """Remove the hooks and leave the counts as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def check(
        self, step: int, updates: Sequence[tuple[RecordedLayer, Sequence[Tensor]]], *, first: bool
    ) -> None:
        """Raise if the layers' optimizers did not step exactly once.

        An optimizer may skip a step, as a GradScaler makes it do, or one of two may wait for the other. Its
        weights must then not change.

        Parameters
        ----------
        step : int
        updates : sequence of (RecordedLayer, sequence of Tensor)
            The change of each layer's weight, or of the parameters that compute it.
        first : bool
            Whether this is the first recorded update. If gradients exist then and no optimizer stepped,
            ``recorder.step()`` was called too early.

        Raises
        ------
        CaptureError
            No optimizer stepped, or one stepped more than once.
        """
        holders = self._holders([layer for layer, _ in updates])
        for optimizer in {id(o): o for held in holders for o in held}.values():
            if (times := self._times(optimizer)) > 1:
                raise CaptureError(
                    f"{type(optimizer).__name__} stepped {times} times at step {step}, between two calls of "
                    f"recorder.step(), so no single gradient belongs to the update; {_ONCE}"
                )
        for (layer, changes), own in zip(updates, holders, strict=True):
            if own and not any(map(self._has_stepped, own)) and any(change.any() for change in changes):
                raise CaptureError(
                    f"the weight of layer {layer.name!r} changed at step {step}, but the "
                    f"{type(own[0]).__name__} that the recorder has for it did not step; give it the "
                    "optimizer that steps (the inner one if one wraps another; a new one goes to a new "
                    f"Recorder with if_exists='resume'), and {_ONCE}"
                )
        if first and not any(map(self._has_stepped, self._optimizers)) and _are_ready(self._optimizers):
            raise CaptureError(
                f"the gradients of step {step} are there, but no optimizer stepped before recorder.step(); "
                f"{_ONCE}, not before it and not after each of the batches that are accumulated"
            )

    def check_none(self, step: int, layers: Sequence[RecordedLayer]) -> None:
        """Raise if an optimizer that holds the layers' weights has stepped.

        Raises
        ------
        CaptureError
            ``recorder.step()`` was not called after the update.
        """
        for optimizer in (o for held in self._holders(layers) for o in held):
            if self._has_stepped(optimizer):
                raise CaptureError(
                    f"{type(optimizer).__name__} stepped after the last recorder.step(), so the update of "
                    f"step {step} is missing: a call was left out, or each came before its update; {_ONCE}"
                )

    def _holders(self, layers: Sequence[RecordedLayer]) -> list[list[Any]]:
        holders = holders_of(self._optimizers)
        return [[o for p in layer.trained.values() for o in holders.get(id(p), [])] for layer in layers]

    def _has_stepped(self, optimizer: Any) -> bool:
        return self._begun[id(optimizer)] > 0

    def _times(self, optimizer: Any) -> int:
        # If a class calls its parent's step, torch calls the hooks once for each of the two methods.
        steps = [vars(kind).get("step") for kind in type(optimizer).__mro__]
        calls = sum(bool(getattr(step, "hooked", False)) for step in steps)
        return -(-self._begun[id(optimizer)] // max(1, calls))

    def _on_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._begun[id(optimizer)] += 1
        if self._begun[id(optimizer)] > 1:
            return None
        self._on_gradients(optimizer)
        if callable(kwargs.get("closure")):
            return args, {**kwargs, "closure": self._watched(optimizer, kwargs["closure"])}
        if len(args) > 1 and callable(args[1]):  # args[0] is the optimizer
            return (args[0], self._watched(optimizer, args[1]), *args[2:]), kwargs
        return None

    def _watched(self, optimizer: Any, closure: Callable[..., Any]) -> Callable[..., Any]:
        """Return a closure that calls ``on_gradients`` after its first evaluation."""
        evaluated = False

        @functools.wraps(closure)
        def evaluate(*args: Any, **kwargs: Any) -> Any:
            nonlocal evaluated
            try:
                loss = closure(*args, **kwargs)
            except BaseException:
                self._begun[id(optimizer)] = 0  # no step was made, and the user may try again
                raise
            if not evaluated:
                evaluated = True
                self._on_gradients(optimizer)
            return loss

        return evaluate


def _are_ready(optimizers: Iterable[Any]) -> bool:
    """Return whether gradients exist for a step and all are finite, so a GradScaler would not skip it."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    gradients = [p.grad.detach().to_dense() for g in groups for p in g["params"] if p.grad is not None]
    return all(bool(g.isfinite().all()) for g in gradients) and any(bool(g.any()) for g in gradients)
