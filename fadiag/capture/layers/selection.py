"""Which modules of a model are recorded."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.capture.layers.adapter import (
    LayerAdapter,
    adapter_of,
    has_own_forward,
    is_transposed,
    unknown_layers,
)
from fadiag.capture.layers.adapter_tensors import check_tensors
from fadiag.capture.layers.backward_hooks import has_backward_hooks
from fadiag.capture.layers.direct import DirectSender
from fadiag.errors import CaptureError, FadiagError, InputError
from fadiag.rules.layer_choice import LayerChoice, match_layers

__all__ = ["RecordedLayer", "choose_layers", "in_order", "others_of", "owners_of"]


@dataclass(frozen=True)
class RecordedLayer:
    """A module that is recorded, under its name and with its adapter.

    ``named``: asked for by that name. ``sender``: the module that sends direct feedback to this layer's
    output. ``sends``: whether the layer itself sends such feedback to a layer below.
    """

    name: str
    module: nn.Module
    adapter: LayerAdapter
    named: bool = False
    sender: DirectSender | None = None
    sends: bool = False

    @property
    def weight(self) -> Tensor:
        """The forward weight."""
        return self.adapter.weight_of(self.module)

    @property
    def outputs(self) -> int:
        """The number of outputs (channels of a convolution); 0 where that is not known."""
        if self.adapter is unknown_layers:
            return _told_outputs(self.module) or _rows_of_matrix(self.module)
        own = self.module._parameters.get("weight")
        # To read a parametrized weight computes it, and may change its state.
        if isinstance(getattr(type(self.module), "weight", None), property) or (
            own is not None and is_lazy(own)
        ):
            return _told_outputs(self.module)
        outputs = int(self.weight.shape[self.adapter.weight_dims.index("out")])
        return outputs * self._groups if self._is_turned else outputs

    @property
    def _is_turned(self) -> bool:
        """Whether the weight is a kernel of (in, out / groups, *kernel)."""
        return self.adapter.weight_dims[0] == "in" and self.weight.dim() > 2

    @property
    def _groups(self) -> int:
        return int(getattr(self.module, "groups", 1))

    @property
    def matrix_dims(self) -> tuple[str, str]:
        """What the axes of the weight as a matrix are: a kernel's are always (out, in * kernel)."""
        return ("out", "in") if self._is_turned else self.adapter.weight_dims

    def matrix(self, given: Tensor) -> Tensor:
        """Unfold a tensor in the weight's shape to the two axes of `matrix_dims`."""
        if self._is_turned:
            # Each group has outputs of its own: (in, out, *kernel) of each to (out, in, *kernel).
            split = given.reshape(self._groups, -1, *given.shape[1:])
            given = split.transpose(1, 2).flatten(0, 1)
        return given.reshape(given.shape[0], -1)  # a kernel becomes (out, in * kernel)

    @property
    def bias(self) -> Tensor | None:
        """The bias, where there is one."""
        return self.adapter.bias(self.module)

    @property
    def feedback(self) -> Tensor | None:
        """The matrix in the weight's place in the backward pass, or the direct feedback that arrives here.

        None where the backward pass is exact.
        """
        if self.sender is not None:
            return self.sender.feedback
        return None if self.adapter.is_direct else self.adapter.feedback(self.module)

    @property
    def feedback_is_fixed(self) -> bool:
        """Whether the feedback stays the same for the whole run."""
        if self.sender is not None:
            return self.sender.adapter.feedback_is_fixed(self.sender.module)
        return self.adapter.is_direct or self.adapter.feedback_is_fixed(self.module)

    @property
    def feedback_dims(self) -> tuple[str, str]:
        """What the axes of the feedback as a matrix are: direct feedback goes from the outputs to h."""
        return self.matrix_dims if self.sender is None else ("output", "consumer_in")

    def feedback_matrix(self, feedback: Tensor) -> Tensor:
        """Unfold a feedback to the two axes of `feedback_dims`."""
        return self.matrix(feedback) if self.sender is None else feedback.flatten(1)

    def redrawn(self, generator: Generator) -> Tensor:
        """Return a fresh feedback of the layer's law."""
        source = self if self.sender is None else self.sender
        return source.adapter.redrawn(source.module, generator)

    def using(self, matrix: Tensor | None) -> AbstractContextManager[None]:
        """Make forward passes inside whose backward pass takes a matrix; None: is exact (direct feedback)."""
        if self.sender is not None:
            return self.sender.using(matrix)
        assert matrix is not None
        matrix = matrix.to(self.weight)
        if matrix is self.weight:
            # Not a copy: a penalty on a gradient has a gradient of its own to the weight in it.
            matrix = matrix.view_as(matrix)
        return self.adapter.using(self.module, matrix)

    @property
    def feedback_kind(self) -> str:
        """The adapter's; "hook" where it is exact but for what the module's own backward hooks do."""
        if self.sender is not None:
            return "direct"
        kind = "exact" if self.adapter.is_direct else self.adapter.feedback_kind
        return "hook" if kind == "exact" and not self.sends and has_backward_hooks(self.module) else kind


