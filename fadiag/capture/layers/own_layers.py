"""Define the adapters of fadiag's own layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, read_weight, spending
from fadiag.rules import DirectLayer, FeedbackLayer, FeedbackTransposedLinear

__all__ = ["own_direct_layers", "own_direct_transposed_linears", "own_layers", "own_transposed_linears"]


def _own_feedback(module: nn.Module) -> Tensor | None:
    assert isinstance(module, FeedbackLayer)
    return module.feedback


@contextmanager
def _own_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    assert isinstance(module, FeedbackLayer)
    with module.using_feedback(matrix), spending(module, module.spend_draws):
        yield


@contextmanager
def _own_exact(module: nn.Module) -> Iterator[None]:
    assert isinstance(module, DirectLayer)
    with module.exact():
        yield


#: fadiag's own feedback layers.
own_layers = LayerAdapter(
    (FeedbackLayer,),
    read_weight,
    _own_feedback,
    "layerwise",
    _own_using,
    feedback_is_fixed=lambda module: isinstance(module, FeedbackLayer) and module.feedback_is_fixed,
    feedback_is_learned=lambda module: isinstance(module, FeedbackLayer) and module.feedback_is_learned,
)
#: fadiag's own feedback layers with a weight of (in, out).
own_transposed_linears = replace(own_layers, types=(FeedbackTransposedLinear,), weight_dims=("in", "out"))
#: fadiag's own layers that send direct feedback.
own_direct_layers = replace(own_layers, types=(DirectLayer,), feedback_kind="direct", exact=_own_exact)
#: fadiag's own layers that send direct feedback, with a weight of (in, out).
own_direct_transposed_linears = replace(
    own_direct_layers,
    types=lambda m: isinstance(m, DirectLayer) and isinstance(m, FeedbackTransposedLinear),
    weight_dims=("in", "out"),
)
