"""Project the error of a layer's outputs on its leading right singular directions."""

from typing import Any, cast

import torch
from torch import Tensor

from fadiag.rules.layers.autograd import FeedbackFunction

__all__ = ["leading_part", "project_error"]


class ProjectError(FeedbackFunction):  # the recorder knows the operation by this name
    @staticmethod
    def forward(outputs: Tensor, rank: int, axis: int) -> Tensor:
        return outputs.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.rank, ctx.axis = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = gradients
        units = error.shape[ctx.axis]
        if ctx.rank >= min(units, error.numel() // max(1, units)):
            return error, None, None  # as it is: another layout in memory would change the last bits
        rows = error.movedim(ctx.axis, -1)
        part = leading_part(rows.reshape(-1, rows.shape[-1]), ctx.rank)
        return part.reshape(rows.shape).movedim(-1, ctx.axis), None, None


def leading_part(matrix: Tensor, rank: int) -> Tensor:
    """Return the projection of a matrix on its leading right singular directions.

    The directions are the eigenvectors of the smaller Gram matrix, in float64. If the matrix has no more than
    ``rank`` rows or columns, it is returned unchanged.

    Parameters
    ----------
    matrix : Tensor, shape (sample, unit)
    rank : int
        The number of directions.

    Examples
    --------
    >>> leading_part(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), 1)
    tensor([[3., 0.],
            [0., 0.],
            [0., 0.]])
    """
    if rank >= min(matrix.shape):
        return matrix
    # The scale keeps squares of small errors from underflow. An error that is not finite has no directions:
    # with zeros in its place the product below still shows it.
    values = matrix.double()
    finite = values.nan_to_num(0.0, 0.0, 0.0)
    finite = finite / finite.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    if matrix.shape[1] <= matrix.shape[0]:
        basis = torch.linalg.eigh(finite.t() @ finite)[1][:, -rank:]
        part: Tensor = (values @ basis) @ basis.t()
    else:
        basis = torch.linalg.eigh(finite @ finite.t())[1][:, -rank:]
        part = basis @ (basis.t() @ values)
    return part.to(matrix.dtype)


def project_error(outputs: Tensor, rank: int, axis: int) -> Tensor:
    """Return a layer's outputs unchanged; backward, their error is projected on ``rank`` directions.

    Parameters
    ----------
    outputs : Tensor
    rank : int
    axis : int
        The axis of the units or channels, counted from the end. All other axes are rows.

    Examples
    --------
    >>> a = torch.zeros(3, 2, requires_grad=True)
    >>> project_error(a, 1, -1).backward(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    >>> a.grad[1]
    tensor([0., 0.])
    """
    return cast("Tensor", ProjectError.apply(outputs, rank, axis))


torch.compiler.allow_in_graph(project_error)  # type: ignore[no-untyped-call]
