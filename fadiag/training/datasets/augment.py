"""Change training data at random: shift and mirror images, and replace labels by wrong ones."""

import torch
from torch import Tensor

__all__ = ["noisy_labels", "shift_and_mirror"]

_EDGE = 4


def shift_and_mirror(images: Tensor, generator: torch.Generator, black: Tensor) -> Tensor:
    """Return images shifted by up to 4 pixels in each direction, half of them mirrored.

    The standard augmentation of CIFAR: each image gets a border of 4 black pixels, and a random window of the
    original size replaces the image.

    Parameters
    ----------
    images : Tensor, shape (sample, channel, height, width)
    generator : torch.Generator
        On the CPU.
    black : Tensor
        The value of the border; it broadcasts against the images.

    Examples
    --------
    >>> images = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> shift_and_mirror(images, torch.Generator().manual_seed(1), torch.zeros(())).shape
    torch.Size([1, 1, 3, 3])
    """
    samples, channels, height, width = images.shape
    shifts = torch.randint(2 * _EDGE + 1, (samples, 2), generator=generator, device="cpu")
    mirrored = torch.rand(samples, generator=generator, device="cpu") < 0.5
    bordered = black.expand(samples, channels, height + 2 * _EDGE, width + 2 * _EDGE).clone()
    bordered[:, :, _EDGE:-_EDGE, _EDGE:-_EDGE] = images
    rows = shifts[:, :1] + torch.arange(height, device="cpu")
    columns = shifts[:, 1:] + torch.where(
        mirrored[:, None], torch.arange(width - 1, -1, -1, device="cpu"), torch.arange(width, device="cpu")
    )
    rows, columns = rows.to(images.device), columns.to(images.device)
    sample = torch.arange(samples, device=images.device)
    # An index of tensors on both sides of a slice puts the slice's axis last.
    picked = bordered[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def noisy_labels(labels: Tensor, share: float, classes: int, generator: torch.Generator) -> Tensor:
    """Replace a share of the labels, rounded to whole samples, by other classes at random.

    Examples
    --------
    >>> labels = torch.zeros(10, dtype=torch.int64)
    >>> int((noisy_labels(labels, 0.3, 5, torch.Generator().manual_seed(0)) != 0).sum())
    3
    """
    chosen = torch.randperm(len(labels), generator=generator, device="cpu")[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(chosen),), generator=generator, device="cpu")
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy
