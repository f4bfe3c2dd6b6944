"""Drawing feedback matrices: which law, and from which seed."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fadiag.errors import InputError

__all__ = ["LAWS", "draw_feedback", "generator_for"]


def _normal(weight: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(weight.shape, generator=generator, dtype=torch.float64) * _std(weight)


def _uniform(weight: Tensor, generator: torch.Generator) -> Tensor:
    bound = 3**0.5 * _std(weight)
    return (2 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1) * bound


def _permuted(weight: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(weight.numel(), generator=generator)
    return weight.detach().cpu().double().flatten()[order].reshape(weight.shape)


def _std(weight: Tensor) -> float:
    # About zero, not about the mean: the laws have mean zero, and a kernel of one entry has a scale too.
    return float(weight.detach().cpu().double().square().mean().sqrt())


#: How B's entries are drawn, given the forward weight at conversion.
LAWS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = MappingProxyType(
    {"normal": _normal, "uniform": _uniform, "permuted": _permuted}
)


def generator_for(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on the seed and the module's name only.

    A layer added to the model, or converted in another order, leaves the other layers' feedback as it was.

    Examples
    --------
    >>> generator_for(0, "fc1").initial_seed() == generator_for(0, "fc2").initial_seed()
    False
    """
    digest = hashlib.sha256(f"fadiag feedback {seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_feedback(weight: Tensor, law: str, generator: torch.Generator) -> Tensor:
    """Draw a feedback matrix of the weight's shape, scale, dtype and device.

    Drawn in float64 on the CPU, so that it is the same on every device.

    Parameters
    ----------
    weight : Tensor
        The forward weight; sqrt(mean W^2) is the scale of the draw.
    law : {"normal", "uniform", "permuted"}
        Independent Gaussian or uniform entries of mean zero, or the weight's own entries in random order.
    generator : torch.Generator
        On the CPU.

    Raises
    ------
    InputError
        Of an unknown law, or of a weight that is all zero or not finite: it has no scale to draw with.
    """
    if law not in LAWS:
        raise InputError(f"unknown feedback law {law!r}; it is one of {', '.join(LAWS)}")
    scale = _std(weight)
    if not 0 < scale < float("inf"):
        raise InputError(
            f"the weight's root mean square is {scale:g}, so there is no scale to draw its feedback with; "
            "initialize the weights before converting"
        )
    return LAWS[law](weight, generator).to(device=weight.device, dtype=weight.dtype)
