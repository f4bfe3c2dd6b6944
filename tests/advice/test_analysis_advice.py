"""The advice of fadiag.analysis."""

import importlib.metadata
import shutil
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
import xarray as xr

from fadiag import spectra
from fadiag.analysis import (
    alignment_onset,
    analyze,
    cluster_executor,
    compare,
    effective_rank,
    overlap_matrix,
)
from fadiag.store import open_run
from tests.advice.advice import Table, extras
from tests.conftest import build_run, record_run

ADVICE = Table()
STEPS = tuple(range(0, 60, 10))
FEW = ["error_effective_rank_raw"]


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def run(seed=0, **options):
    return build_run(seed, **options)


def two(a="fa", b="fa", *, seeds=(0, 1), **options):
    """Return the results of some seeds of two conditions."""
    return analyze(
        [run(s, condition=c) for c in dict.fromkeys((a, b)) for s in seeds], metrics=FEW, **options
    )


# Comparing.

ADVICE.row(
    "give a number between 0 and 1, such as 0.95",
    lambda at: compare(two(), two(), level=95),
    lambda at: compare(two(), two(), level=0.95),
)
ADVICE.row(
    "analyze both with the same one",
    lambda at: compare(two(k=2), two(k=3)),
    lambda at: compare(two(k=2), two(k=2)),
)


ADVICE.row(
    "there is one result; give b, or conditions=(A, B) to compare two conditions of a",
    lambda at: compare(two("fa", "bp")),
    lambda at: compare(two(), two()),
    lambda at: compare(two("fa", "bp"), conditions=("fa", "bp")),
)


@ADVICE.story("name the condition of a and that of b: conditions=(A, B), --conditions A B")
def _(at, provoked):
    both = two("fa", "bp")
    with provoked():
        compare(both, both)
    assert len(compare(both, both, conditions=("fa", "bp")))
    from click.testing import CliRunner

    from fadiag.cli import main
    from fadiag.results import save_results

    save_results(both, at / "both.nc")
    words = ["compare", *[str(at / "both.nc")] * 2, "--conditions", "fa", "bp"]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0


@ADVICE.story("analyze again with each store named once")
def _(at, provoked):
    once = two(seeds=(0, 1, 2))
    twice = xr.map_over_datasets(
        lambda d: d.isel(run=[0, 1, 2, 2]).assign_coords(run=list("abcd")) if "run" in d.dims else d, once
    )
    with provoked():
        compare(twice, once)
    compare(two(seeds=(0, 1, 2)), once)


def _note(a, b):
    return compare(a, b)["note"].iloc[0]


def _unseeded(seeds):
    runs = [run(seed) for seed in seeds]
    for tree in runs:
        del tree.attrs["meta"]["seed"]
    return analyze(runs, metrics=FEW)


@ADVICE.story("leave them out of one side, or give each run a 'seed' in its meta")
def _(at, provoked):
    with provoked() as heard:
        heard.append(_note(_unseeded((0, 1, 2)), _unseeded((2, 3, 4))))
    assert "left out" not in _note(_unseeded((0, 1, 2)), _unseeded((3, 4)))
    assert "leave them out" not in _note(two(seeds=(0, 1, 2)), two(seeds=(1, 2, 3)))


@ADVICE.story("compare one run of each, or each seed with each feedback seed on both sides")
def _(at, provoked):
    def side(pairs, condition):
        runs = []
        for i, (seed, feedback) in enumerate(pairs):
            tree = run(10 * seed + feedback, condition=condition)
            tree.attrs["run_id"] = f"{condition}{i}"
            tree.attrs["meta"] |= {"seed": seed, "feedback_seed": feedback}
            runs.append(tree)
        return analyze(runs, metrics=FEW)

    shared, one_of_each, crossed = (
        [(0, 0), (0, 1), (1, 2)],
        [(0, 0), (1, 2)],
        [(0, 0), (0, 1), (1, 0), (1, 1)],
    )
    with provoked() as heard:
        heard.append(_note(side(shared, "fa"), side(shared, "bp")))
    for good in (one_of_each, crossed):
        assert "not independent" not in _note(side(good, "fa"), side(good, "bp"))


