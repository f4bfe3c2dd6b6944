"""Muon steps along the momentum with all its singular values set to about one."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from fadiag.training.optimizers.matrix import MatrixOptimizer

__all__ = ["Muon", "Orthogonalization", "newton_schulz", "polar_factor"]

Orthogonalization = Literal["bf16", "float32", "polar"]

#: The coefficients of K. Jordan's iteration, and the least norm that a matrix is divided by.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_EPS = 1e-7
#: Smaller singular values, relative to the largest, count as zero.
_TAU = 1e-6


class Muon(MatrixOptimizer):
    """Muon for linear layers and convolutions, whose kernels are read as (out, in * kh * kw).

    Parameters
    ----------
    params, lr, momentum, weight_decay
        As in `MatrixOptimizer`.
    orthogonalization : {"bf16", "float32", "polar"}
        Five steps of Newton-Schulz in bfloat16, as in `torch.optim.Muon`, or in float32; or `polar_factor`.
    top_k : int, optional
        Keep only the k largest singular directions of the polar factor.

    References
    ----------
    K. Jordan, Muon: an optimizer for hidden layers in neural networks, 2024,
    https://kellerjordan.github.io/posts/muon/

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
    >>> weight.grad = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    >>> Muon([weight], lr=0.1, orthogonalization="polar").step()
    >>> weight.data
    tensor([[-0.1000,  0.0000],
            [ 0.0000, -0.1000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        orthogonalization: Orthogonalization = "bf16",
        top_k: int | None = None,
    ) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)
        self.orthogonalization = orthogonalization
        self.top_k = top_k

    def directions(self, batch: Tensor) -> Tensor:
        """Return the orthogonalized matrices."""
        if self.orthogonalization == "polar":
            return polar_factor(batch, self.top_k)
        return newton_schulz(batch, torch.bfloat16 if self.orthogonalization == "bf16" else torch.float32)


def newton_schulz(batch: Tensor, dtype: torch.dtype, steps: int = 5) -> Tensor:
    """Return matrices with the same singular directions and singular values near one (about 0.7 to 1.2).

    Parameters
    ----------
    batch : Tensor, shape (matrix, rows, columns)
    dtype : torch.dtype
        The precision of the iteration.
    steps : int

    Examples
    --------
    >>> newton_schulz(torch.diag(torch.tensor([5.0, 3.0]))[None], torch.float32).round(decimals=2)
    tensor([[[0.9700, 0.0000],
             [0.0000, 0.7100]]])
    """
    x = batch.to(dtype)
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    x = x / x.flatten(1).norm(dim=1).clamp(min=_EPS)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


def polar_factor(batch: Tensor, top_k: int | None = None) -> Tensor:
    """Return U V^T of each matrix U S V^T, over its singular values above 1e-6 of the largest.

    It comes from the eigenvectors of the smaller Gram matrix, in float64. A matrix of zeros gives zeros.

    Parameters
    ----------
    batch : Tensor, shape (matrix, rows, columns)
    top_k : int, optional
        Keep only the k largest singular values.

    Examples
    --------
    >>> polar_factor(torch.diag(torch.tensor([5.0, 3.0, 0.0]))[None], top_k=1)[0].diag()
    tensor([1., 0., 0.])
    """
    x = batch.double()
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    squares, vectors = torch.linalg.eigh(x @ x.mT)
    s: Tensor = squares.clamp(min=0).sqrt()  # ascending
    kept = s > _TAU * s[:, -1:]
    if top_k is not None:
        kept[:, : -min(top_k, s.shape[1])] = False
    inverse = torch.where(kept, 1 / s, 0.0)
    factor: Tensor = (vectors * inverse[:, None, :]) @ (vectors.mT @ x)
    return (factor.mT if tall else factor).to(batch.dtype)
