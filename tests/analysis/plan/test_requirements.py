"""Whose signal a metric of a layer reads."""

from collections.abc import Callable

import xarray as xr

from fadiag.analysis.plan.requirements import layer_contexts
from fadiag.analysis.plan.runs import open_runs


def test_layers_above_and_below(make_run: Callable[..., xr.DataTree]) -> None:
    (run,) = open_runs(make_run())
    bottom, middle, top = layer_contexts(run, run.streams["state"])
    assert [context.owner(1) for context in (bottom, middle, top)] == ["fc2", "out", None]
    assert [context.owner(-1) for context in (bottom, middle, top)] == [None, "fc1", "fc2"]
    assert [context.owner(0) for context in (bottom, middle, top)] == ["fc1", "fc2", "out"]
    assert bottom.array("above2/weight") is run.streams["state"].layers["out"]["weight"]
    assert middle.array("below/static/feedback") is run.static["fc1"]["feedback"]
    assert top.array("above/weight") is None
    assert middle.array("recent/update") is run.streams["state"].layers["fc2"]["update"]


def test_a_layer_without_a_chain_has_its_own_signals_only(make_run: Callable[..., xr.DataTree]) -> None:
    (run,) = open_runs(make_run(drop=("fc2/weight", "fc2/weight_init")))
    middle = layer_contexts(run, run.streams["probe"])[1]
    assert middle.array("error") is run.streams["probe"].layers["fc2"]["error"]
    assert middle.array("above/error") is None
