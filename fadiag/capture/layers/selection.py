"""Choose the modules of a model to record."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn
from torch.nn.parameter import is_lazy

from fadiag.capture.layers.adapter import LayerAdapter, adapter_of, unknown_layers
from fadiag.capture.layers.adapter_tensors import check_tensors
from fadiag.capture.layers.recorded_layer import RecordedLayer, in_order, owners_of
from fadiag.capture.layers.torch_layers import has_own_forward, is_transposed
from fadiag.errors import CaptureError, FadiagError, InputError
from fadiag.rules.computed_weights import parametrization_of, parts_of_weights, trained_tensors
from fadiag.rules.layer_choice import LayerChoice, match_layers
from fadiag.rules.left_out import listed

__all__ = ["RecordedLayer", "choose_layers", "in_order", "is_gate_with_matrix", "others_of", "owners_of"]

#: torch's elementwise gates, as modules.
_GATES = tuple(
    getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin"}
)


def choose_layers(
    model: nn.Module, adapters: Sequence[LayerAdapter], chosen: LayerChoice | Iterable[LayerChoice] | None
) -> tuple[RecordedLayer, ...]:
    """Return the modules to record, each once: all that an adapter takes, or the chosen ones.

    Parameters
    ----------
    model : nn.Module
    adapters : sequence of LayerAdapter
    chosen : iterable of str, module or module class, optional
        Names, globs (``"conv*"``), modules of the model, or classes; the model's own name is "".

    Raises
    ------
    InputError
        No module has a chosen name (the error lists similar names), or no adapter takes the module.
        A weight, bias or feedback is not a tensor, or their shapes do not match.
    CaptureError
        There is nothing to record.
        A layer is a part of an ``nn.MultiheadAttention``, or overrides the forward pass of torch's layer.
        The weight of a layer is not initialized yet, or the way it is computed is unknown.
    """
    modules = dict(model.named_modules())
    found = {
        name: RecordedLayer(name, module, adapter, parametrization=parametrization_of(module))
        for name, module in modules.items()
        if (adapter := adapter_of(module, adapters)) is not None
    }
    if chosen is not None:
        able = {name: layer.module for name, layer in found.items()}
        names = match_layers(chosen, modules, able, _refusal)
    else:
        names = dict.fromkeys(found, False)
        for name, module in modules.items():
            if name not in found and has_own_forward(module):
                raise CaptureError(_own_forward(name, module))
    for name in names:
        parent = modules.get(name.rpartition(".")[0])
        if isinstance(parent, nn.MultiheadAttention):
            raise CaptureError(
                f"layer {name!r} belongs to an nn.MultiheadAttention, which never calls its out_proj as a "
                "module, so no hook sees its error; build the attention of nn.Linear modules, or leave it "
                "out by layers=[...]"
            )
    if not names:
        raise CaptureError(_nothing_to_record(model))
    for name in names:
        layer = found[name]
        _check_weight(layer)
        with layer.reading():
            check_tensors(layer.adapter, layer.module, f"layer {name!r}")
            _check_is_real(layer)
        _check_outputs(layer)
    return tuple(replace(found[name], named=named) for name, named in names.items())


def others_of(
    model: nn.Module, adapters: Sequence[LayerAdapter], layers: Sequence[RecordedLayer]
) -> tuple[RecordedLayer, ...]:
    """Return the layers that are not recorded, known to an adapter or not.

    A module that no adapter knows counts as a layer if it has no submodule and owns a weight of two or more
    axes. Its adapter is `unknown_layers`. Norms, gates and the parts of a parametrization are not layers.
    """
    recorded, parts = {layer.name for layer in layers}, parts_of_weights(model)
    others = []
    for name, module in model.named_modules():
        adapter = adapter_of(module, adapters)
        # A module that only sends direct feedback holds F, which is not a layer's weight.
        if (
            adapter is None
            and module not in parts
            and _has_matrix(module)
            and not is_gate_with_matrix(module)
            and not any(a.is_direct and a.takes(module) for a in adapters)
        ):
            adapter = unknown_layers
        if name not in recorded and adapter is not None:
            how = parametrization_of(module)
            others.append(RecordedLayer(name, module, adapter, parametrization=how))
    return tuple(others)


def is_gate_with_matrix(module: nn.Module) -> bool:
    """Return whether a module is a subclass of a torch gate that holds a matrix, such as an F."""
    return isinstance(module, _GATES) and not module._modules and _holds_matrix(module)


def _holds_matrix(module: nn.Module) -> bool:
    """Return whether a module itself has a parameter or buffer of two or more axes."""
    held = (*module._parameters.values(), *module._buffers.values())
    return any(x is not None and not is_lazy(x) and x.dim() > 1 for x in held)


def _has_matrix(module: nn.Module) -> bool:
    """Return whether a module with a forward pass owns a matrix and has no submodules."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or type(module).forward is nn.Module.forward:
        return False
    own = [*module._parameters.values(), *trained_tensors(module).values()]
    matrices = (p for p in own if p is not None and not is_lazy(p) and p.is_floating_point() and p.dim() > 1)
    return module._modules.keys() <= {"parametrizations"} and any(True for _ in matrices)


