"""Rotate gradients by Haar-random orthogonal matrices: any direction becomes any other, lengths stay."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rotation", "haar_frames"]


def haar_frames(groups: int, units: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw orthonormal columns uniformly; as many columns as units make an orthogonal matrix.

    Drawn on the generator's device, in float64.

    Parameters
    ----------
    groups : int
        The number of independent draws.
    units, columns : int
        The shape of each; no more columns than units.
    generator : torch.Generator

    Returns
    -------
    Tensor (groups, units, columns), float64

    Examples
    --------
    >>> (frame,) = haar_frames(1, 3, 2, torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(frame.T @ frame, torch.eye(2, dtype=torch.float64)))
    True
    """
    reflections, scales, signs = _draw(groups, units, columns, generator)
    frames: Tensor = torch.linalg.householder_product(reflections, scales) * signs[:, None]
    return frames


def _draw(groups: int, units: int, columns: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the Householder reflections of a QR of Gaussian matrices, and the signs of R's diagonal.

    The part that each reflection leaves is again Gaussian, so there is no need for the QR (Stewart 1980). The
    signs make Q uniform (Mezzadri 2007).
    """
    shape = (groups, units, columns)
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
    vectors = gaussian.double().tril()
    first = vectors.diagonal(dim1=-2, dim2=-1)
    ends = -torch.where(first < 0, -1.0, 1.0) * vectors.norm(dim=-2)
    scales = (ends - first) / ends
    # LAPACK takes the vectors' first entries to be 1, and reads only what lies below.
    return vectors / (first - ends)[:, None], scales, ends.sign()


@dataclass(frozen=True)
class Rotation:
    """A gradient, ready to be rotated along one axis: each group of units by a matrix of its own.

    Every sample and position is rotated alike. A gradient of a lower rank than units is kept as L Q^T, with
    orthonormal rows in Q^T. Q^T R has the law of a Haar frame, which is cheaper to draw than R.

    Parameters
    ----------
    left : Tensor (group, row, unit), float64
        The gradient itself, or L and zeros beside it.
    columns : int
        The number of columns of each frame.
    shape : torch.Size
        The shape of the gradient, with the axis at the end.
    axis : int
        The axis of the units in the gradient, counted from the end.
    dtype : torch.dtype
        That of the gradient.
    """

    left: Tensor
    columns: int
    shape: torch.Size
    axis: int
    dtype: torch.dtype

    @classmethod
    def of(cls, gradient: Tensor, axis: int, groups: int, rank: int) -> "Rotation":
        """Prepare a gradient; ``axis`` counts from the end, ``rank`` bounds the rank of a group's rows."""
        moved = gradient.movedim(axis, -1)
        units = moved.shape[-1] // groups
        left = moved.reshape(-1, groups, units).transpose(0, 1).double()
        columns = min(left.shape[1], units, rank)
        if left.shape[1] < units:
            left = torch.linalg.qr(left.mT).R.mT
        if columns < left.shape[2]:
            left = left @ torch.linalg.eigh(left.mT @ left).eigenvectors[..., -columns:]
        left = torch.nn.functional.pad(left, (0, units - columns))
        return cls(left, columns, moved.shape, axis, gradient.dtype)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return the gradient under a fresh rotation."""
        groups, _, units = self.left.shape
        drawn = _draw(groups, units, self.columns, generator)
        reflections, scales, signs = (part.to(self.left.device) for part in drawn)
        signed = self.left.clone()
        signed[..., : self.columns] *= signs[:, None]
        rotated = torch.ormqr(reflections, scales, signed, left=False, transpose=True)
        return rotated.transpose(0, 1).reshape(self.shape).movedim(-1, self.axis).to(self.dtype)
