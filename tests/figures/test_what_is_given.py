"""What figure functions are given: results and no path, one layer or several, a path to save to."""

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag import select
from fadiag.analysis import compare
from fadiag.errors import InputError
from tests.figures.drawing import FUNCTIONS, axes, draw
from tests.results.synthetic_results import SMALL, synthetic

NULL = "null of redrawn feedback, central 95 %"


@pytest.fixture(scope="module")
def small():
    return synthetic(**SMALL)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_path_is_refused_with_the_way_to_load_it(function) -> None:
    way = r"'r.zarr' is a path, not results; load them: fadiag.results.load_results\('r.zarr'\)"
    with pytest.raises(InputError, match=way):
        function("r.zarr", ax=axes())
    with pytest.raises(InputError, match=r"a dict is no results; give what fadiag.analyze or load_results"):
        function(results={}, ax=axes())


@pytest.mark.parametrize(
    "call",
    [
        lambda: select("r.zarr", condition="fa"),
        lambda: compare("r.zarr", conditions=("bp", "fa")),
        lambda: ff.per_layer(ff.rank_over_training, "r.zarr", figure=Figure()),
        lambda: ff.per_step(ff.rank_by_depth, "r.zarr", figure=Figure()),
        lambda: ff.per_condition(ff.rank_by_depth, "r.zarr", figure=Figure()),
    ],
)
def test_other_functions_refuse_a_path_too(call) -> None:
    with pytest.raises(InputError, match="is a path, not results; load them"):
        call()


def layers_of(ax):
    return set(ff.numbers(ax).query("kind == 'mean'")["layer"])


def test_a_layer_is_taken_under_either_name(small) -> None:
    for function in (ff.rank_by_depth, ff.rank_gap):
        kept = ff.numbers(draw(function, small, layer="fc1")).query("kind in ('mean', 'difference')")
        assert set(kept["layer"]) == {"fc1"}
    for given in ("fc1", ["fc1"]):
        assert layers_of(draw(ff.rank_over_training, small, layers=given)) == {"fc1"}
        assert layers_of(draw(ff.credit_cosine, small, over="training", layers=given)) == {"fc1"}
    assert layers_of(draw(ff.credit_cosine, small, layer="fc1")) == {"fc1"}
    assert layers_of(draw(ff.credit_cosine, small)) == {"fc1", "out"}


def test_several_layers_are_refused_where_one_is_drawn(small) -> None:
    several = r"layers=\['fc1', 'out'\] is not one layer; per_layer\(..., layers=...\) draws several"
    for function, options in ((ff.rank_over_training, {}), (ff.credit_cosine, {"over": "training"})):
        with pytest.raises(InputError, match=several):
            draw(function, small, layers=["fc1", "out"], **options)


def test_the_small_print_names_the_one_layer_that_is_drawn(small) -> None:
    assert ff.small_print(draw(ff.alignment_over_training, small)).startswith("At out. ")
    several = ff.per_layer(ff.rank_over_training, small, figure=Figure())
    assert "At out." not in ff.small_print(several)


@pytest.mark.parametrize("conditions", [2, 3, 6])
@pytest.mark.parametrize("options", [{}, {"over": "training"}], ids=["depth", "training"])
def test_nulls_are_hatched_and_intervals_are_not(conditions, options) -> None:
    names = ("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen")[:conditions]
    ax = draw(ff.credit_cosine, synthetic(conditions=names), **options)
    bands = [band for band in ax.collections if isinstance(band, PolyCollection)]
    hatched = [*(b for b in bands if b.get_hatch()), *(bar for bar in ax.patches if bar.get_hatch())]
    assert len(hatched) == (conditions if options else 4 * conditions)
    plain = [band for band in bands if not band.get_hatch()]
    assert len(plain) == (conditions if options and conditions <= 3 else 0)
    (entry,) = ff.legend(ax.figure).get_patches()
    assert entry.get_hatch() == hatched[0].get_hatch()
    small = ff.small_print(ax)
    assert f"Hatched in the color of a condition: its {NULL}" in small
    assert "95 % t interval over seeds (plain bar or band)" in small


def two_sizes():
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    for array in probe.data_vars.values():
        array.attrs |= {"samples": "256, 512", "samples_coordinate": "kept_samples"}
    kept = [512.0 if condition == "fa" else 256.0 for condition in probe["condition"].values]
    results["probe"] = probe.assign_coords(kept_samples=("run", kept))
    return results


def test_each_condition_has_its_number_of_samples() -> None:
    ax = draw(ff.rank_by_depth, two_sizes())
    assert "N = 256 samples (bp), 512 samples (fa); probe" in ff.small_print(ax)
    assert "fa and bp not compared: runs measured on different numbers of samples (fa 512" in ff.caption(ax)
    alone = ff.small_print(draw(ff.rank_by_depth, two_sizes(), conditions="fa", baseline="fa"))
    assert "N = 512 samples; probe" in alone


def test_no_difference_is_drawn_between_different_numbers_of_samples() -> None:
    for function, options in ((ff.rank_gap, {}), (ff.conditions, {"difference": True, "signal": "error"})):
        metric = {"metric": "effective_rank"}
        ax = draw(function, two_sizes(), **metric, **options)
        assert "Not drawn" in ff.caption(ax)
        assert "fa and bp not compared: runs measured on different numbers of samples" in ff.caption(ax)


def test_what_panels_share_is_in_the_small_print_once(small) -> None:
    fig = Figure(figsize=(8, 3), layout="constrained")
    one, other = fig.subplots(1, 2)
    ff.rank_by_depth(small, ax=one)
    ff.credit_cosine(small, ax=other)
    assert ff.small_print(fig).count("N = 256 samples") == 1
    assert "norms" not in ff.small_print(fig)


def test_a_missing_null_says_what_records_it() -> None:
    without = synthetic(**SMALL, nulls=False)
    said = ff.small_print(draw(ff.rank_by_depth, without))
    assert "so the level of chance is unknown; record it with Probe(..., gate_draws=20)." in said
    said = ff.small_print(draw(ff.credit_cosine, without))
    assert "so the level of chance is unknown; record it with Probe(..., redraws=99)." in said


def test_an_unknown_suffix_is_refused(tmp_path, small) -> None:
    ax = draw(ff.accuracy_over_training, small)
    with pytest.raises(InputError, match=r"cannot be saved as 'foo' \(there are pdf, svg, png\)"):
        ff.save(ax, tmp_path / "x.foo")
    assert not list(tmp_path.iterdir())
    assert {path.name for path in ff.save(ax, tmp_path / "rate0.1")} >= {"rate0.1.pdf", "rate0.1.csv"}
