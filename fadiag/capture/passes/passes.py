"""Forward and backward passes of one batch through a model, out of band and under any feedback."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.layers.backward_hooks import has_backward_hooks, without_backward_hooks
from fadiag.capture.layers.selection import RecordedLayer, in_order, owners_of
from fadiag.capture.passes.batch_guard import change_between, contents_of
from fadiag.capture.passes.error_context import explain_errors
from fadiag.capture.passes.isolation import Mode, TrainingFlags, isolated
from fadiag.capture.tracing.module_hooks import trace_calls
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError

__all__ = ["Passes"]


@dataclass(frozen=True)
class Passes:
    """What a pass needs. Every pass sees the same weights, masks and random numbers, and leaves no trace.

    ``others`` are the layers of the model that are not recorded: their feedback is replaced too. ``flags``
    are those of the modules in mode "train".
    """

    model: nn.Module
    layers: Sequence[RecordedLayer]
    others: Sequence[RecordedLayer]
    batch: Any
    loss: Callable[[nn.Module, Any], Tensor]
    _: KW_ONLY
    mode: Mode
    seed: int
    flags: TrainingFlags

    def truth(self) -> dict[str, Tensor]:
        """Return W of every layer that has a feedback, by layer: what makes a pass the true one."""
        # Of all layers: an error that came through the feedback of one left out is not the true one.
        truth = {layer.name: layer.weight for layer in self.layers if layer.feedback is not None}
        if self.others:
            # A weight may be computed when it is read.
            with self._isolated():
                others = [layer for layer in self.others if layer.feedback is not None]
                if any("weight" in vars(layer.module) for layer in others):
                    # Or by a hook before each forward pass: what is there is that of the last one.
                    self._call_loss()
                truth |= {layer.name: layer.weight.detach().clone() for layer in others}
        return truth

    def is_true(self, truth: Mapping[str, Tensor]) -> bool:
        """Say whether the model's own pass is the true one: no layer has a feedback or a backward hook."""
        return not truth and not any(has_backward_hooks(module) for module in self.model.modules())

    def redrawn(self, generator: torch.Generator, *, without: Collection[str] = ()) -> dict[str, Tensor]:
        """Return fresh feedback of every layer that has one, by layer; ``without`` names those left out."""
        return {
            layer.name: layer.adapter.redrawn(layer.module, generator)
            for layer in in_order(self.model, (*self.layers, *self.others))
            if layer.feedback is not None and layer.name not in without
        }

    def run(
        self,
        matrices: Mapping[str, Tensor],
        wanted: Collection[str],
        *,
        keep_graph: bool = False,
        hooks: bool = True,
    ) -> Trace:
        """Run forward and backward once, with the given matrices in the backward pass of some layers.

        ``hooks``: whether the modules' own backward hooks are called, which may change what goes down.
        """
        weights = self._weights()
        with self.under(matrices, hooks=hooks):
            with trace_calls(
                self.model, self.layers, wanted, others=self.others, save_edges=keep_graph
            ) as trace:
                loss = self._loss()
            trace.reset_gradients()
            backward = partial(
                torch.autograd.grad, loss, [*weights.values()], allow_unused=True, retain_graph=keep_graph
            )
            gradients = explain_errors("the backward pass of the loss", backward)
            trace.stop()
            trace.finish()
            trace.loss = loss if keep_graph else None
            if not any(call.got_gradient for call in trace.calls):
                raise CaptureError(
                    f"the loss reaches none of the {len(self.layers)} recorded layers; is it "
                    "computed under no_grad, detached, or from another model?"
                )
            by_weight = dict(zip(weights, gradients, strict=True))
            owners = owners_of(self.layers)
            for call in trace.calls:
                gradient = by_weight[id(call.layer.weight)]
                owned = owners[id(call.layer.weight)] is call.layer
                if "gradient" in wanted and owned and call.index == 0 and gradient is not None:
                    call.values["gradient"] = gradient.to_dense()  # that of a table may be sparse
        return trace

    @contextmanager
    def under(self, matrices: Mapping[str, Tensor], *, hooks: bool = True) -> Iterator[None]:
        """Set the model up as `run` does.

        Another backward pass through a graph that was kept needs it too: what is checkpointed runs forward
        anew there.
        """
        frozen = [weight for weight in self._weights().values() if not weight.requires_grad]
        with self._isolated(), ExitStack() as stack:
            if not hooks:
                stack.enter_context(without_backward_hooks(self.model))
            for weight in frozen:
                weight.requires_grad_(True)
                stack.callback(weight.requires_grad_, False)
            for layer in (*self.layers, *self.others):
                if layer.name in matrices:
                    matrix = matrices[layer.name].to(layer.weight)
                    if matrix is layer.weight:
                        # Not a copy: a penalty on a gradient has a gradient of its own to the weight in it.
                        matrix = matrix.view_as(matrix)
                    stack.enter_context(layer.adapter.using(layer.module, matrix))
            yield

    def _weights(self) -> dict[int, Tensor]:
        """Return the recorded weights by their ids, a shared one once."""
        return {id(layer.weight): layer.weight for layer in self.layers}

    def _isolated(self) -> AbstractContextManager[None]:
        return isolated(self.model, self.flags, mode=self.mode, seed=self.seed)

    def _loss(self) -> Tensor:
        before = contents_of(self.batch)
        loss = self._call_loss()
        change = change_between(before, contents_of(self.batch))
        if change:
            raise CaptureError(
                f"the loss changes its batch ({change}), so the next pass would be of another; give Probe a "
                "loss that leaves the batch as it is, or works on a copy"
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise CaptureError(f"the loss is not a scalar but has {what}; return the mean over the batch")
        if not loss.requires_grad:
            raise CaptureError("the loss has no gradient; compute it without detach() and no_grad")
        return loss.reshape(())

    def _call_loss(self) -> Any:
        return explain_errors("loss(model, batch)", lambda: self.loss(self.model, self.batch))
