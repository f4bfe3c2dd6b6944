"""Say where the feedback matrix B of a layer is held."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["feedback_source"]


def feedback_source(name: str, module: nn.Module, read: Callable[[], Tensor | None]) -> str:
    """Return the path of the attribute that holds a layer's B, or say that there is no such attribute.

    Parameters
    ----------
    name : str
        The layer's name in the model.
    module : nn.Module
    read : callable
        Returns B; None where the backward pass is exact.

    Examples
    --------
    >>> import fadiag
    >>> layer = fadiag.convert(nn.Sequential(nn.Linear(3, 2)))[0]
    >>> feedback_source("0", layer, lambda: layer.feedback)
    '0.feedback'
    >>> feedback_source("0", layer, lambda: layer.weight.sign())
    'computed by the rule'
    >>> feedback_source("0", layer, lambda: None)
    ''
    """
    if (feedback := read()) is None:
        return ""
    for place, inner in module.named_modules(prefix=name):
        for attribute, held in {**vars(inner), **inner._buffers, **inner._parameters}.items():
            if isinstance(held, Tensor) and _is_same(held, feedback):
                return f"{place}.{attribute}".removeprefix(".")
    again = read()
    is_held = again is not None and _is_same(again, feedback)
    return "held outside of the layer" if is_held else "computed by the rule"


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors share their memory: a transposed or detached one still does."""
    return one is other or (one.data_ptr() == other.data_ptr() != 0 and one.numel() == other.numel())
