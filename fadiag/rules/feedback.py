"""Draw feedback matrices: distributions of their entries, and a random generator for each layer."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from fadiag.errors import InputError

__all__ = ["LAWS", "check_scale", "draw_feedback", "generator_for"]


# Every draw specifies the CPU, because torch's default device may be another one.


def _gaussian(weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return drawn * _rms(weight)


def _uniform(weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    bound = 3**0.5 * _rms(weight)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")
    return (2 * drawn - 1) * bound


def _orthogonal(weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    # The Q of a Gaussian matrix is Haar-distributed if the diagonal of R is positive.
    rows, columns = shape[0], shape[1:].numel()
    long, short = max(rows, columns), min(rows, columns)
    drawn = torch.randn(long, short, generator=generator, dtype=torch.float64, device="cpu")
    q, r = torch.linalg.qr(drawn)
    haar: Tensor = q * r.diagonal().sign() * (_rms(weight) * long**0.5)
    return haar.reshape(shape) if rows == long else haar.t().reshape(shape)


def _permuted(weight: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    entries = weight.detach().cpu().double().flatten()
    rounds = -(-shape.numel() // len(entries))  # one, unless F has more entries than the weight
    orders = [torch.randperm(len(entries), generator=generator, device="cpu") for _ in range(rounds)]
    return entries[torch.cat(orders)[: shape.numel()]].reshape(shape)


def _rms(weight: Tensor) -> float:
    # Not the standard deviation: the laws have mean zero, and a kernel with one entry also needs a scale.
    return float(weight.detach().cpu().double().square().mean().sqrt())


#: Functions that draw a matrix from the forward weight, a shape and a generator, by the name of its law.
LAWS: Mapping[str, Callable[[Tensor, torch.Size, torch.Generator], Tensor]] = MappingProxyType(
    {"gaussian": _gaussian, "uniform": _uniform, "orthogonal": _orthogonal, "permuted": _permuted}
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


def draw_feedback(
    weight: Tensor,
    law: str,
    generator: torch.Generator,
    *,
    scale: float = 1.0,
    shape: torch.Size | None = None,
) -> Tensor:
    """Draw a feedback matrix with the weight's shape, scale, dtype and device.

    The draw is made in float64 on the CPU, so it is the same on every device.

    Parameters
    ----------
    weight : Tensor
        The forward weight. The root mean square of the draw is ``scale`` times the weight's.
    law : {"gaussian", "uniform", "orthogonal", "permuted"}
        Independent Gaussian or uniform entries of mean zero; orthonormal rows or columns of the matrix
        (out, in * kernel) in Haar-random directions; or the weight's own entries in random order.
    generator : torch.Generator
        A generator on the CPU, see `generator_for`.
    scale : float
        Factor of the draw.
    shape : torch.Size, optional
        Shape of the draw, if not the weight's. A permuted draw with more entries than the weight takes the
        entries of several permutations.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        The law is unknown, the scale is not positive and finite, or the weight is all zero or not finite, and
        so has no scale.

    Examples
    --------
    >>> weight = torch.tensor([[1.0, 2.0, 3.0]])
    >>> draw_feedback(weight, "permuted", generator_for(0, "fc1")).sort().values
    tensor([[1., 2., 3.]])
    """
    if law not in LAWS:
        raise InputError(f"unknown feedback law {law!r}; it is one of {', '.join(LAWS)}")
    check_scale(scale)
    rms = _rms(weight)
    if not 0 < rms < float("inf"):
        raise InputError(
            f"the weight's root mean square is {rms:g}, so there is no scale to draw its feedback with; "
            "initialize the weights before converting"
        )
    drawn = LAWS[law](weight, weight.shape if shape is None else shape, generator)
    return (drawn * scale).to(device=weight.device, dtype=weight.dtype)


def check_scale(scale: float) -> None:
    """Raise InputError if a scale is not a positive, finite number.

    Examples
    --------
    >>> check_scale(0.5)
    """
    if not 0 < scale < float("inf"):
        raise InputError(f"the feedback's scale is {scale:g}; give a positive, finite number")
