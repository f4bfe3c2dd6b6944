"""The adapters of fadiag's own layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, read_weight, spending
from fadiag.rules import BatchSign, FeedbackLayer, FeedbackTransposedLinear

__all__ = ["own_layers", "own_transposed_linears"]


def _own_feedback(module: nn.Module) -> Tensor | None:
    assert isinstance(module, FeedbackLayer)
    return module.feedback


@contextmanager
def _own_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    assert isinstance(module, FeedbackLayer)
    weight = read_weight(module)

    def draw() -> None:
        if isinstance(module, BatchSign) and module.training:
            torch.randn_like(weight)

    with module.using_feedback(matrix), spending(module, draw):
        yield


#: fadiag's own feedback layers.
own_layers = LayerAdapter(
    (FeedbackLayer,),
    read_weight,
    _own_feedback,
    "layerwise",
    _own_using,
    feedback_is_fixed=lambda module: isinstance(module, FeedbackLayer) and module.feedback_is_fixed,
)
#: fadiag's own, with a weight of (in, out).
own_transposed_linears = replace(own_layers, types=(FeedbackTransposedLinear,), weight_dims=("in", "out"))
