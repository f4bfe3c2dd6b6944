"""Define the adapters of fadiag's own layers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import Generator, Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, permuted, read_weight, refuse_matrix, spending
from fadiag.rules import AlteredModule, DirectLayer, FeedbackLayer, FeedbackTransposedLinear, draw_feedback
from fadiag.rules.layers import TransposedLinear

__all__ = [
    "has_interventions",
    "own_altered_layers",
    "own_altered_transposed_linears",
    "own_direct_layers",
    "own_direct_transposed_linears",
    "own_layers",
    "own_transposed_linears",
    "without_interventions",
]


def _own_feedback(module: nn.Module) -> Tensor | None:
    assert isinstance(module, FeedbackLayer)
    return module.feedback


def _own_redraw(module: nn.Module, generator: Generator) -> Tensor:
    assert isinstance(module, FeedbackLayer)
    # The entries of an orthogonal matrix are not independent: in another order they are of another law.
    if module.law == "orthogonal" and module.feedback_is_fixed:
        return draw_feedback(module.feedback, "orthogonal", generator)
    return permuted(module.feedback, generator)


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


def _is_intervention(module: nn.Module) -> bool:
    """Return whether a module changes the backward pass and has no feedback."""
    return isinstance(module, AlteredModule) and not isinstance(module, FeedbackLayer)


def has_interventions(model: nn.Module) -> bool:
    """Return whether fadiag's own modules change the backward pass of a model otherwise than by feedback."""
    return any(map(_is_intervention, model.modules()))


@contextmanager
def without_interventions(model: nn.Module) -> Iterator[None]:
    """Make the backward pass exact at these modules, for forward passes made inside."""
    with ExitStack() as stack:
        for module in filter(_is_intervention, model.modules()):
            assert isinstance(module, AlteredModule)
            stack.enter_context(module.exact())
        yield


#: fadiag's own feedback layers.
own_layers = LayerAdapter(
    (FeedbackLayer,),
    read_weight,
    _own_feedback,
    "layerwise",
    _own_using,
    redraw=_own_redraw,
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
#: fadiag's own layers whose error is changed before it goes through the exact W^T.
own_altered_layers = LayerAdapter(
    lambda m: _is_intervention(m) and isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d)),
    read_weight,
    lambda module: None,
    "altered",
    refuse_matrix,
)
#: The same with a weight of (in, out).
own_altered_transposed_linears = replace(
    own_altered_layers,
    types=lambda m: _is_intervention(m) and isinstance(m, TransposedLinear),
    weight_dims=("in", "out"),
)
