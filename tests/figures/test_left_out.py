"""A run that diverged, was cut short or was lost is named wherever a reader looks, and finds nothing."""

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import compare
from fadiag.figures import FIGURES, find
from fadiag.report import render
from fadiag.report.tables import finals, lost, scalars
from fadiag.results.left_out import LeftOut, to_attribute
from tests.results.synthetic_results import synthetic

RANK = "error_participation_ratio_raw"
#: The record of a run that diverged after step 100.
DIVERGED = LeftOut("fa-seed1", "holds 7 NaN of 160 values", "probe", "fc3", signal="error", step=150, steps=6)
TOLD = "run fa-seed1: error of layer 'fc3' at step 150 (and at 5 more) holds 7 NaN of 160 values"
#: Differences over seeds: two that are alike and above 0, and one that is not.
CLEAR = np.array([30.0, 31.0, 32.0, 40.0, 20.0, 42.2])


def diverged(*, streams=("probe", "state")) -> xr.DataTree:
    """Return results where FA seems above BP, if seed 1 is forgotten, which has no value after step 100."""
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset().copy(deep=True)
    probe[RANK][{"step": -1}] = CLEAR[:, None]
    results["probe"] = probe
    for stream in streams:
        dataset = results[stream].to_dataset()
        results[stream] = dataset.where((dataset["run"] != "fa-seed1") | (dataset["step"] <= 100))
    results.attrs |= to_attribute([DIVERGED])
    return results


def test_a_diverged_seed_does_not_make_a_finding() -> None:
    whole = synthetic(("bp", "fa"))
    probe = whole["probe"].to_dataset().copy(deep=True)
    probe[RANK][{"step": -1}] = CLEAR[:, None]
    whole["probe"] = probe
    assert "no detectable difference between FA and BP (FA − BP = " in find("rank").caption(whole)
    assert "over 3 paired seeds, includes 0)" in find("rank").caption(whole)
    caption = find("rank").caption(diverged())
    assert caption.startswith(
        "Participation ratio raw of the error at fc3, last step (fa-seed1 has no value there): unclear "
        "whether FA differs from BP, since runs lack a value (FA − BP = 10.1 [8.83, 11.4], 95 % t interval "
        "over 2 paired seeds that have one)"
    )
    assert caption.endswith(f" Left out: {TOLD}.")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_it_is_named_in_every_caption_and_picture(figure) -> None:
    results = diverged()
    assert f" Left out: {TOLD}." in figure.caption(results)
    assert figure.left_out(results) == [TOLD]
    small = " ".join(figure.draw(results).get_supxlabel().split())
    assert small.endswith("Left out, wholly or in part: fa-seed1.")
    assert "Left out" not in figure.caption(synthetic(("bp", "fa")))


def test_intervals_say_of_how_many_seeds_they_are() -> None:
    results = diverged()
    alignment, overlap = (find(name).caption(results) for name in ("alignment", "overlap"))
    assert alignment.startswith("At the last step (fa-seed1 has no value there) FA has cos(W, B) = ")
    assert alignment.count("] over 2 of 3 seeds at ") == 2
    assert "] over 2 of 3 seeds of its leading subspace (k = unknown, raw) with the true error" in overlap
    assert "(fa-seed1 has no value there)" in find("remedies").caption(diverged_remedy())


def diverged_remedy() -> xr.DataTree:
    results = synthetic(("fa", "fa+bn"))
    probe = results["probe"].to_dataset()
    results["probe"] = probe.where((probe["run"] != "fa-seed1") | (probe["step"] <= 100))
    return results


def test_a_remedy_is_not_found_without_a_seed() -> None:
    assert "rank higher (" in find("remedies").caption(synthetic(("fa", "fa+bn"), spread=0.1))
    caption = find("remedies").caption(diverged_remedy())
    assert "FA + BN: rank unclear, since runs lack a value (" in caption
    assert "2 paired seeds) at the last step (fa-seed1 has no value there)" in caption


def test_a_lost_run_of_unknown_condition_finds_nothing_either() -> None:
    results = synthetic(("bp", "fa"), spread=0.1)
    assert "FA is below BP" in find("accuracy").caption(results)
    results.attrs |= to_attribute([LeftOut("runs/x.zarr", "is damaged")])
    caption = find("accuracy").caption(results)
    assert "unclear whether FA differs from BP, since runs lack a value" in caption
    assert caption.endswith(" Left out: run runs/x.zarr: is damaged.")


