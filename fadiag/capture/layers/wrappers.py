"""Find the recorded module inside compiled and data-parallel wrappers."""

import torch
from torch import nn

from fadiag.errors import InputError

__all__ = ["unwrap_model"]


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the module inside any nesting of compiled and data-parallel wrappers.

    Examples
    --------
    >>> inner = nn.Linear(2, 2)
    >>> unwrap_model(nn.DataParallel(inner)) is inner
    True
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give an nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"model is a {type(model).__name__}, in which hooks see nothing; give the module that was "
            "scripted, and script it after the training"
        )
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    inner = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)
    return model if inner is None else unwrap_model(inner)
