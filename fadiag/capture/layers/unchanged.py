"""Check during a run that the model still has the modules and parameters that its recorder saw first."""

from collections.abc import Sequence

from torch import nn

from fadiag.capture.layers.adapter import LayerAdapter, adapter_of
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.errors import CaptureError
from fadiag.rules.computed_weights import parametrization_of

__all__ = ["ModelStructure"]

_WAY_OUT = "record the changed model into a separate store"


class ModelStructure:
    """The modules and recorded parameters of a model at the start of the run.

    Parameters
    ----------
    model : nn.Module
    layers, others : sequence of RecordedLayer
        The recorded layers and the other layers.
    adapters : sequence of LayerAdapter
        Recognize a layer that appears later.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        adapters: Sequence[LayerAdapter],
    ) -> None:
        self._model, self._layers, self._adapters = model, (*layers, *others), adapters
        self._modules = dict(model.named_modules())
        # An adapter may compute its weight. The module then has no such parameter to replace.
        self._parameters = [
            (layer, name, parameter, (parameter.shape, parameter.dtype))
            for layer in layers
            for name, parameter in layer.module._parameters.items()
            if parameter is not None and (parameter is layer.weight or parameter is layer.bias)
        ]

    def check(self, step: int) -> None:
        """Raise if the model changed.

        Raises
        ------
        CaptureError
            A layer was replaced, removed or added. A recorded parameter was replaced, or its shape or type
            changed.
        """
        modules = dict(self._model.named_modules())
        for layer in self._layers:
            if modules.get(layer.name) is not layer.module:
                raise CaptureError(
                    f"layer {layer.name!r} was replaced or removed in mid-run, before step {step}; {_WAY_OUT}"
                )
        for name, module in modules.items():
            if self._modules.get(name) is not module and adapter_of(module, self._adapters) is not None:
                raise CaptureError(
                    f"layer {name!r} appeared in mid-run, before step {step}, so it is not recorded and the "
                    f"order of the layers is another; {_WAY_OUT}"
                )
        for layer in self._layers:
            if layer.parametrization and not parametrization_of(layer.module):
                raise CaptureError(
                    f"the weight of layer {layer.name!r} is no longer computed by {layer.parametrization}, "
                    f"before step {step}: the optimizer has another parameter than at first; {_WAY_OUT}"
                )
        for layer, name, parameter, (shape, dtype) in self._parameters:
            now = layer.module._parameters.get(name)
            if now is not None and (now.shape, now.dtype) != (shape, dtype):
                raise CaptureError(
                    f"the {name} of layer {layer.name!r} was {dtype} {tuple(shape)} and is now "
                    f"{now.dtype} {tuple(now.shape)}: the model changed in mid-run; {_WAY_OUT}"
                )
            if now is not parameter:
                raise CaptureError(
                    f"the {name} of layer {layer.name!r} is another Parameter than at first, before step "
                    f"{step}, and not the one that the optimizer had; change the values in place "
                    f"({name}.data.copy_(...)), or {_WAY_OUT}"
                )
