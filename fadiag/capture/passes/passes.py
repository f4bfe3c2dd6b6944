"""Passes runs one batch forward and backward through a model, out of band and with any feedback."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fadiag.capture.layers.backward_hooks import has_backward_hooks, without_backward_hooks
from fadiag.capture.layers.own_layers import has_interventions, without_interventions
from fadiag.capture.layers.selection import RecordedLayer, in_order, owners_of
from fadiag.capture.passes.batch_guard import change_between, contents_of
from fadiag.capture.passes.error_context import explain_errors
from fadiag.capture.passes.foreign_hooks import guard_forward_hooks
from fadiag.capture.passes.isolation import Mode, TrainingFlags, isolated
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.tracing.module_hooks import trace_calls
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError
from fadiag.rules.computed_weights import pinned_weight

__all__ = ["ChangeOutput", "HookChoice", "Passes"]

#: The modules whose backward hooks a pass calls: all, none, or ("feedback") the layers whose adapter reads a
#: feedback, which may act through a hook.
HookChoice = Literal["all", "feedback", "none"]
#: Receives a layer, the index of its call in the pass and its output; returns a replacement for the output.
ChangeOutput = Callable[[RecordedLayer, int, Tensor], Tensor | None]

_UNCALLED = (
    "the loss uses the weights of the recorded layers but never calls the layers themselves, so their errors "
    "are not seen; call the layers, or record the arrays of your own backward pass by fadiag.record_arrays"
)


@dataclass(frozen=True)
class Passes:
    """Everything that a pass needs: the model, its layers, the batch and the loss.

    Every pass sees the same weights, masks and random numbers, and leaves the training run unchanged.
    ``others`` are the layers that are not recorded; a pass replaces their feedback too. ``flags`` are the
    modules' training flags in mode "train". ``ops`` are the user's declarations of unknown operations.
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
    ops: DeclaredOps = field(default_factory=DeclaredOps)

    def truth(self) -> dict[str, Tensor | None]:
        """Return the matrices of an exact pass, by layer: None for each layer with a feedback."""
        # All layers count: an error that passes through any feedback is not exact.
        return {layer.name: None for layer in self._all if layer.feedback is not None}

    def is_true(self, truth: Mapping[str, Tensor | None]) -> bool:
        """Return whether the model's own pass is exact: no feedback, intervention or backward hook."""
        return not (truth or has_interventions(self.model)) and not any(
            has_backward_hooks(module) for module in self.model.modules()
        )

    def redrawn(self, generator: torch.Generator, *, without: Collection[str] = ()) -> dict[str, Tensor]:
        """Return new feedback for every layer that has one, by layer, except the layers in ``without``."""
        return {
            layer.name: layer.redrawn(generator)
            for layer in in_order(self.model, self._all)
            if layer.feedback is not None and layer.name not in without
        }

    def run(
        self,
        matrices: Mapping[str, Tensor | None],
        wanted: Collection[str],
        *,
        keep_graph: bool = False,
        hooks: HookChoice = "all",
    ) -> Trace:
        """Run forward and backward once, with the given matrices in the backward pass of some layers.

        None instead of a matrix makes the layer's backward pass exact. ``hooks`` chooses the modules whose
        own backward hooks are called. Such hooks may change the gradient.
        """
        with self.under(matrices, hooks=hooks):
            weights = self._weights()
            # In the exact pass the senders of direct feedback do not act.
            ops = replace(self.ops, senders=frozenset()) if hooks == "none" else self.ops
            with trace_calls(
                self.model, self.layers, wanted, others=self.others, save_edges=keep_graph, ops=ops
            ) as trace:
                loss = self.loss_of_batch()
            trace.reset_gradients()
            backward = partial(
                torch.autograd.grad, loss, [*weights.values()], allow_unused=True, retain_graph=keep_graph
            )
            gradients = explain_errors("the backward pass of the loss", backward)
            trace.stop()
            trace.finish()
            trace.loss = loss if keep_graph else None
            if not any(call.got_gradient for call in trace.calls):
                uses_weights = any(gradient is not None for gradient in gradients)
                raise CaptureError(_UNCALLED if uses_weights else _unreached(len(self.layers)))
            by_weight = dict(zip(weights, gradients, strict=True))
            owners = owners_of(self.layers)
            for call in trace.calls:
                gradient = by_weight[call.layer.weight_id]
                owned = owners[call.layer.weight_id] is call.layer
                if "gradient" in wanted and owned and call.index == 0 and gradient is not None:
                    call.values["gradient"] = gradient.to_dense()  # an embedding's may be sparse
        return trace

    def loss_with(
        self, change: ChangeOutput, *, only: Collection[str] | None = None, hooks: HookChoice = "all"
    ) -> Tensor:
        """Return the loss of a forward pass in which ``change`` replaces the outputs of the recorded layers.

        If it returns None, the output stays unchanged. ``only`` names the layers to change: in a deep model,
        hooks on all layers take as long as the pass. The pass runs with autograd, as `run` does. Under
        ``no_grad``, some of torch's modules use a fast path that does not call the layers inside.
        """
        counts: Counter[str] = Counter()

        def on_call(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not (torch.is_grad_enabled() and isinstance(output, Tensor)):
                return None
            counts[layer.name] += 1
            return change(layer, counts[layer.name] - 1, output)

        with self.under({}, hooks=hooks), ExitStack() as stack:
            for layer in self.layers if only is None else (x for x in self.layers if x.name in only):
                stack.callback(layer.module.register_forward_hook(partial(on_call, layer)).remove)
            return self.loss_of_batch().detach()

    @contextmanager
    def under(self, matrices: Mapping[str, Tensor | None], *, hooks: HookChoice = "all") -> Iterator[None]:
        """Prepare the model as `run` does.

        A second backward pass through a retained graph needs this too, because checkpointed blocks then run
        forward again.
        """
        with self._isolated(), ExitStack() as stack:
            for layer in self._all:
                if layer.parametrization:
                    stack.enter_context(pinned_weight(layer.module))
            frozen = [weight for weight in self._weights().values() if not weight.requires_grad]
            if hooks != "all":
                # A hook that sends direct feedback is the rule itself and stays, except in an exact pass.
                keep = {
                    x.sender.module for x in self._all if x.sender and matrices.get(x.name, 0) is not None
                }
                if hooks == "feedback":
                    keep |= {x.module for x in self._all if x.feedback is not None}
                stack.enter_context(without_backward_hooks(self.model, keep=keep))
            if hooks == "none":  # the exact pass
                stack.enter_context(without_interventions(self.model))
            for weight in frozen:
                weight.requires_grad_(True)
                stack.callback(weight.requires_grad_, False)
            for layer in self._all:
                if layer.name in matrices:
                    stack.enter_context(layer.using(matrices[layer.name]))
            yield

    @property
    def _all(self) -> Sequence[RecordedLayer]:
        return (*self.layers, *self.others)

    def _weights(self) -> dict[int, Tensor]:
        """Return the recorded weights by their ids, shared weights once; call it inside `under`."""
        return {layer.weight_id: layer.weight for layer in self.layers}

    def _isolated(self) -> AbstractContextManager[None]:
        return isolated(self.model, self.flags, mode=self.mode, seed=self.seed)

    def loss_of_batch(self) -> Tensor:
        """Return the loss of the batch and check it; call it inside `under`."""
        before = contents_of(self.batch)
        with guard_forward_hooks(self.model):
            loss = explain_errors("loss(model, batch)", lambda: self.loss(self.model, self.batch))
        change = change_between(before, contents_of(self.batch))
        if change:
            raise CaptureError(
                f"the loss changes its batch ({change}), so the next pass would use another; give Probe a "
                "loss that leaves the batch as it is, or works on a copy"
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise CaptureError(f"the loss is not a scalar but has {what}; return the mean over the batch")
        if not loss.requires_grad:
            raise CaptureError("the loss has no gradient; compute it without detach() and no_grad")
        return loss.reshape(())


def _unreached(layers: int) -> str:
    return (
        f"the loss reaches none of the {layers} recorded layers; is it computed under no_grad, detached, or "
        "from another model?"
    )