# Measuring.


@ADVICE.story("give unfolding={recorded}")
def _(at, provoked):
    factor = run(0)["probe/fc1/error"].assign_attrs(reduction="factor", unfolding="channels")
    factor = factor.rename(sample="factor")
    with provoked():
        effective_rank(factor)
    effective_rank(factor, unfolding="channels")


@ADVICE.story("Say how many are real, as the stream does")
def _(at, provoked):
    signal = run(0)["probe/fc1/error"].drop_vars("rows_valid", errors="ignore").copy(deep=True)
    signal.values[1, 12:] = np.nan
    with provoked():
        effective_rank(signal)
    counts = xr.DataArray([16, 12, 16, 16], dims="step")
    assert np.isfinite(effective_rank(signal.assign_coords(rows_valid=counts))).all()


_STACK = np.random.default_rng(0).standard_normal((2, 6, 4))
ADVICE.row(
    "reshape it, or use fadiag.spectra.{name} for a stack of matrices",
    lambda at: effective_rank(_STACK),
    lambda at: effective_rank(_STACK.reshape(12, 4)),
    lambda at: spectra.effective_rank(_STACK),
)
_SEEDS = xr.DataArray(_STACK, dims=("seed", "batch", "out"))
ADVICE.row(
    "select one entry of each other axis, or name the axis of the rows 'sample'",
    lambda at: effective_rank(_SEEDS),
    lambda at: effective_rank(_SEEDS.isel(seed=0).rename(batch="sample")),
)


@ADVICE.story("record the entry under another name")
def _(at, provoked):
    with provoked():
        analyze(run(0, meta={"step": 3}), metrics=FEW)
    found = analyze(run(0, meta={"at_step": 3}), metrics=FEW)
    assert found["probe"]["at_step"].item() == 3


def _with_draws(**attrs):
    """Return a run whose draws have these attributes."""
    tree = run(0)
    for layer in tree["probe"].children.values():
        for name, array in layer.data_vars.items():
            if "null" in str(name):
                layer[name] = array.assign_attrs(attrs) if attrs else array.drop_attrs()
    return tree


def _null_left_out(tree):
    return analyze(tree, metrics=["error_cosine"])["probe"]["error_cosine"].attrs.get("null_left_out", "")


@ADVICE.story("the store does not say how many samples the null was recorded on: record again")
def _(at, provoked):
    with provoked() as heard:
        heard.append(_null_left_out(_with_draws()))
    assert "record again" not in _null_left_out(_with_draws(samples=16))


@ADVICE.story("give it, analyze(k=...) or --k")
def _(at, provoked):
    def unknown():
        tree = run(0)
        for stream in ("probe", "state", "static"):
            for layer in tree[stream].children.values():
                layer.attrs["layers_in_model"] = 9  # the last of which was not recorded
        return tree

    with provoked():
        analyze(unknown(), metrics=["error_overlap"], strict=True)
    assert np.isfinite(analyze(unknown(), metrics=["error_overlap"], k=2)["probe"]["error_overlap"]).any()


ADVICE.row(
    "metrics is empty; leave it out to measure all of them",
    lambda at: analyze(run(0), metrics=[]),
    lambda at: analyze(run(0)),
)


@ADVICE.story("analyze with unfolding='samples', or with metrics=[...] of other signals")
def _(at, provoked):
    tree = run(0)
    rng = np.random.default_rng(0)
    odd = (("step", "sample", "first", "second"), rng.standard_normal((4, 16, 3, 4)))
    tree["probe/fc1"] = tree["probe/fc1"].to_dataset().drop_vars("activation").assign(activation=odd)
    asked = ["activation_effective_rank_raw"]
    with provoked():
        analyze(tree, metrics=asked, unfolding="channels", strict=True)
    assert np.isfinite(analyze(tree, metrics=asked)["probe"][asked[0]]).all()
    assert np.isfinite(analyze(tree, metrics=FEW, unfolding="channels")["probe"][FEW[0]]).all()


