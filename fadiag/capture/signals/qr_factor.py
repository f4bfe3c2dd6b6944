"""The triangular factor of a tall matrix, made of its rows block by block, in float64.

A matrix comes as *panels*: tensors (samples, columns, positions) whose rows, one a sample and position, stand
one below the other. Nothing is laid out as a whole; one block of float64 is.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["BLOCK_ROWS", "Panels", "blocks_of", "factor", "factor_of_gram", "unit_rows"]

#: The panels of one matrix.
Panels = Sequence[Tensor]

#: Rows taken at a time; more leave the processor's cache.
BLOCK_ROWS = 2048
#: Condition (of the columns at length one) above which a Gram matrix is not trusted: its square is lost in
#: rounding then. Below, R from the Gram matrix is that of a matrix within 1e-11 of the one given.
_CONDITION = 1e5


def blocks_of(*matrices: Panels, ones: bool = True) -> Iterator[Tensor]:
    """Give the transpose of [1 | X | Y | ...] block by block, in float64.

    Parameters
    ----------
    *matrices : panels
        With the same rows.
    ones : bool
        Whether the column of ones stands before them.

    Yields
    ------
    Tensor (columns of all, rows)
        The same memory each time.
    """
    first = int(ones)
    columns = first + sum(panels[0].shape[1] for panels in matrices)
    for panels in zip(*matrices, strict=True):
        samples, _, positions = panels[0].shape
        size = max(1, min(samples, max(BLOCK_ROWS, 2 * columns) // positions))
        buffer = panels[0].new_ones(columns, size, positions, dtype=torch.float64)
        for start in range(0, samples, size):
            taken, place = [panel[start : start + size] for panel in panels], first
            if len(taken[0]) < size:
                buffer = buffer.new_ones(columns, len(taken[0]), positions)
            for part in taken:
                buffer[place : place + part.shape[1]].copy_(part.transpose(0, 1))
                place += part.shape[1]
            yield buffer.flatten(1)


def factor(*matrices: Panels, ones: bool = True) -> Tensor:
    r"""Return R of the QR of [1 | X | Y | ...]: :math:`R^T R = [1|X|Y]^T [1|X|Y]`.

    The rotation is lost, so R has the singular values and the right subspaces of the whole, and of each block
    of its columns, whatever the number of rows. R without its first row is a factor of the rows less their
    mean, since the first column is that of ones.

    Parameters
    ----------
    *matrices : panels
        Finite, with the same rows.
    ones : bool
        Whether the column of ones stands before them.

    Returns
    -------
    Tensor (k, columns of all), float64
        Upper triangular with a diagonal that is not negative; k is the number of columns, or that of the rows
        where it is smaller.

    Notes
    -----
    From the Gram matrix by Cholesky where the columns are well conditioned, which a rigorous bound tells;
    otherwise by QR of block after block (TSQR), at some four times the cost.

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
    # Squares of float64 data may vanish or overflow, those of float32 may not.
    if rows >= columns and all(panel.dtype != torch.float64 for panels in matrices for panel in panels):
        upper = _from_gram(gram_of(blocks_of(*matrices, ones=ones)))
        if upper is not None:
            return upper
    if rows == 0:
        return matrices[0][0].new_zeros(0, columns, dtype=torch.float64)
    return _tsqr(blocks_of(*matrices, ones=ones))


def gram_of(blocks: Iterator[Tensor]) -> Tensor:
    """Return X^T X of blocks of X^T."""
    gram: Tensor | None = None
    for block in blocks:
        gram = block @ block.T if gram is None else gram.addmm_(block, block.T)
    assert gram is not None
    return gram


def _from_gram(gram: Tensor) -> Tensor | None:
    """Return R where the Gram matrix has it to rounding, else None. A column of zeros is no obstacle."""
    lengths = gram.diagonal().sqrt()
    scale = torch.where(lengths > 0, lengths, 1.0)
    even = gram / scale[:, None] / scale
    even.diagonal().fill_(1.0)
    upper, failed = torch.linalg.cholesky_ex(even, upper=True)
    if failed:
        return None
    inverse = torch.linalg.solve_triangular(upper, torch.eye(len(upper)).to(upper), upper=True)
    if not torch.linalg.matrix_norm(inverse) * len(upper) ** 0.5 < _CONDITION:
        return None
    found: Tensor = upper * lengths
    return found


def _tsqr(blocks: Iterator[Tensor]) -> Tensor:
    upper: Tensor | None = None
    for block in blocks:
        stacked = block.T if upper is None else torch.cat([upper, block.T])
        upper = torch.linalg.qr(stacked, mode="r").R
    assert upper is not None
    return _upright(upper)


def _upright(upper: Tensor) -> Tensor:
    """Turn the rows, whose sign is free, so that the diagonal is not negative."""
    signs = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(upper)
    return upper * signs[:, None] + 0.0  # no negative zeros


def factor_of_gram(gram: Tensor) -> Tensor:
    """Return an upper triangular R with R^T R the given Gram matrix, as good as its rounding lets it be."""
    upper = _from_gram(gram)
    if upper is not None:
        return upper
    energies, directions = torch.linalg.eigh(gram)
    root = energies.clamp(min=0.0).sqrt()[:, None] * directions.T
    return _upright(torch.linalg.qr(root.flip(0), mode="r").R)


def unit_rows(panels: Panels, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the squared norm of each row, sum |x_i - mean|^4, and the factor of [1 | rows at length one].

    Rows of zeros stay zeros. The Gram matrix that the factor is of is summed block by block in the precision
    of the signal: the factor's small singular values are lost below 1e-4 of the largest in float32.

    Returns
    -------
    squares : Tensor (rows,), float64
    fourth : Tensor (), float64
    factor : Tensor (1 + columns, 1 + columns), float64
    """
    kept = panels[0].dtype if panels[0].dtype == torch.float64 else torch.float32
    columns = panels[0].shape[1]
    gram = torch.zeros(1 + columns, 1 + columns).to(panels[0].device, torch.float64)
    squares, fourth = [], gram.new_zeros(())
    adding = gram.new_ones(1, columns)
    work, unit = gram.new_empty(0), torch.empty(0)
    for block in blocks_of(panels, ones=False):
        if work.shape != block.shape:  # fresh memory for each block would cost as much as the arithmetic
            work, unit = torch.empty_like(block), torch.empty_like(block, dtype=kept)
        square = (adding @ torch.mul(block, block, out=work))[0]
        squares.append(square)
        torch.sub(block, mean[:, None], out=work)
        fourth += (adding @ work.square_()).square().sum()
        torch.mul(block, torch.where(square > 0, square.rsqrt(), 0.0), out=work)
        unit.copy_(work)
        gram[1:, 1:] += unit @ unit.T
        gram[0, 1:] += unit.sum(dim=1)
        gram[0, 0] += unit.shape[1]
    gram[1:, 0] = gram[0, 1:]
    return torch.cat(squares or [gram.new_zeros(0)]), fourth, factor_of_gram(gram)
