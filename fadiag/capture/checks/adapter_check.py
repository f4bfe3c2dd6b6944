"""Check that an adapter's ``using`` changes the backward pass, and that its effect ends with the context."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.isolation import cuda_devices, seed_torch
from fadiag.capture.passes.passes import Passes
from fadiag.capture.passes.tf32 import without_tf32
from fadiag.capture.tracing.tracked_tensors import tensors_in
from fadiag.errors import CaptureError

__all__ = ["check_effect", "check_effects", "check_exact_gradient"]

#: The relative difference below which two gradients are equal. A GPU may add in another order each time.
_SAME = 1e-4
_SEED = 0
#: The step of the input, and the largest relative deviation of the gradient from the finite difference.
_STEP, _OFF = 1e-3, 0.05


def check_effects(passes: Passes, layers: Sequence[RecordedLayer]) -> None:
    """Check the adapters of some layers on a probe's inputs to these layers, in one forward pass.

    The check skips a layer without a call, or whose input needs no gradient: there a matrix has no effect.

    Raises
    ------
    CaptureError
        As `check_effect`.
    """
    of_module = {layer.module: layer for layer in layers}
    inside = False

    def on_call(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        nonlocal inside
        if inside or not torch.is_grad_enabled() or module not in of_module:
            return
        layer, inside = of_module.pop(module), True
        try:
            check_effect(layer.adapter, module, inputs, named, what=f"layer {layer.name!r}")
        finally:
            inside = False

    handles = [m.register_forward_hook(on_call, with_kwargs=True) for m in of_module]
    try:
        passes.loss_with(lambda layer, index, output: None, hooks="feedback")
    finally:
        for handle in handles:
            handle.remove()


def check_effect(
    adapter: LayerAdapter,
    module: nn.Module,
    inputs: Sequence[Any],
    named: Mapping[str, Any],
    *,
    what: str,
) -> None:
    """Check that ``using`` changes the gradient at the module's input, and only inside the context.

    Parameters
    ----------
    adapter : LayerAdapter
    module : nn.Module
    inputs, named : sequence and mapping
        The arguments of the module. The check needs a float tensor with a gradient among them.
    what : str
        The module's name in messages.

    Raises
    ------
    CaptureError
        ``using`` has no effect, or an effect that remains after the context.
    """
    if not any(x.requires_grad for x in tensors_in((*inputs, *named.values()))):
        return
    kind = type(module).__name__

    def gradients() -> list[Tensor]:
        return _input_gradients(module, inputs, named)

    feedback = adapter.feedback(module)
    like = (adapter.weight_of(module) if feedback is None else feedback).detach()
    before = gradients()
    is_random = not _all_same(before, gradients())
    generator = torch.Generator(like.device).manual_seed(_SEED)
    matrix = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    with adapter.using(module, matrix * (float(like.float().square().mean().sqrt()) or 1.0)):
        inside = gradients()
    if _all_same(before, inside):
        raise CaptureError(
            f"{what} is a {kind} whose adapter's using(module, matrix) has no effect: the gradient at the "
            "module's input is the same with any matrix; let it put the matrix where the module's backward "
            "pass reads it"
        )
    if not is_random and not _all_same(before, gradients()):
        raise CaptureError(
            f"{what} is a {kind} whose adapter's using(module, matrix) is not undone: the gradient at the "
            "module's input differs after it; let it restore what was there, in a finally"
        )


def check_exact_gradient(
    adapter: LayerAdapter, module: nn.Module, inputs: Sequence[Any], *, what: str
) -> None:
    """Check that the gradient at the input is that of backpropagation if the matrix is the weight.

    The check compares the gradient with a finite difference of the module's output along the gradient.

    Raises
    ------
    CaptureError
        The two differ.
    """
    with ExitStack() as stack:
        if adapter.feedback_kind != "exact":
            stack.enter_context(adapter.using(module, adapter.weight_of(module).detach()))
        gradients = iter(_input_gradients(module, inputs, {}))

        moved = [next(gradients) if isinstance(x, Tensor) and x.requires_grad else None for x in inputs]
        largest = max(float(g.abs().max()) for g in moved if g is not None)
        squared = sum(float(g.square().sum(dtype=torch.float64)) for g in moved if g is not None)
        scale = max(
            float(x.detach().abs().max()) for x in inputs if isinstance(x, Tensor) and x.requires_grad
        )
        step = _STEP * (scale or 1.0) / (largest or 1.0)

        def along(sign: float) -> float:
            with torch.random.fork_rng(devices=cuda_devices(module)):
                seed_torch(_SEED, module)
                given = [
                    x if g is None else x.detach() + sign * step * g
                    for x, g in zip(inputs, moved, strict=True)
                ]
                output = module(*given).detach()
                seed_torch(_SEED, module)
                return float((output * torch.randn_like(output)).sum(dtype=torch.float64))

        with without_tf32():
            found = (along(1.0) - along(-1.0)) / (2 * step)
    if not abs(found - squared) <= _OFF * squared:
        given = "" if adapter.feedback_kind == "exact" else " with using(module, weight)"
        raise CaptureError(
            f"{what} is a {type(module).__name__} whose gradient at the input{given} is not that of "
            f"backpropagation: along it the output changes by {found / (squared or 1):.3g} of what it "
            "should; is the matrix transposed, or the backward pass not the one that the adapter says?"
        )


def _input_gradients(module: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Tensor]:
    """Return the gradients at the inputs for a random error at the output, the same at each call."""
    leaves: list[Tensor] = []

    def leaf(value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        leaves.append(value.detach().requires_grad_())
        # A clone, not the leaf itself: the module may change its input in place.
        return leaves[-1].clone()

    # These replace the hooks of a checkpoint around the module, which would run its block again.
    keep = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with torch.random.fork_rng(devices=cuda_devices(module)), keep:
        seed_torch(_SEED, module)
        output = module(*map(leaf, inputs), **{name: leaf(value) for name, value in named.items()})
        seed_torch(_SEED, module)
        outputs = [x for x in tensors_in(output) if x.requires_grad]
        errors = [torch.randn_like(x) for x in outputs]
        given = torch.autograd.grad(outputs, leaves, errors, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, given, strict=True)]


def _all_same(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(map(_same, ones, others))


def _same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= _SAME * one.norm())
