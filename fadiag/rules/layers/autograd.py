"""Autograd functions that torch does not inspect at every call."""

from typing import Any

import torch
from torch import Tensor

try:
    from torch._C import _are_functorch_transforms_active, _FunctionBase
    from torch._functorch.utils import unwrap_dead_wrappers
except ImportError:
    HAS_FAST_APPLY = False
else:
    HAS_FAST_APPLY = hasattr(_FunctionBase, "apply")

__all__ = ["HAS_FAST_APPLY", "FeedbackFunction", "as_dtype"]


class FeedbackFunction(torch.autograd.Function):
    """An autograd function with ``setup_context`` that is called with all its arguments, by position.

    torch binds the signature of ``forward`` by `inspect` at each call, to fill in defaults. In a small layer
    that takes as long as the layer. There are no defaults to fill in here, so ``apply`` does without,
    unless a transform of `torch.func` or the compiler is at work. It needs private names of torch. Where they
    are missing (``HAS_FAST_APPLY`` is False), torch's own ``apply`` serves.
    """

    generate_vmap_rule = True

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the function, as torch's own ``apply`` does."""
        if not HAS_FAST_APPLY or _are_functorch_transforms_active() or torch.compiler.is_compiling():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        # What torch's own apply calls in the end.
        return super(torch.autograd.Function, cls).apply(*unwrap_dead_wrappers(args))  # type: ignore[misc]


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``tensor.to(dtype)``; a small layer feels the price of a call that does nothing."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
