"""Which modules of a model are recorded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.capture.adapter import LayerAdapter, adapter_of, has_own_forward
from fadiag.errors import CaptureError, InputError

__all__ = ["RecordedLayer", "choose_layers", "in_order", "others_of", "owners_of"]


@dataclass(frozen=True)
class RecordedLayer:
    """A module that is recorded, under its name and with its adapter."""

    name: str
    module: nn.Module
    adapter: LayerAdapter

    @property
    def weight(self) -> Tensor:
        """The forward weight."""
        return self.adapter.weight(self.module)

    @property
    def outputs(self) -> int:
        """The number of outputs (channels of a convolution); 0 where the weight cannot just be read."""
        own = self.module._parameters.get("weight")
        # To read a parametrized weight computes it, and may change its state.
        if isinstance(getattr(type(self.module), "weight", None), property) or (
            own is not None and is_lazy(own)
        ):
            return 0
        return int(self.weight.shape[self.adapter.weight_dims.index("out")])

    @property
    def bias(self) -> Tensor | None:
        """The bias, where there is one."""
        bias = getattr(self.module, "bias", None)
        return bias if isinstance(bias, Tensor) else None

    @property
    def feedback(self) -> Tensor | None:
        """The matrix in the weight's place in the backward pass; None where the backward is exact."""
        return self.adapter.feedback(self.module)


def choose_layers(
    model: nn.Module, adapters: Sequence[LayerAdapter], chosen: Iterable[str | type[nn.Module]] | None
) -> tuple[RecordedLayer, ...]:
    """Return the modules to record, each once: all that an adapter takes, or those chosen.

    Parameters
    ----------
    model : nn.Module
    adapters : sequence of LayerAdapter
    chosen : iterable of str or module class, optional
        Names, globs (``"conv*"``) or classes; the model's own name is "".

    Raises
    ------
    InputError
        A name that no module has (the near ones are listed), or whose module no adapter takes.
    CaptureError
        There is nothing to record, or a layer cannot be: of an ``nn.MultiheadAttention``, a linear layer or
        convolution with a forward pass of its own, a weight that is not there yet or computed at each pass.
    """
    modules = dict(model.named_modules())
    found = {
        name: RecordedLayer(name, module, adapter)
        for name, module in modules.items()
        if (adapter := adapter_of(module, adapters)) is not None
    }
    names = list(found) if chosen is None else _names(chosen, modules, found)
    if chosen is None:
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
    if chosen is not None and not names:
        raise InputError("layers is empty, so nothing would be recorded; name layers or leave it out")
    if not names:
        raise CaptureError(
            f"{type(model).__name__} has nothing to record: no layer that an adapter knows among its "
            f"{len(modules)} modules; give adapters=(LayerAdapter(...),) for yours"
        )
    for name in names:
        _check_weight(name, found[name].module)
    return tuple(found[name] for name in names)


def others_of(
    model: nn.Module, adapters: Sequence[LayerAdapter], layers: Sequence[RecordedLayer]
) -> tuple[RecordedLayer, ...]:
    """Return the layers that an adapter takes and that are not recorded."""
    recorded = {layer.name for layer in layers}
    return tuple(
        RecordedLayer(name, module, adapter)
        for name, module in model.named_modules()
        if name not in recorded and (adapter := adapter_of(module, adapters)) is not None
    )


def in_order(model: nn.Module, layers: Sequence[RecordedLayer]) -> tuple[RecordedLayer, ...]:
    """Return layers in the order in which the model has them."""
    place = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(layers, key=lambda layer: place[layer.name]))


def owners_of(layers: Sequence[RecordedLayer]) -> dict[int, RecordedLayer]:
    """Return the first layer that has each weight, by the weight's id: tied weights are recorded once."""
    owners: dict[int, RecordedLayer] = {}
    for layer in layers:
        owners.setdefault(id(layer.weight), layer)
    return owners


def _own_forward(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return (
        f"layer {name!r} is a {kind} with a forward pass of its own, so its feedback is not known; give "
        f"adapters=(exact_layers({kind}),) where its backward pass is autograd's, a LayerAdapter where it is "
        "not, or leave it out by layers=[...]"
    )


def _check_weight(name: str, module: nn.Module) -> None:
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
    if weight is None and hasattr(module, "weight"):
        raise CaptureError(
            f"layer {name!r} has a weight that is computed anew at each pass (a parametrization, weight or "
            "spectral norm), so no gradient or update of it can be recorded; remove the parametrization, or "
            "leave the layer out by layers=[...]"
        )


def _names(
    chosen: Iterable[str | type[nn.Module]], modules: dict[str, nn.Module], found: dict[str, RecordedLayer]
) -> list[str]:
    wanted: set[str] = set()
    for item in [chosen] if isinstance(chosen, (str, type)) else chosen:
        if isinstance(item, type):
            hits = [name for name, layer in found.items() if isinstance(layer.module, item)]
        elif item in modules and item not in found:
            if has_own_forward(modules[item]):
                raise CaptureError(_own_forward(item, modules[item]))
            kind = type(modules[item]).__name__
            raise InputError(
                f"layer {item!r} is a {kind}, for which there is no adapter; "
                "give adapters=(LayerAdapter(...),)"
            )
        else:
            hits = [name for name in found if name == item or fnmatchcase(name, item)]
        if not hits:
            what = item.__name__ if isinstance(item, type) else repr(item)
            near = get_close_matches(str(item), found, n=3, cutoff=0.4)
            names = ", ".join(map(repr, near or list(found)[:6])) or "none that an adapter knows"
            raise InputError(f"unknown layer {what}; {'near are' if near else 'there are'} {names}")
        wanted.update(hits)
    return [name for name in found if name in wanted]