def test_a_seed_that_one_condition_never_ran_is_named() -> None:
    results = synthetic(("bp", "fa"), spread=0.1)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset().isel(run=[0, 1, 2, 3, 5])
    for name in ("accuracy", "rank"):
        assert "2 paired seeds" in find(name).caption(results)
        assert "; FA has no run of seed 1" in find(name).caption(results)


def test_a_metric_that_failed_is_named_where_it_is_drawn() -> None:
    results = synthetic()
    failed = LeftOut("fa-seed0", "raised ValueError: x", "probe", "fc1", metric=RANK, step=0)
    results.attrs |= to_attribute([failed])
    for figure in FIGURES:
        assert (RANK in "".join(figure.left_out(results))) is (figure.name in ("rank", "remedies"))


def test_the_report_names_it_in_tables() -> None:
    results = diverged(streams=("probe", "state", "log"))
    rows = lost(results).rows
    assert rows == (("fa-seed1", "probe", "fc3", "error", "150", "6", "holds 7 NaN of 160 values"),)
    html = render(results)
    assert '<section id="left-out">' in html
    assert "Items left out have no values" in html
    assert '<section id="left-out">' not in render(synthetic(("bp", "fa")))
    fa = next(row for row in finals(results).rows if row[:2] == ("fc3", "FA"))
    assert fa[2].endswith("] (2 of 3 seeds)")
    assert "(fa-seed1 has no value there)" in finals(results).note
    assert scalars(results).rows[1][1].endswith("] (2 of 3 seeds)")
    assert scalars(results).note.endswith("test accuracy: at the last step (fa-seed1 has no value there).")


def test_compare_names_it_and_finds_nothing() -> None:
    results = diverged()
    found = compare(results, results, conditions=("bp", "fa"))
    row = found[(found["variable"] == RANK) & (found["layer"] == "fc3")].iloc[0]
    assert row["low"] > 0
    assert not row["differs"]
    assert "1 of 3 runs of b left out, without a number at step 400 (fa-seed1)" in row["note"]
    assert not found[found["stream"] == "probe"]["differs"].any()


def at_ceiling(results: xr.DataTree) -> xr.DataTree:
    probe = results["probe"].to_dataset()
    mark = xr.zeros_like(probe[RANK])
    mark.loc[{"run": ["fa-seed0", "fa-seed2"], "layer": "fc3"}] = 1.0
    results["probe"] = probe.assign({f"{RANK}_at_ceiling": mark})
    return results


def test_a_rank_at_its_ceiling_is_told() -> None:
    results = at_ceiling(synthetic())
    told = "at its ceiling, within 1 % of min(N, n), in 2 of 3 FA runs"
    assert f"; {told};" in find("rank").caption(results)
    assert f", {told}, accuracy" in find("remedies").caption(results)
    assert "ceiling" not in find("rank").caption(synthetic())
    table = finals(results)
    marked = [row[:2] for row in table.rows if any("†" in cell for cell in row)]
    assert marked == [("fc3", "FA")]
    assert " †: a run is at its ceiling, within 1 % of min(N, n)." in table.note
    assert "†" not in finals(synthetic()).note


@pytest.mark.parametrize("dimension", [True, False])
def test_overlaps_name_their_k_and_what_it_was_guessed_from(dimension: bool) -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    guess = "one less than the outputs of layer 'out', the last that was recorded"
    probe["error_overlap"].attrs |= {"k": 9, "k_source": guess, "centered": 0}
    if dimension:
        probe["error_overlap_dimension"] = xr.full_like(probe["error_overlap"], 7.0)
    results["probe"] = probe
    figure = find("overlap")
    told = f"of its leading subspace (k = {7 if dimension else 9}, {guess}, raw) with the true error"
    assert told in figure.caption(results)
    small = " ".join(figure.draw(results).get_supxlabel().split())
    assert f"mean row not removed (raw); k = 9 ({guess})" in small
    words = f"Overlaps compare k = 9 directions, {guess}, or all directions of a layer with fewer."
    assert words in finals(results).note
