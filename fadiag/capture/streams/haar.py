"""Draw Haar-random orthogonal matrices and rotate gradients by them."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rotation", "haar_frames"]


def haar_frames(groups: int, units: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw matrices with orthonormal columns from the uniform (Haar) distribution.

    With as many columns as units, each matrix is orthogonal. The draws are made on the generator's device.

    Parameters
    ----------
    groups : int
        The number of independent draws.
    units, columns : int
        The shape of each draw; columns must not exceed units.
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

    After each reflection the remaining block is Gaussian again, so no QR is needed (Stewart 1980). The signs
    make Q uniform (Mezzadri 2007).
    """
    shape = (groups, units, columns)
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
    vectors = gaussian.double().tril()
    first = vectors.diagonal(dim1=-2, dim2=-1)
    ends = -torch.where(first < 0, -1.0, 1.0) * vectors.norm(dim=-2)
    scales = (ends - first) / ends
    # LAPACK assumes that each vector's first entry is 1 and reads only the entries below.
    return vectors / (first - ends)[:, None], scales, ends.sign()


@dataclass(frozen=True)
class Rotation:
    """A gradient that is ready for rotation along one axis, with a separate matrix for each group of units.

    Every sample and position gets the same rotation. A gradient whose rank is below the number of units is
    stored as L Q^T, with orthonormal rows in Q^T. Q^T R has the distribution of a Haar frame, which is
    cheaper to draw than R.

    Parameters
    ----------
    left : Tensor (group, row, unit), float64
        The gradient itself, or L padded with zeros.
    columns : int
        The number of columns of each frame.
    shape : torch.Size
        The shape of the gradient after the axis is moved to the end.
    axis : int
        The axis of the units in the gradient, counted from the end.
    dtype : torch.dtype
        The dtype of the gradient.
    """

    left: Tensor
    columns: int
    shape: torch.Size
    axis: int
    dtype: torch.dtype

    @classmethod
    def of(cls, gradient: Tensor, axis: int, groups: int, rank: int) -> "Rotation":
        """Prepare a gradient for rotation.

        ``axis`` counts from the end, and ``rank`` bounds the rank of each group's rows.
        """
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
