"""Collect the metadata of a run for its store: versions, host, device and feedback hashes."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from fadiag import __version__
from fadiag.capture.layers.coverage import unknown_layer_types
from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.capture.session.distributed import feedback_digests
from fadiag.capture.session.json_values import as_json
from fadiag.errors import InputError

__all__ = ["manifest_of"]

_LIBRARIES = ("numpy", "xarray", "zarr")


def manifest_of(
    layers: Sequence[RecordedLayer],
    others: Sequence[RecordedLayer],
    meta: Mapping[str, Any] | None,
    config: Any,
    steps: int | None,
) -> dict[str, Any]:
    """Return the manifest: the user's meta and config, versions, host, device, dtype, steps, hashes of B.

    ``left_out`` names the modules that have weights but no adapter, and their types.

    Raises
    ------
    InputError
        The meta is not a mapping, or two of its keys are the same as text.
    """
    if meta is not None and not isinstance(meta, Mapping):
        raise InputError(f"meta is a {type(meta).__name__}; give a mapping, such as vars(args)")
    return {
        **as_json(meta=dict(meta or {}), config=config),
        "versions": {
            "fadiag": __version__,
            "torch": str(torch.__version__),
            **{name: version(name) for name in _LIBRARIES},
            "python": platform.python_version(),
        },
        "host": platform.node(),
        "device": str(layers[0].weight.device),
        "dtype": str(layers[0].weight.dtype).removeprefix("torch."),
        "feedback_hash": {name: digest for name, digest in feedback_digests(layers).items() if digest},
        "left_out": unknown_layer_types(others),
        **({} if steps is None else {"steps": int(steps)}),
    }