def _with_nan():
    tree = run(0)
    tree["probe/fc1/error"].values[2] = np.nan
    return tree


@ADVICE.story("analyze without strict to leave it out")
def _(at, provoked):
    with provoked():
        analyze(_with_nan(), metrics=FEW, strict=True)
    with pytest.warns(match="left out"):
        assert np.isfinite(analyze(_with_nan(), metrics=FEW)["probe"][FEW[0]]).sum() == 11


@ADVICE.story("{metric.name} needs {WINDOW} records of {recent[0].signal}")
def _(at, provoked):
    def exploration(records):
        tree = run(0, steps=tuple(range(records)))
        return analyze(tree, metrics=["update_exploration_10"])["state"]["update_exploration_10"]

    with provoked():
        exploration(8)
    assert np.isfinite(exploration(12)).any()


@ADVICE.story("analyze with unfolding={recorded}, without runs of another unfolding")
def _(at, provoked):
    def factor():
        tree = run(0)
        for layer in tree["probe"].children.values():
            layer["error"] = layer["error"].assign_attrs(reduction="factor", unfolding="channels")
        return tree

    with provoked():
        analyze(factor(), metrics=FEW)
    analyze(factor(), metrics=FEW, unfolding="channels")


# Onsets.


def _onset(variable="error_cosine", *, draws=19, **options):
    runs = [run(0, steps=STEPS, draws=draws)]
    return alignment_onset(analyze(runs, metrics=[variable], **options), variable)


@ADVICE.story("analyze the runs with it")
def _(at, provoked):
    runs = run(0, steps=STEPS, draws=119)
    with provoked():
        alignment_onset(analyze(runs, metrics=FEW), "error_cosine")
    alignment_onset(analyze(runs, metrics=["error_cosine"]), "error_cosine")


@ADVICE.story(
    "record redraws (Probe(redraws=...)), or take a variable that has a null, such as weight_feedback_cosine"
)
def _(at, provoked):
    bare = run(0, steps=STEPS, draws=119, drop=("error_null_cosine",))
    with provoked():
        alignment_onset(analyze(bare, metrics=["error_cosine"]), "error_cosine")
    _onset(draws=119)
    alignment_onset(analyze(bare, metrics=["weight_feedback_cosine"]), "weight_feedback_cosine")


@ADVICE.story("redraw more often, or judge fewer steps")
def _(at, provoked):
    with provoked():
        _onset(draws=99)
    _onset(draws=119)
    results = analyze(run(0, steps=STEPS, draws=99), metrics=["error_cosine"])
    fewer = xr.map_over_datasets(lambda d: d.isel(step=slice(5)) if "step" in d.dims else d, results)
    alignment_onset(fewer, "error_cosine")


# Which runs.


@ADVICE.story("as {given}; name each run once")
def _(at, provoked):
    record_run(run(0), at / "a.zarr")
    entries = {"condition": "x", "seed": 1}
    with provoked():
        analyze(at / "a.zarr", meta={at / "a.zarr": entries, f"{at}/./a.zarr": entries}, metrics=FEW)
    analyze(at / "a.zarr", meta={at / "a.zarr": entries}, metrics=FEW)


@ADVICE.story("give its entries: {'condition': 'fa', 'seed': 0}")
def _(at, provoked):
    record_run(run(0), at / "a.zarr")
    with provoked():
        analyze(at / "a.zarr", meta={at / "a.zarr": "fa"}, metrics=FEW)
    analyze(at / "a.zarr", meta={at / "a.zarr": {"condition": "fa", "seed": 0}}, metrics=FEW)


