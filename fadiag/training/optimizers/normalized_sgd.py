"""NormalizedSGD makes steps of a fixed size in each layer, as a control for Muon."""

import torch
from torch import Tensor

from fadiag.training.optimizers.matrix import MatrixOptimizer

__all__ = ["NormalizedSGD"]


class NormalizedSGD(MatrixOptimizer):
    """SGD with the Frobenius norm of Muon's step: sqrt(min(outputs, inputs)) of each layer's direction.

    Muon differs from it in the spectrum of the step only. A gradient of zero makes no step.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(2, 3))
    >>> weight.grad = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    >>> NormalizedSGD([weight], lr=0.1, momentum=0.0).step()
    >>> weight.detach() * 10 / 2**0.5
    tensor([[-0.6000,  0.0000, -0.8000],
            [ 0.0000,  0.0000,  0.0000]])
    """

    def directions(self, batch: Tensor) -> Tensor:
        """Return each matrix with the norm sqrt(min(outputs, inputs))."""
        norms = batch.flatten(1).norm(dim=1)
        factors = torch.where(norms > 0, min(batch.shape[1:]) ** 0.5 / norms, 0.0)
        return batch * factors[:, None, None]