def _nothing_to_record(model: nn.Module) -> str:
    """Return the error for a model without a known layer; it names the classes that hold a matrix."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if _holds_matrix(module):
            found.setdefault(type(module).__name__, []).append(repr(name or "(root)"))
    classes = [f"{kind} ({listed(names, 4)})" for kind, names in found.items()]
    which = f"; these hold matrices: {', '.join(classes)}" if classes else ""
    return (
        f"{type(model).__name__} has nothing to record: no layer that an adapter knows among its "
        f"{sum(1 for _ in model.modules())} modules{which}; give adapters=(LayerAdapter(...),) for yours, as "
        "docs/adapters.md shows"
    )


def _refusal(name: str, module: nn.Module) -> FadiagError:
    """Return the error for a module that was asked for by name but that no adapter takes."""
    if has_own_forward(module):
        return CaptureError(_own_forward(name, module))
    kind = type(module).__name__
    return InputError(
        f"layer {name!r} is a {kind}, for which there is no adapter; give adapters=(LayerAdapter(...),)"
    )


def _own_forward(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    if hasattr(nn, kind):  # torch has other classes of this name, for example for quantization
        kind = f"{type(module).__module__}.{kind}"
    return (
        f"layer {name!r} is a {kind} that overrides the forward pass, so its feedback is not known; give "
        f"adapters=(exact_layers({kind}),) where its backward pass is autograd's, a LayerAdapter where it is "
        "not, or leave it out by layers=[...]"
    )


def _check_weight(layer: RecordedLayer) -> None:
    name, module = layer.name, layer.module
    weight = module._parameters.get("weight")
    if weight is not None and is_lazy(weight):
        raise CaptureError(
            f"layer {name!r} has no weight yet; run one batch through the model before it is recorded"
        )
    if weight is not None and weight.is_meta:
        raise CaptureError(
            f"layer {name!r} is on the meta device, where a weight has no values; move the model by "
            "to_empty() and load its state before it is recorded"
        )
    if weight is None and not layer.parametrization and hasattr(module, "weight"):
        raise CaptureError(
            f"layer {name!r} has a weight that is no parameter, and it is not known what computes it; use "
            "torch.nn.utils.parametrize, or leave the layer out by layers=[...]"
        )


def _check_is_real(layer: RecordedLayer) -> None:
    if layer.weight.is_complex():
        raise CaptureError(
            f"layer {layer.name!r} has a weight of {layer.weight.dtype}, and only real weights can be "
            "recorded; leave the layer out by layers=[...]"
        )


def _check_outputs(layer: RecordedLayer) -> None:
    bias, outputs = layer.bias, layer.outputs
    fits = bias is None or bias.dim() != 1 or outputs in (0, len(bias))
    dims = layer.adapter.weight_dims
    if not fits or (is_transposed(layer.module) and dims[0] == "out"):
        kind = type(layer.module).__name__
        also = "" if fits or bias is None else f", and its bias {len(bias)}"
        raise InputError(
            f"layer {layer.name!r} is a {kind} whose weight {tuple(layer.weight.shape)} has {outputs} "
            f"outputs by its adapter's weight_dims={dims}{also}; is it stored transposed? Then give "
            f"exact_layers({kind}, weight_dims={dims[::-1]})"
        )
