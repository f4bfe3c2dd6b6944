"""Define rank-limited backpropagation, an intervention: hidden errors keep their leading directions only."""

from typing import Any

import torch
from torch import Tensor

from fadiag.rules.layers.projection import project_error
from fadiag.rules.rule import AlteredModule, Rule

__all__ = ["RANK_LIMITED", "RankLimitedLayer"]


class RankLimitedLayer(AlteredModule):
    """Project the error of the layer's outputs on its leading ``rank`` right singular directions.

    The rows of the error are samples and positions, its columns units or channels. The projected error makes
    the weight's gradient and goes down through the exact W^T. The layer's forward hooks see the projected
    error. The directions are those of the batch: of one process under data parallelism, and of one
    micro-batch if gradients are accumulated.

    Attributes
    ----------
    rank : int
        0 at the output layer, whose error is not projected.
    """

    rank: int = 0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Call the layer with its hooks, then project the error that arrives from above."""
        outputs = super().__call__(*inputs, **named)
        if self._is_exact or not self.rank or not torch.is_grad_enabled():
            return outputs
        assert isinstance(outputs, Tensor)
        assert isinstance(self.weight, Tensor)
        space = self.weight.dim() - 2
        return project_error(outputs, self.rank, -1 - space)

    def extra_repr(self) -> str:
        """Return the description of the layer, with the rule and the rank."""
        return f"{super().extra_repr()}, rank={self.rank or 'full'}"


RANK_LIMITED = Rule("rank_limited", RankLimitedLayer, needs_example=True)
