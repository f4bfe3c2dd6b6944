"""Compute the triangular QR factor of a tall matrix block by block in float64.

A matrix is given as *panels*: tensors (samples, columns, positions). Each sample and position is one row, and
the panels follow one another. Only one block of rows at a time is copied to float64.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["BLOCK_ROWS", "Panels", "blocks_of", "factor", "factor_of_gram", "unit_rows"]

#: The panels of one matrix.
Panels = Sequence[Tensor]

#: Rows in a block; more do not fit the processor's cache.
BLOCK_ROWS = 2048
#: The largest condition number of the columns, scaled to length one, for which the Gram matrix is used. The
#: Gram matrix has the square of this condition number, so rounding would destroy it above the limit. Below
#: the limit, R from the Gram matrix is exact for a matrix within 1e-11 of the given one.
_CONDITION = 1e5


def blocks_of(*matrices: Panels, ones: bool = True) -> Iterator[Tensor]:
    """Yield the transpose of [1 | X | Y | ...] block by block, in float64.

    Parameters
    ----------
    *matrices : panels
        Matrices with the same rows.
    ones : bool
        Whether to put a column of ones first.

    Yields
    ------
    Tensor (columns of all, rows)
        Each block overwrites the previous one.
    """
    first = int(ones)
    columns = first + sum(panels[0].shape[1] for panels in matrices)
    for panels in zip(*matrices, strict=True):
        samples, _, positions = panels[0].shape
        size = max(1, min(samples, max(BLOCK_ROWS, 2 * columns) // positions))
        buffer = panels[0].new_ones(columns, size, positions, dtype=torch.float64)
        for start in range(0, samples, size):
            parts, column = [panel[start : start + size] for panel in panels], first
            if len(parts[0]) < size:
                buffer = buffer.new_ones(columns, len(parts[0]), positions)
            for part in parts:
                buffer[column : column + part.shape[1]].copy_(part.transpose(0, 1))
                column += part.shape[1]
            yield buffer.flatten(1)


def factor(*matrices: Panels, ones: bool = True) -> Tensor:
    r"""Return R of the QR of [1 | X | Y | ...]: :math:`R^T R = [1|X|Y]^T [1|X|Y]`.

    R has the singular values and the right singular subspaces of the whole matrix, and of each block of its
    columns. It loses the left singular subspaces. Without its first row, R is a factor of the rows minus
    their mean, because the first column is ones.

    Parameters
    ----------
    *matrices : panels
        Finite matrices with the same rows.
    ones : bool
        Whether to put a column of ones first.

    Returns
    -------
    Tensor (k, columns of all), float64
        Upper triangular with a nonnegative diagonal; k is the smaller of the number of rows and the number of
        columns.

    Notes
    -----
    If a rigorous bound shows that the columns are well conditioned, R is the Cholesky factor of the Gram
    matrix. Otherwise it comes from QR of one block after another (TSQR) and takes about four times as long.

    References
    ----------
    Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM J. Sci. Comput. 34 (2012).

    Examples
    --------
    >>> x = torch.tensor([[3.0, 1.0], [4.0, 2.0], [0.0, 2.0]])
    >>> factor([x.unsqueeze(2)], ones=False)
    tensor([[5.0000, 2.2000],
            [0.0000, 2.0396]], dtype=torch.float64)
    """
    rows = sum(panel.shape[0] * panel.shape[2] for panel in matrices[0])
    columns = ones + sum(panels[0].shape[1] for panels in matrices)
    # The squares of float64 data may underflow or overflow in float64, but those of float32 data do not.
    if rows >= columns and all(panel.dtype != torch.float64 for panels in matrices for panel in panels):
        upper = _from_gram(gram_of(blocks_of(*matrices, ones=ones)))
        if upper is not None:
            return upper
    if rows == 0:
        return matrices[0][0].new_zeros(0, columns, dtype=torch.float64)
    return _tsqr(blocks_of(*matrices, ones=ones))


def gram_of(blocks: Iterator[Tensor]) -> Tensor:
    """Return X^T X from blocks of X^T."""
    gram: Tensor | None = None
    for block in blocks:
        gram = block @ block.T if gram is None else gram.addmm_(block, block.T)
    assert gram is not None
    return gram


def _from_gram(gram: Tensor) -> Tensor | None:
    """Return R if it is accurate to rounding, else None. Columns of zeros are allowed."""
    lengths = gram.diagonal().sqrt()
    scale = torch.where(lengths > 0, lengths, 1.0)
    correlations = gram / scale[:, None] / scale
    correlations.diagonal().fill_(1.0)
    upper, failed = torch.linalg.cholesky_ex(correlations, upper=True)
    if failed:
        return None
    inverse = torch.linalg.solve_triangular(
        upper, torch.eye(len(upper), dtype=upper.dtype, device=upper.device), upper=True
    )
    if not torch.linalg.matrix_norm(inverse) * len(upper) ** 0.5 < _CONDITION:
        return None
    scaled: Tensor = upper * lengths
    return scaled


def _tsqr(blocks: Iterator[Tensor]) -> Tensor:
    upper: Tensor | None = None
    for block in blocks:
        stacked = block.T if upper is None else torch.cat([upper, block.T])
        upper = torch.linalg.qr(stacked, mode="r").R
    assert upper is not None
    return _with_positive_diagonal(upper)


def _with_positive_diagonal(upper: Tensor) -> Tensor:
    """Choose the free signs of the rows to make the diagonal nonnegative."""
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(upper)
    return upper * signs[:, None] + 0.0  # no negative zeros


def factor_of_gram(gram: Tensor) -> Tensor:
    """Return an upper triangular R with R^T R = gram, as accurate as the rounding of ``gram`` allows."""
    upper = _from_gram(gram)
    if upper is not None:
        return upper
    energies, directions = torch.linalg.eigh(gram)
    root = energies.clamp(min=0.0).sqrt()[:, None] * directions.T
    return _with_positive_diagonal(torch.linalg.qr(root.flip(0), mode="r").R)


def unit_rows(panels: Panels, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's squared norm, sum |x_i - mean|^4, and the factor of [1 | rows scaled to length one].

    Rows of zeros stay zero. The factor comes from a Gram matrix whose blocks are multiplied in the precision
    of the signal. In float32 it loses singular values below 1e-4 of the largest one.

    Returns
    -------
    squares : Tensor (rows,), float64
    fourth : Tensor (), float64
    factor : Tensor (1 + columns, 1 + columns), float64
    """
    precision = panels[0].dtype if panels[0].dtype == torch.float64 else torch.float32
    columns = panels[0].shape[1]
    gram = torch.zeros(1 + columns, 1 + columns, dtype=torch.float64, device=panels[0].device)
    squares, fourth = [], gram.new_zeros(())
    ones = gram.new_ones(1, columns)
    work, unit = gram.new_empty(0), panels[0].new_empty(0)
    for block in blocks_of(panels, ones=False):
        if work.shape != block.shape:  # allocating for each block would take as long as the arithmetic
            work, unit = torch.empty_like(block), torch.empty_like(block, dtype=precision)
        square = (ones @ torch.mul(block, block, out=work))[0]
        squares.append(square)
        torch.sub(block, mean[:, None], out=work)
        fourth += (ones @ work.square_()).square().sum()
        torch.mul(block, torch.where(square > 0, square.rsqrt(), 0.0), out=work)
        unit.copy_(work)
        gram[1:, 1:] += unit @ unit.T
        gram[0, 1:] += unit.sum(dim=1)
        gram[0, 0] += unit.shape[1]
    gram[1:, 0] = gram[0, 1:]
    return torch.cat(squares or [gram.new_zeros(0)]), fourth, factor_of_gram(gram)
