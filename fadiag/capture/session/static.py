"""Write the initial weights, biases and feedback to the store, once per run."""

from collections.abc import Sequence
from typing import Any

from fadiag.capture.layers.attributes import feedback_attrs, kernel_attrs
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.session.stream_writer import ROOT
from fadiag.capture.signals.arrays import to_array
from fadiag.store import RunWriter

__all__ = ["put_static"]


def put_static(writer: RunWriter, layers: Sequence[RecordedLayer]) -> None:
    """Write each layer's ``weight_init``, and its ``bias_init`` and ``feedback`` if it has them."""
    for layer in layers:
        tensors = {"weight_init": layer.weight, "bias_init": layer.bias, "feedback": layer.feedback}
        for signal, given in tensors.items():
            if given is None:
                continue
            tensor = given.detach().clone()
            dims: tuple[str, ...] = ("out",)
            attrs: dict[str, Any] = {}
            if signal == "feedback":
                tensor, dims, attrs = (
                    layer.feedback_matrix(tensor),
                    layer.feedback_dims,
                    feedback_attrs(layer),
                )
            elif given.dim() > 1:
                tensor, dims, attrs = layer.matrix(tensor), layer.matrix_dims, kernel_attrs(layer.weight)
            writer.put_static(
                layer.name or ROOT, signal, to_array(tensor), dims=dims, attrs={"signal": signal, **attrs}
            )
