"""Warn about the matrices of a model that keep their exact backward pass in a conversion."""

import warnings
from collections.abc import Collection, Iterable, Iterator

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.errors import ConvertWarning, InputError
from fadiag.rules.computed_weights import parts_of_weights, trained_tensors

__all__ = ["WITHOUT_FEEDBACK", "check_left_out", "listed", "matrices_of"]

#: Modules with a matrix that sends no error backward: an embedding has no layer below, and a norm's weight
#: multiplies entry by entry.
WITHOUT_FEEDBACK = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


def check_left_out(
    model: nn.Module, converted: Collection[nn.Module], kinds: Iterable[str], *, stacklevel: int
) -> None:
    """Warn about the matrices that are not converted, and raise if they are most of the model.

    Parameters
    ----------
    model : nn.Module
    converted : collection of nn.Module
        Modules that have feedback or are about to get it.
    kinds : iterable of str
        Names of the layer types that can be converted, for the message.
    stacklevel : int
        Stack level of the warning; 1 is the caller of this function.

    Raises
    ------
    InputError
        A module has no weights yet, or the unconverted matrices hold more than half of all entries.
    """
    taken = {id(matrix): matrix.numel() for module in converted for matrix in matrices_of(module)}
    left: dict[int, int] = {}
    owners, parts = [], parts_of_weights(model)
    for name, module in model.named_modules():
        if module in converted or module in parts or isinstance(module, WITHOUT_FEEDBACK):
            continue
        if is_lazy(module._parameters.get("weight")):
            raise InputError(
                f"layer {name!r} has no weights yet; run one batch or initialize it before converting, or "
                "name the layers to convert by layers=[...]"
            )
        own = {id(matrix): matrix.numel() for matrix in matrices_of(module) if id(matrix) not in taken}
        if own:
            left |= own
            owners.append(f"{name!r} ({type_before_parametrizations(module).__name__})")
    if not left:
        return
    share = sum(left.values()) / (sum(left.values()) + sum(taken.values()))
    what = f"{listed(owners)}, with {100 * share:.3g} % of the entries of all its matrices"
    ways = (
        f"convert takes {', '.join(kinds)}. If this is intended, name the layers to convert by "
        'layers=[...], or give layers="*" for all that it can take'
    )
    if share > 0.5:
        raise InputError(f"most of {type(model).__name__} would keep its exact backward pass: {what}; {ways}")
    text = f"a part of {type(model).__name__} keeps its exact backward pass: {what}; {ways}"
    warnings.warn(text, ConvertWarning, stacklevel=stacklevel + 1)


def listed(items: Iterable[str], limit: int = 3) -> str:
    """Join the first few texts, followed by the number of the remaining ones.

    Examples
    --------
    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    items = list(items)
    more = len(items) - limit
    return (", ".join(items[:limit]) or "none") + (f" and {more} more" if more > 0 else "")


def matrices_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield the matrices and kernels that a module owns, and those from which it computes its weight.

    A parameter of shape (1, tokens, width), as in vision transformers, is added to every sample. It is not a
    matrix.
    """
    owned = (*module._parameters.values(), *trained_tensors(module).values())
    for parameter in {id(p): p for p in owned}.values():
        if parameter is None or is_lazy(parameter) or parameter.dim() < 2:
            continue
        if not (parameter.dim() == 3 and len(parameter) == 1):
            yield parameter
