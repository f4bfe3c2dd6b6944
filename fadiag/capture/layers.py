"""Which modules of a model are recorded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import Tensor, nn

from fadiag.capture.adapter import LayerAdapter, adapter_of
from fadiag.errors import CaptureError, InputError

__all__ = ["RecordedLayer", "choose_layers"]


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
        There is nothing to record, or an ``nn.MultiheadAttention`` is among the chosen.
    """
    modules = dict(model.named_modules())
    found = {
        name: RecordedLayer(name, module, adapter)
        for name, module in modules.items()
        if (adapter := adapter_of(module, adapters)) is not None
    }
    names = list(found) if chosen is None else _names(chosen, modules, found)
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
    return tuple(found[name] for name in names)


def _names(
    chosen: Iterable[str | type[nn.Module]], modules: dict[str, nn.Module], found: dict[str, RecordedLayer]
) -> list[str]:
    wanted: set[str] = set()
    for item in [chosen] if isinstance(chosen, (str, type)) else chosen:
        if isinstance(item, type):
            hits = [name for name, layer in found.items() if isinstance(layer.module, item)]
        elif item in modules and item not in found:
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
