"""FeedbackFunction is an autograd function without torch's signature check at every call."""

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
    """Call an autograd function with ``setup_context`` fast; all its arguments are given by position.

    At each call, torch binds the signature of ``forward`` by `inspect` to fill in defaults. For a small layer
    this takes as long as the layer itself. These functions have no defaults, so ``apply`` skips this step.
    Under a transform of `torch.func` or the compiler, torch's own ``apply`` is used. It is also used if the
    private names of torch that this needs are missing (``HAS_FAST_APPLY`` is False).
    """

    generate_vmap_rule = True

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the function like torch's own ``apply``."""
        if not HAS_FAST_APPLY or _are_functorch_transforms_active() or torch.compiler.is_compiling():
            return super().apply(*args)  # type: ignore[no-untyped-call]
        # torch's own apply ends with this call.
        return super(torch.autograd.Function, cls).apply(*unwrap_dead_wrappers(args))  # type: ignore[misc]


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``tensor.to(dtype)``, without a call if nothing changes, because the call slows small layers."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
