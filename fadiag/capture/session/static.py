"""What is written once: the weights, biases and feedback that a run begins with."""

from collections.abc import Sequence

from fadiag.capture.layers.attributes import kernel_attrs
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.session.stream_writer import ROOT
from fadiag.capture.signals.arrays import to_array
from fadiag.store import RunWriter

__all__ = ["put_static"]


def put_static(writer: RunWriter, layers: Sequence[RecordedLayer]) -> None:
    """Write ``weight_init``, ``bias_init`` and ``feedback`` of each layer, where it has them."""
    for layer in layers:
        tensors = {"weight_init": layer.weight, "bias_init": layer.bias, "feedback": layer.feedback}
        for signal, given in tensors.items():
            if given is None:
                continue
            tensor, matrix = given.detach().clone(), given.dim() > 1
            writer.put_static(
                layer.name or ROOT,
                signal,
                to_array(layer.matrix(tensor) if matrix else tensor),
                dims=layer.matrix_dims if matrix else ("out",),
                attrs={"signal": signal, **(kernel_attrs(layer.weight) if matrix else {})},
            )
