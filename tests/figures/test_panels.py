"""Panels for several steps and conditions, on one scale."""

import pytest
import xarray as xr
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import InputError
from fadiag.figures.catalog import find
from tests.figures.drawing import assert_apart, assert_inside, draw
from tests.results.synthetic_results import synthetic


def test_steps_have_a_panel_each() -> None:
    results = synthetic(("bp", "fa"))
    figure = ff.per_step(ff.rank_by_depth, results, steps=[0, 50, 400], figure=Figure((7, 2.5)))
    assert [ax.get_title() for ax in figure.axes] == ["step 0", "step 50", "step 400"]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    table = ff.numbers(figure)
    assert set(table["step"]) == {0, 50, 400}
    for step in (50, 400):
        want = ff.numbers(draw(ff.rank_by_depth, results, step=step)).query("kind == 'mean'")["value"]
        assert table.query("kind == 'mean' and step == @step")["value"].tolist() == want.tolist()
    figure = ff.per_step(ff.rank_by_depth, results, figure=Figure((7, 2.5)))
    assert [ax.get_title() for ax in figure.axes] == ["step 0", "step 150", "step 250", "step 400"]
    with pytest.raises(InputError, match="step 60 was not recorded"):
        ff.per_step(ff.rank_by_depth, results, steps=[60], figure=Figure())
    with pytest.raises(InputError, match="steps is empty; name at least one"):
        ff.per_step(ff.rank_by_depth, results, steps=[], figure=Figure())


def test_conditions_have_a_map_each_on_one_scale() -> None:
    figure = ff.per_condition(ff.layer_step_heatmap, synthetic(), figure=Figure((8, 5), layout="constrained"))
    maps = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in maps] == ["bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen"]
    assert len({ax.images[0].get_clim() for ax in maps}) == 1
    assert all(ax.get_ylim() == (3.5, -0.5) for ax in maps)
    assert_inside(figure)
    assert_apart(figure)
    some = ff.per_condition(
        ff.rank_over_training, synthetic(), conditions=["bp", "frozen"], figure=Figure((7, 3))
    )
    assert [ax.get_title() for ax in some.axes] == ["bp", "frozen"]
    assert len({ax.get_ylim() for ax in some.axes}) == 1
    with pytest.raises(InputError, match="conditions is empty; name at least one"):
        ff.per_condition(ff.rank_over_training, synthetic(), conditions=[], figure=Figure())


def test_of_many_conditions_some_are_drawn_and_the_small_print_says_so() -> None:
    many = synthetic([f"c{i}" for i in range(11)], seeds=(0,))
    figure = ff.per_condition(ff.layer_step_heatmap, many, figure=Figure((8, 7), layout="constrained"))
    assert sum(bool(ax.images) for ax in figure.axes) == 9
    assert "9 of 11 conditions are drawn." in ff.small_print(figure)


def test_several_values_for_one_panel_are_refused_with_the_way_out() -> None:
    results = synthetic(("bp", "fa"))
    with pytest.raises(InputError, match=r"layer=\['fc1', 'fc2'\] is not one layer; per_layer\(..., layers="):
        draw(ff.rank_over_training, results, layer=["fc1", "fc2"])
    with pytest.raises(InputError, match=r"step=\[0, 50\] is not one step; per_step\(..., steps="):
        draw(ff.rank_by_depth, results, step=[0, 50])
    with pytest.raises(
        InputError, match=r"or draw all of them: per_condition\(layer_step_heatmap, results\)"
    ):
        draw(ff.layer_step_heatmap, results)


def spaced(steps) -> xr.DataTree:
    """Return results whose records are at other steps."""
    results = synthetic(("bp", "fa"))
    for name in list(results.children):
        stream = results[name].to_dataset()
        results[name] = stream.isel(step=slice(len(steps))).assign_coords(step=steps)
    return results


def test_records_spaced_by_decades_have_a_logarithmic_axis() -> None:
    even, decades = [0, 50, 100, 150, 200, 250, 252], [0, 1, 3, 10, 30, 100, 300]
    assert draw(ff.rank_over_training, spaced(even)).get_xscale() == "linear"
    ax = draw(ff.rank_over_training, spaced(decades))
    assert ax.get_xscale() == "symlog"
    assert [tick for tick in ax.get_xticks() if 0 <= tick <= 300] == [0, 1, 10, 100]
    table = ff.numbers(ax).query("kind == 'mean' and condition == 'fa'")
    assert table["step"].tolist() == decades


def test_bars_at_the_last_step_have_their_order_on_a_logarithmic_axis() -> None:
    names = ("bp", "fa", "dfa", "kp", "usf")
    results = synthetic(names)
    for name in list(results.children):
        stream = results[name].to_dataset()
        results[name] = stream.isel(step=slice(7)).assign_coords(step=[0, 1, 3, 10, 30, 100, 300])
    ax = draw(ff.rank_over_training, results)
    bars = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert len(bars) >= len(names)
    assert sorted(bars) == bars
    assert 300 < bars[0] < bars[-1] < 1000


def test_layers_that_lack_a_variable_are_left_out() -> None:
    results = synthetic(("bp", "fa"))
    options = {"having": "weight_feedback_cosine", "figure": Figure((7, 2))}
    figure = ff.per_layer(ff.alignment_over_training, results, **options)
    assert [ax.get_title() for ax in figure.axes] == ["fc2", "fc3", "out"]
    assert "fa 0.5" in ff.caption(figure)
    figure = ff.per_layer(ff.alignment_over_training, results, having="no_such", figure=Figure((7, 2)))
    assert len(figure.axes) == 4


def test_the_cosine_of_every_layer_is_drawn_over_training() -> None:
    figure = find("cosine_over_training").draw(synthetic(("bp", "fa")))
    assert [ax.get_title() for ax in figure.axes] == ["fc1", "fc2", "fc3", "out"]
    assert "At fc3, last step (400): bp 1.0" in ff.caption(figure)
