"""List the adapters that every recorder uses."""

from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.biotorch import biotorch_layers
from fadiag.capture.layers.own_layers import (
    own_direct_layers,
    own_direct_transposed_linears,
    own_layers,
    own_transposed_linears,
)
from fadiag.capture.layers.torch_layers import (
    embeddings,
    plain_layers,
    transposed_convolutions,
    transposed_linears,
    volume_convolutions,
)

__all__ = ["DEFAULT_ADAPTERS"]

#: The first adapter that takes a module is used. `Recorder(adapters=...)` come before these.
DEFAULT_ADAPTERS: tuple[LayerAdapter, ...] = (
    # Each before those of its base classes.
    own_direct_transposed_linears,
    own_direct_layers,
    own_transposed_linears,
    own_layers,
    biotorch_layers,
    plain_layers,
    transposed_linears,
    volume_convolutions,
    transposed_convolutions,
    embeddings,
)
