"""The advice of fadiag.results."""

import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from fadiag.analysis import analyze
from fadiag.cli import main
from fadiag.results import (
    at_matched_loss,
    by_condition,
    condition_table,
    load_results,
    save_results,
    select,
)
from tests.advice.advice import Table, extras
from tests.conftest import build_run, record_run
from tests.results.synthetic_results import SMALL, synthetic

ADVICE = Table()
FEW = ["error_effective_rank_raw"]


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def invoke(*words):
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def measured():
    return analyze(build_run(0), metrics=FEW)


def small():
    return select(synthetic(**SMALL, seeds=(0,)), condition="fa").filter(lambda node: node.name != "probe")


# Conditions and seeds.


def _runs(*, condition=None, feedback=None):
    """Return two runs of condition "fa" and seed 0; the second has another run id, and what is given."""
    runs = [build_run(0), build_run(1)]
    for i, tree in enumerate(runs):
        tree.attrs["meta"] |= {"seed": 0} | ({} if feedback is None else {"feedback_seed": feedback[i]})
    if condition:
        runs[1].attrs["meta"]["condition"] = condition
    return runs


@ADVICE.story("compare such runs with `fadiag compare`, or analyze the runs of each feedback seed separately")
def _(at, provoked):
    runs = _runs(feedback=(0, 1))
    both = analyze(runs, metrics=FEW)
    with provoked():
        by_condition(both, FEW[0])
    save_results(both, at / "both.zarr")
    other = [build_run(seed, condition="bp") for seed in (2, 3)]
    for i, tree in enumerate(other):
        tree.attrs["meta"] |= {"seed": 0, "feedback_seed": i}
    save_results(analyze(other, metrics=FEW), at / "other.zarr")
    assert FEW[0] in invoke("compare", at / "both.zarr", at / "other.zarr", "--all")
    for run in runs:
        assert by_condition(analyze(run, metrics=FEW), FEW[0]).sizes["seed"] == 1


ADVICE.row(
    "give one of them another 'condition' in its meta, or analyze them separately",
    lambda at: by_condition(analyze(_runs(), metrics=FEW), FEW[0]),
    lambda at: by_condition(analyze(_runs(condition="fa, again"), metrics=FEW), FEW[0]),
    lambda at: [by_condition(analyze(run, metrics=FEW), FEW[0]) for run in _runs()],
)


@ADVICE.story("match no run together; select by one of them to see its runs")
def _(at, provoked):
    results = (
        synthetic(**SMALL, seeds=(0, 1))["probe"].to_dataset().isel(run=[0, 3])
    )  # bp of seed 0 and fa of seed 1
    with provoked():
        select(results, condition="bp", seed=1)
    assert select(results, condition="bp")["seed"].values.tolist() == [0]
    assert select(results, seed=1)["condition"].values.tolist() == ["fa"]


@ADVICE.story("record or log what is missing and analyze again")
def _(at, provoked):
    bare = analyze(build_run(0, drop=("error",)), metrics=["activation_effective_rank_raw"])
    with provoked():
        by_condition(bare, FEW[0])
    assert np.isfinite(by_condition(measured(), FEW[0])).all()
    run = build_run(0)
    run["log"] = run["log"].to_dataset().drop_vars("test_accuracy")
    with provoked():
        by_condition(analyze(run, metrics=FEW), "test_accuracy")
    assert np.isfinite(by_condition(measured(), "test_accuracy")).all()


@ADVICE.story("record or log what is missing and analyze again")
def _(at, provoked):
    with provoked():  # nothing of it is missing in the store: another metric was asked for
        by_condition(measured(), "error_cosine")
    assert np.isfinite(by_condition(analyze(build_run(0)), "error_cosine")).any()


# Files.


@ADVICE.story("exists and holds no results (a recorded run?); choose another name")
def _(at, provoked):
    store = record_run(build_run(0), at / "run.zarr")
    with provoked():
        analyze(store, metrics=FEW, output=store)
    analyze(store, metrics=FEW, output=at / "results.zarr")
    assert load_results(at / "results.zarr")["probe"].sizes["run"] == 1


@pytest.mark.parametrize(("suffix", "module"), [(".nc", "netCDF4"), (".parquet", "pyarrow")])
def test_the_extra_of_each_suffix_has_its_library(suffix, module, tmp_path):
    with (
        mock.patch.dict(sys.modules, {module: None}),
        pytest.raises(Exception, match="pip install") as provoked,
    ):
        save_results(small(), tmp_path / f"results{suffix}")
    extra = str(provoked.value).rpartition("[")[2].removesuffix("]'")
    assert any(module.lower() in one.lower() for one in extras()[extra])


