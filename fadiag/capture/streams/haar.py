"""Rotate gradients by Haar-random orthogonal matrices: any direction becomes any other, lengths stay."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rotation", "haar_frame"]


def haar_frame(units: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw orthonormal columns uniformly; as many columns as units make an orthogonal matrix.

    Drawn on the generator's device, in float64.

    Parameters
    ----------
    units, columns : int
    generator : torch.Generator

    Returns
    -------
    Tensor (units, columns), float64

    Examples
    --------
    >>> frame = haar_frame(3, 2, torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(frame.T @ frame, torch.eye(2, dtype=torch.float64)))
    True
    """
    gaussian = torch.randn(units, columns, generator=generator, dtype=torch.float64, device=generator.device)
    q, r = torch.linalg.qr(gaussian)
    # The signs of R's diagonal make Q uniform (Mezzadri 2007).
    frame: Tensor = q * r.diagonal().sign()
    return frame


@dataclass(frozen=True)
class Rotation:
    """A gradient, ready to be rotated along one axis: each group of units by a matrix of its own.

    Every sample and position is rotated alike. If there are fewer of them than units, the gradient is kept as
    L Q^T, with orthonormal rows in Q^T. Q^T R has the law of a Haar frame, which is cheaper to draw than R.

    Parameters
    ----------
    left : Tensor (group, row, k)
        The gradient itself, or L.
    units : int
        The number of units in a group.
    shape : torch.Size
        The shape of the gradient, with the axis at the end.
    axis : int
        The axis of the units in the gradient, counted from the end.
    dtype : torch.dtype
        That of the gradient.
    """

    left: Tensor
    units: int
    shape: torch.Size
    axis: int
    dtype: torch.dtype

    @classmethod
    def of(cls, gradient: Tensor, axis: int, groups: int) -> "Rotation":
        """Prepare a gradient; ``axis`` counts from the end."""
        moved = gradient.movedim(axis, -1)
        units = moved.shape[-1] // groups
        rows = moved.reshape(-1, groups, units).transpose(0, 1)
        precise = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
        if precise.shape[1] < units:
            precise = torch.linalg.qr(precise.double().mT).R.mT.to(precise.dtype)
        return cls(precise, units, moved.shape, axis, gradient.dtype)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return the gradient under a fresh rotation."""
        groups, _, columns = self.left.shape
        frames = torch.stack([haar_frame(self.units, columns, generator) for _ in range(groups)])
        rotated = self.left @ frames.to(self.left).mT
        return rotated.transpose(0, 1).reshape(self.shape).movedim(-1, self.axis).to(self.dtype)
