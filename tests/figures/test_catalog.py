"""The figures of the command and of the report, and panels for each layer."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import InputError
from fadiag.figures import FIGURES, find, per_layer
from tests.figures.drawing import assert_apart, assert_inside
from tests.results.synthetic_results import synthetic


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_every_figure_is_legible(figure) -> None:
    drawn = figure.draw(synthetic())
    assert_inside(drawn)
    assert_apart(drawn)
    assert len(ff.numbers(drawn)) > 50
    assert ff.caption(drawn) == figure.caption(synthetic())
    assert not figure.missing(synthetic())


def test_an_unknown_name_is_refused_with_the_names() -> None:
    with pytest.raises(InputError, match=r"no figure is called 'ranks'.*; there are rank_by_depth, rank_gap"):
        find("ranks")


def test_missing_variables_are_named() -> None:
    results = synthetic()
    results["probe"] = results["probe"].to_dataset().drop_vars("modulator_effective_rank_raw")
    figure = find("rank_by_depth")
    assert figure.left_out(results) == ["modulator_effective_rank_raw (not in the results)"]
    blank = [bool(ax.texts) for ax in figure.draw(results).axes]
    assert blank == [False, False, True, False]
    assert "Not drawn: the results hold no modulator_effective_rank_raw" in figure.caption(results)


def test_layers_share_their_axes_and_one_of_them_has_the_finding() -> None:
    figure = per_layer(ff.rank_over_training, synthetic(), figure=Figure())
    assert [ax.get_title() for ax in figure.axes] == ["fc1", "fc2", "fc3", "out"]
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert [bool(ax.get_ylabel()) for ax in figure.axes] == [True, False, False, False]
    caption = ff.caption(figure)
    assert ", raw, over training at fc1, fc2, fc3 and out. At fc3, last step (400): " in caption
    assert caption.count("fa − bp") == 1
    assert len(figure.legends) == 1


def test_of_many_layers_some_are_drawn_and_the_small_print_says_so() -> None:
    results = synthetic(("bp", "fa"), layers=tuple(f"block{i}.conv1" for i in range(60)))
    figure = per_layer(ff.rank_over_training, results, figure=Figure(figsize=(7, 4)))
    titles = [ax.get_title().replace("\n", "") for ax in figure.axes]
    assert titles == [f"block{i}.conv1" for i in (0, 8, 17, 25, 34, 42, 58, 59)]  # 58 is in the caption
    assert "8 of 60 layers are drawn." in ff.small_print(figure)
    chosen = per_layer(ff.rank_over_training, results, layers=["block3.conv1"], figure=Figure())
    assert len(chosen.axes) == 1
    with pytest.raises(InputError, match="no layer 'block99'"):
        per_layer(ff.rank_over_training, results, layers=["block99"], figure=Figure())


def test_conditions_without_feedback_leave_the_alignment_of_others() -> None:
    drawn = find("alignment_over_training").draw(synthetic(("bp", "fa")))
    assert [ax.get_title() for ax in drawn.axes] == ["fc2", "fc3", "out"]
    assert [bool(ax.get_ylabel()) for ax in drawn.axes] == [True, False, False]
    assert "bp no value, fa 0.6" in ff.caption(drawn)
    assert "No value: bp." in ff.small_print(drawn)


def test_layers_of_the_weights_alone_are_no_output_layer() -> None:
    results = synthetic(("bp", "fa"))
    state = results["state"].to_dataset()
    names = ["fc1", "fc2", "fc3", "out", "aux"]
    results["state"] = state.isel(layer=[0, 1, 2, 3, 3]).assign_coords(layer=names)
    assert find("alignment_over_training").caption(results) == find("alignment_over_training").caption(
        synthetic(("bp", "fa"))
    )


def test_numbers_are_of_the_seed_and_step_that_they_name() -> None:
    results = synthetic(spread=0.7)
    table = ff.numbers(find("rank_over_training").draw(results)).query("kind == 'seed'")
    probe = results["probe"].to_dataset()
    for row in table.sample(20, random_state=0).itertuples():
        runs = (probe["condition"] == row.condition) & (probe["seed"] == row.seed)
        want = probe[row.variable].isel(run=int(np.flatnonzero(runs)[0])).sel(layer=row.layer, step=row.step)
        assert float(want) == row.value
