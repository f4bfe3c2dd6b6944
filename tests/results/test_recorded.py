import xarray as xr

from fadiag import analyze
from fadiag.results import load_results, save_results, select
from fadiag.results.recorded import recorded, to_recorded_attribute
from tests.conftest import build_run


def test_what_all_runs_share_is_kept_once_and_given_to_each() -> None:
    config = {"model": {"name": "mlp", "width": None}}
    entries = {"a": {"host": "x", "config": config}, "b": {"host": "y", "config": config}}
    attrs = to_recorded_attribute(entries)
    assert attrs["recorded"].count("mlp") == 1
    tree = xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=attrs), "/log": xr.Dataset(coords={"run": ["a", "b"]})}
    )
    both = {"config.model.name": "mlp", "config.model.width": "null"}
    assert recorded(tree) == {"a": {**both, "host": "x"}, "b": {**both, "host": "y"}}


def test_runs_without_a_manifest_say_nothing() -> None:
    assert to_recorded_attribute({"a": {}}) == {}
    assert recorded(xr.DataTree()) == {}


def test_results_say_how_their_runs_were_recorded(tmp_path) -> None:
    tree = build_run(0)
    manifest = {"host": "h", "versions": {"torch": "2.13"}, "meta": {"seed": 0}}
    tree.attrs.update(status="killed", manifest=manifest)
    results = analyze(tree, metrics=["error_effective_rank_raw"])
    again = load_results(save_results(results, tmp_path / "results.zarr"))
    (run,) = recorded(again)
    assert recorded(again)[run] == {"status": "killed", "host": "h", "versions.torch": "2.13"}
    assert recorded(select(again, run=run)) == recorded(again)