@ADVICE.story("{path.name} needs {module}: pip install 'fadiag[{extra}]'")
def _(at, provoked):
    with provoked(), mock.patch.dict(sys.modules, {"netCDF4": None}):
        save_results(small(), at / "results.nc")
    pytest.importorskip("netCDF4")
    save_results(small(), at / "results.nc")


def _damaged(at):
    path = save_results(measured(), at / "results.zarr")
    (chunk,) = (file for file in (path / "probe" / FEW[0] / "c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-3])
    return path


@ADVICE.story("cannot be read ({cause}); remove it and analyze again")
def _(at, provoked):
    path = _damaged(at)
    with provoked():
        load_results(path)
    shutil.rmtree(path)
    analyze(build_run(0), metrics=FEW, output=path)
    assert FEW[0] in load_results(path)["probe"]


def _of_layout(at, layout):
    results = measured()
    results.attrs["fadiag_results"] = layout
    return save_results(results, at / "results.zarr")


for _layout, _says in (
    ("new", "which is no number; remove it and analyze again"),
    (1, "remove it and analyze again"),
):

    @ADVICE.story(_says)
    def _(at, provoked, layout=_layout):
        path = _of_layout(at, layout)
        with provoked():
            load_results(path)
        with provoked():  # analyze goes on from the results at its output, so it reads them
            analyze(build_run(0), metrics=FEW, output=path)
        shutil.rmtree(path)
        analyze(build_run(0), metrics=FEW, output=path)
        assert FEW[0] in load_results(path)["probe"]


@ADVICE.story("update fadiag")
def _(at, provoked):
    path = _of_layout(at, 99)
    with provoked():
        load_results(path)
    with mock.patch("fadiag.results.io.RESULTS_VERSION", 99):  # as in a later version
        assert FEW[0] in load_results(path)["probe"]


@ADVICE.story("results to read again are saved as results.zarr or results.nc")
def _(at, provoked):
    with provoked():
        load_results(save_results(small(), at / "results.csv"))
    for suffix in (".zarr", ".nc"):
        assert isinstance(load_results(save_results(small(), at / f"results{suffix}")), xr.DataTree)


@ADVICE.story("a recorded run is analyzed first: fadiag analyze {path} -o NEW.zarr")
def _(at, provoked):
    store = record_run(build_run(0), at / "run.zarr")
    with provoked() as heard:
        load_results(store)
    command = heard[-1].rpartition(": fadiag ")[2].replace("NEW.zarr", str(at / "new.zarr")).split()
    invoke(*command, "--metric", FEW[0])
    assert FEW[0] in load_results(at / "new.zarr")["probe"]


@ADVICE.story("is a path, not results; load them: fadiag.results.load_results({path})")
def _(at, provoked):
    path = str(save_results(small(), at / "results.zarr"))
    with provoked() as heard:
        select(path, condition="fa")
    call = heard[-1].rpartition(": ")[2]
    assert call == f"fadiag.results.load_results({path!r})"
    assert "log" in select(load_results(path), condition="fa").children


ADVICE.row(
    "is no results; give what fadiag.analyze or load_results returns",
    lambda at: select({}, condition="fa"),
    lambda at: select(load_results(save_results(small(), at / "results.zarr")), seed=0),
)


# At matched loss.


def _matched(results, layer="fc1"):
    return at_matched_loss(results, FEW[0], "fa", "bp", layer=layer, loss="test_accuracy")


ADVICE.row(
    "layer {given}; give one of {', '.join(names)}",
    lambda at: _matched(synthetic(**SMALL), layer=None),
    lambda at: _matched(synthetic(**SMALL)),
)


def _with_samples(*counts):
    results = synthetic(**SMALL, seeds=(0,))
    probe = results["probe"].to_dataset().assign_coords(kept_samples=("run", list(counts)))
    probe[FEW[0]].attrs["samples_coordinate"] = "kept_samples"
    results["probe"] = probe
    return results


ADVICE.row(
    "cannot be compared; record equal numbers",
    lambda at: _matched(_with_samples(64, 128)),
    lambda at: _matched(_with_samples(64, 64)),
)


@ADVICE.story("a table is of one layer, so name it")
def _(_, provoked):
    with provoked():
        condition_table(synthetic(**SMALL), layer="*")
    assert set(condition_table(synthetic(**SMALL), layer="fc1").layers.values()) == {"fc1", ""}
