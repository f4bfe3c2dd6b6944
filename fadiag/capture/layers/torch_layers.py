"""Define the adapters of torch's layers and of transformers' Conv1D, whose backward pass is exact."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, exact_layers, read_weight, refuse_matrix
from fadiag.rules import FeedbackLayer, FeedbackTransposedLinear
from fadiag.rules.computed_weights import change_class
from fadiag.rules.layers import is_conv1d
from fadiag.rules.layers.kinds import KINDS

__all__ = [
    "embeddings",
    "has_own_forward",
    "is_transposed",
    "plain_layers",
    "transposed_convolutions",
    "transposed_linears",
    "volume_convolutions",
]

#: The class with feedback of each kind of layer of torch.
_WITH_FEEDBACK = {kind: fed for kind, fed in KINDS.items() if not isinstance(kind, str)}


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_OF_TORCH = (*_WITH_FEEDBACK, nn.Conv3d, *_TRANSPOSED)


def has_own_forward(module: nn.Module) -> bool:
    """Return whether a subclass of ``nn.Linear`` or of a convolution overrides its forward pass.

    The override may change the backward pass too, so the feedback of the layer is unknown.
    """
    return isinstance(module, _OF_TORCH) and not _is_torchs(module, _OF_TORCH)


def is_transposed(module: nn.Module) -> bool:
    """Return whether a module is a transposed convolution, whose kernel is (in, out / groups, *kernel)."""
    return isinstance(module, _TRANSPOSED)


def _is_torchs(module: nn.Module, kinds: Iterable[type[nn.Module]]) -> bool:
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _is_plain(module: nn.Module) -> bool:
    return _is_torchs(module, _WITH_FEEDBACK)


@contextmanager
def _plain_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    own: type[nn.Module] = type(module)
    if is_conv1d(module):
        change_class(module, FeedbackTransposedLinear)
    else:
        change_class(module, next(fed for kind, fed in _WITH_FEEDBACK.items() if isinstance(module, kind)))
    assert isinstance(module, FeedbackLayer)
    module.attach_feedback(matrix)
    try:
        yield
    finally:
        del module.feedback
        object.__setattr__(module, "__class__", own)


#: torch's linear layers and its convolutions of one and two dimensions.
plain_layers = LayerAdapter(_is_plain, read_weight, lambda module: None, "exact", _plain_using)
#: transformers' Conv1D, a linear layer with a weight of (in, out).
transposed_linears = replace(plain_layers, types=is_conv1d, weight_dims=("in", "out"))
#: torch's convolutions for which no rule defines a feedback.
volume_convolutions = replace(plain_layers, types=lambda m: _is_torchs(m, (nn.Conv3d,)), using=refuse_matrix)
transposed_convolutions = replace(
    volume_convolutions, types=lambda m: _is_torchs(m, _TRANSPOSED), weight_dims=("in", "out")
)
#: Embedding tables; no error propagates below them.
embeddings = exact_layers(nn.Embedding, weight_dims=("in", "out"))
