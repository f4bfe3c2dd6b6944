"""Draw feedback matrices: distributions of their entries, and a random generator for each layer."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fadiag.errors import InputError

__all__ = ["LAWS", "draw_feedback", "generator_for"]


# Every draw specifies the CPU, because torch's default device may be another one.


def _normal(weight: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64, device="cpu")
    return drawn * _rms(weight)


def _uniform(weight: Tensor, generator: torch.Generator) -> Tensor:
    bound = 3**0.5 * _rms(weight)
    drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64, device="cpu")
    return (2 * drawn - 1) * bound


def _permuted(weight: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(weight.numel(), generator=generator, device="cpu")
    return weight.detach().cpu().double().flatten()[order].reshape(weight.shape)


def _rms(weight: Tensor) -> float:
    # Not the standard deviation: the laws have mean zero, and a kernel with one entry also needs a scale.
    return float(weight.detach().cpu().double().square().mean().sqrt())


#: Functions that draw B from the forward weight and a generator, by the name of the law of its entries.
LAWS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = MappingProxyType(
    {"normal": _normal, "uniform": _uniform, "permuted": _permuted}
)


def generator_for(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends only on the seed and the module's name.

    So adding a layer to the model, or converting in another order, changes no other layer's feedback.

    Examples
    --------
    >>> generator_for(0, "fc1").initial_seed() == generator_for(0, "fc2").initial_seed()
    False
    """
    digest = hashlib.sha256(f"fadiag feedback {seed} {name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_feedback(weight: Tensor, law: str, generator: torch.Generator) -> Tensor:
    """Draw a feedback matrix with the weight's shape, scale, dtype and device.

    The draw is made in float64 on the CPU, so it is the same on every device.

    Parameters
    ----------
    weight : Tensor
        The forward weight. The scale of the draw is its root mean square.
    law : {"normal", "uniform", "permuted"}
        Independent Gaussian or uniform entries of mean zero, or the weight's own entries in random order.
    generator : torch.Generator
        A generator on the CPU, see `generator_for`.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        The law is unknown, or the weight is all zero or not finite, and so has no scale.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 2.0, 3.0]])
    >>> draw_feedback(weight, "permuted", generator_for(0, "fc1")).sort().values
    tensor([[1., 2., 3.]])
    """
    if law not in LAWS:
        raise InputError(f"unknown feedback law {law!r}; it is one of {', '.join(LAWS)}")
    scale = _rms(weight)
    if not 0 < scale < float("inf"):
        raise InputError(
            f"the weight's root mean square is {scale:g}, so there is no scale to draw its feedback with; "
            "initialize the weights before converting"
        )
    return LAWS[law](weight, generator).to(device=weight.device, dtype=weight.dtype)
