"""The triangular factor of a tall matrix, made of its rows block by block (TSQR), in float64."""

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["BLOCK_ROWS", "blocks_of", "factor", "unit_rows"]

#: Rows taken at a time; fewer waste time on the factor so far, more leave the processor's cache.
BLOCK_ROWS = 1024


def blocks_of(*matrices: Tensor, ones: bool = True, size: int = BLOCK_ROWS) -> Iterable[Tensor]:
    """Cut [1 | X | Y | ...] into blocks of rows in float64, without laying the whole side by side.

    Parameters
    ----------
    *matrices : Tensor (rows, columns)
        With the same rows.
    ones : bool
        Whether the column of ones stands before them.
    size : int
        Rows of a block.
    """
    size = max(size, 2 * sum(matrix.shape[1] for matrix in matrices))
    for start in range(0, len(matrices[0]), size):
        parts = [matrix[start : start + size].double() for matrix in matrices]
        if ones:
            parts.insert(0, parts[0].new_ones(len(parts[0]), 1))
        yield torch.cat(parts, dim=1)


def factor(blocks: Iterable[Tensor]) -> Tensor:
    r"""Return R of the QR of all blocks stood one below the other: :math:`R^T R = X^T X`.

    The rotation is lost, so R has the singular values and the right subspaces of X, whatever its number of
    rows; those of some of its columns too. With a column of ones first, R without its first row is a factor
    of the rows less their mean. Only one block and R are held.

    Parameters
    ----------
    blocks : iterable of Tensor (rows, columns), float64
        Finite, at least one.

    Returns
    -------
    Tensor (min(rows, columns), columns)
        Upper triangular with a diagonal that is not negative.

    References
    ----------
    Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34 (2012).

    Examples
    --------
    >>> x = torch.tensor([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]])
    >>> factor(blocks_of(x, ones=False))
    tensor([[5.0000, 2.2000],
            [0.0000, 2.0396]], dtype=torch.float64)
    """
    upper: Tensor | None = None
    for block in blocks:
        stacked = block if upper is None else torch.cat([upper, block])
        upper = torch.linalg.qr(stacked, mode="r").R
    assert upper is not None
    # The sign of each row is free.
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(upper)
    return upper * signs[:, None] + 0.0  # no negative zeros


def unit_rows(matrix: Tensor) -> Tensor:
    """Return the rows at length one, in float64; a row of zeros stays zero."""
    values = matrix.double()
    peak = values.abs().amax(dim=1, keepdim=True)
    values = values / torch.where(peak > 0, peak, 1.0)  # squares of tiny numbers would vanish
    norms = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    return values / torch.where(norms > 0, norms, 1.0)