def choose_layers(
    model: nn.Module, adapters: Sequence[LayerAdapter], chosen: LayerChoice | Iterable[LayerChoice] | None
) -> tuple[RecordedLayer, ...]:
    """Return the modules to record, each once: all that an adapter takes, or those chosen.

    Parameters
    ----------
    model : nn.Module
    adapters : sequence of LayerAdapter
    chosen : iterable of str, module or module class, optional
        Names, globs (``"conv*"``), modules of the model, or classes; the model's own name is "".

    Raises
    ------
    InputError
        A name that no module has (the near ones are listed), or whose module no adapter takes; a weight, bias
        or feedback that is no tensor or does not fit the others.
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
        raise CaptureError(
            f"{type(model).__name__} has nothing to record: no layer that an adapter knows among its "
            f"{len(modules)} modules; give adapters=(LayerAdapter(...),) for yours"
        )
    for name in names:
        _check_weight(name, found[name].module)
        check_tensors(found[name].adapter, found[name].module, f"layer {name!r}")
        _check_outputs(found[name])
    return tuple(replace(found[name], named=named) for name, named in names.items())


def others_of(
    model: nn.Module, adapters: Sequence[LayerAdapter], layers: Sequence[RecordedLayer]
) -> tuple[RecordedLayer, ...]:
    """Return the layers that are not recorded: those that an adapter takes, and those that none knows.

    Unknown (their adapter is `unknown_layers`) is a module without others inside that owns a weight of two or
    more axes, norms left out: what its backward pass does, nobody can tell.
    """
    recorded = {layer.name for layer in layers}
    others = []
    for name, module in model.named_modules():
        adapter = adapter_of(module, adapters)
        # A module that only sends direct feedback holds F, which is no layer's weight.
        if (
            adapter is None
            and _has_matrix(module)
            and not any(a.is_direct and a.takes(module) for a in adapters)
        ):
            adapter = unknown_layers
        if name not in recorded and adapter is not None:
            others.append(RecordedLayer(name, module, adapter))
    return tuple(others)


def in_order(model: nn.Module, layers: Sequence[RecordedLayer]) -> tuple[RecordedLayer, ...]:
    """Return layers in the order in which the model has them."""
    place = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(layers, key=lambda layer: place[layer.name]))


def owners_of(layers: Sequence[RecordedLayer]) -> dict[int, RecordedLayer]:
    """Return the layer under which each weight is recorded, by the weight's id.

    Tied weights are recorded once: under the first of their layers that has feedback, so that W and B stand
    together, else under the first that is no table, else under the first.
    """
    tied: dict[int, list[RecordedLayer]] = {}
    for layer in layers:
        tied.setdefault(id(layer.weight), []).append(layer)
    return {
        weight: min(
            sharing,
            key=lambda x: (x.adapter.feedback_kind != "layerwise", isinstance(x.module, nn.Embedding)),
        )
        for weight, sharing in tied.items()
    }


def _has_matrix(module: nn.Module) -> bool:
    """Say whether a module that computes (a list of parameters does not) owns a matrix, with none inside."""
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or type(module).forward is nn.Module.forward:
        return False
    own = [p for p in module._parameters.values() if p is not None and not is_lazy(p)]
    return not module._modules and any(p.is_floating_point() and p.dim() > 1 for p in own)


def _told_outputs(module: nn.Module) -> int:
    """Return the number of outputs that a module says that it has; 0 where it says nothing of them."""
    for told in ("out_features", "out_channels", "hidden_size", "embedding_dim"):
        if isinstance(count := getattr(module, told, None), int):
            return count
    return 0


def _rows_of_matrix(module: nn.Module) -> int:
    return next(len(p) for p in module._parameters.values() if p is not None and p.dim() > 1)


def _refusal(name: str, module: nn.Module) -> FadiagError:
    """Return the error for a module that was asked for by name and that no adapter takes."""
    if has_own_forward(module):
        return CaptureError(_own_forward(name, module))
    kind = type(module).__name__
    return InputError(
        f"layer {name!r} is a {kind}, for which there is no adapter; give adapters=(LayerAdapter(...),)"
    )


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


def _check_outputs(layer: RecordedLayer) -> None:
    bias, outputs = layer.bias, layer.outputs
    fits = bias is None or bias.dim() != 1 or outputs in (0, len(bias))
    dims = layer.adapter.weight_dims
    if not fits or (is_transposed(layer.module) and dims[0] == "out"):
        kind = type(layer.module).__name__
        told = "" if fits or bias is None else f", and its bias {len(bias)}"
        raise InputError(
            f"layer {layer.name!r} is a {kind} whose weight {tuple(layer.weight.shape)} has {outputs} "
            f"outputs by its adapter's weight_dims={dims}{told}; is it kept the other way round? Then give "
            f"exact_layers({kind}, weight_dims={dims[::-1]})"
        )
