"""The summary of a store."""

from pathlib import Path

import numpy as np

from fadiag.store import (
    RunWriter,
    inspect_run,
)
from tests.store.runs import SPEC, values


def test_inspect_counts_gaps_sizes_and_nans(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"meta": {}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        writer.declare("probe", "b", "error", SPEC, layer_attrs={"order": 1})
        writer.declare("probe", "a", "error", SPEC, layer_attrs={"order": 0})
        writer.put_static("a", "weight_init", np.ones((3, 2)), dims=("out", "in"))
        for step in (0, 5, 10, 25, 30):
            writer.append("probe", step, {("a", "error"): values(step)}, extra={"loss": 1.0})
        writer.set_attrs("probe/a/error", {"nan_count": 17})
    summary = inspect_run(path)
    probe, static = summary.streams
    assert (probe.records, probe.first_step, probe.last_step, probe.every) == (5, 0, 30, 5)
    assert probe.gaps == ((10, 25),)
    assert [layer.name for layer in probe.layers] == ["a", "b"]
    assert probe.layers[0].signals[0].nan_count == 17
    assert probe.layers[1].signals[0].nan_count is None
    assert probe.layers[0].signals[0].shape == (5, 6, 3)
    assert [signal.name for signal in probe.signals] == ["loss"]
    assert static.layers[0].signals[0].nbytes == 48
    assert summary.info.status == "complete"
    assert summary.stored_bytes == probe.stored_bytes + static.stored_bytes > 0


def test_static_layers_are_in_forward_order(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"meta": {}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        for order, name in enumerate(("stem", "0", "2")):
            writer.declare("probe", name, "error", SPEC, layer_attrs={"order": order})
        for name in ("10", "9", "2", "0", "stem"):
            writer.put_static(name, "weight_init", np.ones((3, 2)), dims=("out", "in"))
    static = inspect_run(path).streams[-1]
    assert [layer.name for layer in static.layers] == ["stem", "0", "2", "9", "10"]
