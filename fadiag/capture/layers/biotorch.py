"""Read the layers of the biotorch package: FA and the sign rules.

This module does not import biotorch; it recognizes the classes by the name of their module. The parameter
``weight_backward`` is not always the matrix in use. For uSF it belongs to the last forward pass, so after an
update it belongs to older weights. For frSF it holds only the magnitudes.

Source: Sanfiz and Akrout, "Benchmarking the accuracy and robustness of feedback alignment algorithms",
arXiv 2108.13446.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, spending
from fadiag.errors import CaptureError

__all__ = ["biotorch_layers"]


def _is_biotorch(module: nn.Module) -> bool:
    return any(kind.__module__.startswith("biotorch.layers.fa_constructor") for kind in type(module).__mro__)


def _weight(module: nn.Module) -> Tensor:
    options = getattr(module, "options", {})
    if options.get("constrain_weights"):
        raise CaptureError(
            f"a biotorch {type(module).__name__} has constrain_weights=True, which replaces its weight by a "
            "new parameter at each pass, so that the optimizer's has no gradient; turn it off"
        )
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def _feedback(module: nn.Module) -> Tensor:
    given, sign = module.get_parameter("weight_backward").detach(), _weight(module).detach().sign()
    rule = _rule(module)
    if rule == "usf":
        return sign * float(module.scaling_factor)  # type: ignore[arg-type,no-any-return]
    return given.abs() * sign if rule == "frsf" else given


def _rule(module: Any) -> str:
    return str(module.type)


@contextmanager
def _using(module: Any, matrix: Tensor) -> Iterator[None]:
    rule, own = _rule(module), module.weight_backward

    def draw() -> None:
        if rule == "brsf":
            nn.init.xavier_uniform_(torch.empty(own.shape, device=own.device))  # in float32, as biotorch does

    # With the rule "fa", the layer uses weight_backward unchanged.
    module.type, module.weight_backward = "fa", nn.Parameter(matrix.detach(), requires_grad=False)
    try:
        with spending(module, draw):
            yield
    finally:
        module.type, module.weight_backward = rule, own


#: biotorch's fa, usf, brsf and frsf layers.
biotorch_layers = LayerAdapter(
    _is_biotorch,
    _weight,
    _feedback,
    "layerwise",
    _using,
    feedback_is_fixed=lambda module: _rule(module) == "fa",
)
