"""What the store says about a layer, whatever the stream."""

from typing import Any

from torch import Tensor
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.capture.layers.recorded_layer import RecordedLayer

__all__ = ["feedback_attrs", "kernel_attrs", "layer_attrs"]


def kernel_attrs(weight: Tensor) -> dict[str, Any]:
    """Return the attributes of a weight that was unfolded to two axes."""
    if weight.dim() <= 2:
        return {}
    return {"unfolding": "out x in*kernel", "kernel_shape": list(weight.shape[2:])}


def feedback_attrs(layer: RecordedLayer) -> dict[str, Any]:
    """Return the attributes of a feedback: a direct one names the module that sends it."""
    if layer.sender is None:
        return kernel_attrs(layer.weight)
    return {"sender": layer.sender.name, "consumer_shape": list(layer.sender.feedback.shape[1:])}


def layer_attrs(layer: RecordedLayer, order: int, count: int, last: RecordedLayer) -> dict[str, Any]:
    """Return what the store says of a layer, whatever the stream.

    Parameters
    ----------
    layer : RecordedLayer
    order, count : int
        Its place among all layers of the model (their calls, in a stream of passes), recorded or not, and
        their number.
    last : RecordedLayer
        The model's last layer, recorded or not: its outputs are the classes.
    """
    outputs, weight = layer.outputs, layer.weight
    attrs = {
        "name": layer.name,
        "type": type_before_parametrizations(layer.module).__name__,
        "order": order,
        "layers_in_model": count,
        "classes": outputs if last is layer else last.outputs,
        "feedback_kind": layer.feedback_kind,
        "out_features": outputs,
        "in_features": weight.numel() // outputs,
        "weight_shape": list(weight.shape),
    }
    attrs |= {"feedback_from": layer.feedback_source} if layer.feedback_source else {}
    return attrs | ({"parametrization": layer.parametrization} if layer.parametrization else {})
