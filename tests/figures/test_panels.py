"""Panels for several steps and conditions, on one scale."""

import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import InputError
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
