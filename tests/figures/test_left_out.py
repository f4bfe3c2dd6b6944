"""A run that diverged, was cut short or was lost is named wherever a reader looks, and finds nothing."""

import numpy as np
import pytest
import xarray as xr

from fadiag import figures as ff
from fadiag.analysis import compare
from fadiag.figures import FIGURES
from fadiag.report import render
from fadiag.report.tables import lost
from fadiag.report.values import values
from fadiag.results.left_out import LeftOut, to_attribute
from tests.figures.drawing import draw, small_print_under
from tests.results.synthetic_results import synthetic

RANK = "error_participation_ratio_raw"
METRIC = {"metric": "participation_ratio"}
#: The record of a run that diverged after step 100.
DIVERGED = LeftOut("fa-seed1", "holds 7 NaN of 160 values", "probe", "fc3", signal="error", step=150, steps=6)
SAID = "run fa-seed1: error of layer 'fc3' at step 150 (and at 5 more) holds 7 NaN of 160 values"
#: Differences over seeds: two that are alike and above 0, and one that is not.
CLEAR = np.array([30.0, 31.0, 32.0, 40.0, 20.0, 42.2])


def clear(results) -> xr.DataTree:
    probe = results["probe"].to_dataset().copy(deep=True)
    probe[RANK][{"step": -1}] = CLEAR[:, None]
    results["probe"] = probe
    return results


def diverged(*, streams=("probe", "state")) -> xr.DataTree:
    """Return results where FA seems above BP, if seed 1 is forgotten, which has no value after step 100."""
    results = clear(synthetic(("bp", "fa")))
    for stream in streams:
        dataset = results[stream].to_dataset()
        results[stream] = dataset.where((dataset["run"] != "fa-seed1") | (dataset["step"] <= 100))
    results.attrs |= to_attribute([DIVERGED])
    return results


def test_a_diverged_seed_does_not_make_a_finding() -> None:
    whole = ff.caption(draw(ff.rank_by_depth, clear(synthetic(("bp", "fa"))), **METRIC))
    assert "fa − bp = 3.07 [−27.2, 33.3]." in whole
    assert "an interval that holds 0 leaves open whether there is a difference" in whole
    caption = ff.caption(draw(ff.rank_by_depth, diverged(), **METRIC))
    assert (
        "At fc3, last step (400; fa-seed1 has no value there): fa − bp = 10.1 [8.83, 11.4] (unclear, since "
        "runs lack a value)"
    ) in caption
    assert caption.endswith(f" Left out: {SAID}.")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_it_is_named_in_every_caption_and_picture(figure) -> None:
    results = diverged()
    drawn = figure.draw(results)
    assert ff.caption(drawn).count(f" Left out: {SAID}.") == 1
    assert figure.left_out(results) == [SAID]
    assert "Left out, wholly or in part: fa-seed1." in small_print_under(drawn)
    assert "Left out" not in figure.caption(synthetic(("bp", "fa")))


def test_intervals_say_of_how_many_seeds_they_are() -> None:
    caption = ff.caption(draw(ff.overlap_over_training, diverged()))
    assert "At fc3, last step (400; fa-seed1 has no value there): bp 1.0" in caption
    assert caption.count("] (n = 2)") == 1
    means = ff.numbers(draw(ff.rank_by_depth, diverged())).query("kind == 'mean' and condition == 'fa'")
    assert set(means["seeds"]) == {"0 2"}
    assert set(means["n"]) == {2}


def test_a_lost_run_of_unknown_condition_finds_nothing_either() -> None:
    results = synthetic(("bp", "fa"), spread=0.1)
    assert "unclear" not in ff.caption(draw(ff.accuracy_over_training, results))
    results.attrs |= to_attribute([LeftOut("runs/x.zarr", "is damaged")])
    caption = ff.caption(draw(ff.accuracy_over_training, results))
    assert "] (unclear, since runs lack a value)" in caption
    assert caption.endswith(" Left out: run runs/x.zarr: is damaged.")


def test_a_seed_that_one_condition_never_ran_is_named() -> None:
    results = synthetic(("bp", "fa"), spread=0.1)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset().isel(run=[0, 1, 2, 3, 5])
    for function in (ff.accuracy_over_training, ff.rank_by_depth, ff.rank_gap):
        caption = ff.caption(draw(function, results))
        assert "2 paired seeds" in caption
        assert ", fa has no run of seed 1" in caption


def test_a_metric_that_failed_is_named_where_it_is_drawn() -> None:
    results = synthetic()
    failed = LeftOut("fa-seed0", "raised ValueError: x", "probe", "fc1", metric=RANK, step=0)
    results.attrs |= to_attribute([failed])
    named = {figure.name for figure in FIGURES if RANK in "".join(figure.left_out(results))}
    drawn = {"rank_by_depth", "rank_gap", "rank_over_training", "conditions", "accuracy_against_rank"}
    assert named == drawn


def test_the_report_names_it_in_tables() -> None:
    results = diverged(streams=("probe", "state", "log"))
    rows = lost(results).rows
    assert rows == (("fa-seed1", "probe", "fc3", "error", "150", "6", "holds 7 NaN of 160 values"),)
    html = render(results)
    assert "The analysis left something out" in html
    assert "Items left out have no values" in html
    assert "Items left out" not in render(synthetic(("bp", "fa")))
    table = values(results, RANK)
    fa = table.layers.index("fc3") * len(table.conditions) + table.conditions.index("fa")
    column = [name for name, *_ in table.columns].index(RANK)
    assert table.cells[column][fa][3:5] == [2, 3]  # seeds with a value, of all
    assert "(400; fa-seed1 has no value there)" in table.note
    assert table.scalars()[1][1][1].endswith("] (2 of 3 seeds)")


def test_compare_names_it_and_finds_nothing() -> None:
    results = diverged()
    found = compare(results, results, conditions=("bp", "fa"))
    row = found[(found["variable"] == RANK) & (found["layer"] == "fc3")].iloc[0]
    assert row["low"] > 0
    assert not row["differs"]
    assert "1 of 3 runs of b left out, without a number at step 400 (fa-seed1)" in row["note"]
    assert not found[found["stream"] == "probe"]["differs"].any()
