"""Build the attributes of a layer that every stream stores."""

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
    """Return the attributes of a feedback; those of direct feedback name the module that sends it."""
    if layer.sender is None:
        return kernel_attrs(layer.weight)
    return {"sender": layer.sender.name, "consumer_shape": list(layer.sender.feedback.shape[1:])}


def layer_attrs(layer: RecordedLayer, order: int, count: int, last: RecordedLayer) -> dict[str, Any]:
    """Return the attributes of a layer that every stream stores.

    Parameters
    ----------
    layer : RecordedLayer
    order, count : int
        The layer's place among all layers of the model, recorded or not, and the number of layers. A stream
        of passes counts the calls of layers instead.
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