@ADVICE.story("which is one run however often it is copied; name it once")
def _(at, provoked):
    record_run(run(0), at / "a.zarr")
    shutil.copytree(at / "a.zarr", at / "b.zarr")
    with provoked():
        analyze([at / "a.zarr", at / "b.zarr"], metrics=FEW)
    analyze([at / "a.zarr"], metrics=FEW)


@ADVICE.story("give a path or what open_run returns")
def _(at, provoked):
    record_run(run(0), at / "a.zarr")
    with provoked():
        analyze([3], metrics=FEW)
    analyze([at / "a.zarr"], metrics=FEW)
    analyze([open_run(at / "a.zarr")], metrics=FEW)


ADVICE.row(
    "no runs given; name at least one recorded store",
    lambda at: analyze([], metrics=FEW),
    lambda at: analyze([record_run(run(0), at / "a.zarr")], metrics=FEW),
)


# A cluster.


@ADVICE.story("a dask scheduler needs dask.distributed: pip install 'fadiag[dask]'")
def _(at, provoked):
    with (
        provoked(),
        mock.patch.dict(sys.modules, {"distributed": None}),
        cluster_executor("tcp://127.0.0.1:1"),
    ):
        pass
    pytest.importorskip("distributed")
    assert any("distributed" in one for one in extras()["dask"])


def _commands():
    """Return the commands that `dask` has here."""
    return {entry.name for entry in importlib.metadata.entry_points(group="dask_cli")}


@ADVICE.story("start one with `dask scheduler`, or measure here")
def _(at, provoked):
    pytest.importorskip("distributed")
    with provoked(), cluster_executor("tcp://127.0.0.1:1"):
        pass
    assert "scheduler" in _commands()
    analyze(run(0), metrics=FEW)


@ADVICE.story("start one: dask worker {address}")
def _(at, provoked):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": None, "protocol": "tcp://"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # distributed closes its sockets when it likes
        with distributed.LocalCluster(processes=False, **options) as cluster:
            with provoked(), cluster_executor(cluster.scheduler_address, timeout=0.2):
                pass
            cluster.scale(1)
            with cluster_executor(cluster.scheduler_address) as executor:
                analyze(run(0), metrics=FEW, executor=executor)
    assert "worker" in _commands()


# Spectra and overlaps between records.

ADVICE.row(
    "spectra is empty; leave it out to keep no spectra",
    lambda at: analyze(run(), metrics=FEW, spectra=[]),
    lambda at: analyze(run(), metrics=FEW),
)
ADVICE.row(
    "overlap_matrix compares steps or layers; give layer=... or step=...",
    lambda at: overlap_matrix(run()),
    lambda at: overlap_matrix(run(), layer="fc2"),
    lambda at: overlap_matrix(run(), step=10),
)


def factored(side):
    """Return a run whose error in fc2 is a factor."""
    tree = run()
    layer = tree["probe/fc2"].to_dataset(inherit=False)
    layer["error"].attrs |= {"reduction": "factor", "factor_side": side}
    tree["probe/fc2"] = xr.DataTree(layer)
    return tree


ADVICE.row(
    "with those of another record; record it with reduction='raw'",
    lambda at: overlap_matrix(factored("columns"), layer="fc2"),
    lambda at: overlap_matrix(run(), layer="fc2"),
)


def without_last_layer():
    tree = run()
    for stream in ("probe", "state", "static"):
        del tree[stream]["out"]
    for layer in ("fc1", "fc2"):
        tree[f"probe/{layer}"].attrs["layers_in_model"] = 3
    return tree


ADVICE.row(
    "did not record its last layer; give it, overlap_matrix(k=...)",
    lambda at: overlap_matrix(without_last_layer(), layer="fc2"),
    lambda at: overlap_matrix(without_last_layer(), layer="fc2", k=3),
)
