"""Tables of values as colors: all layers by all steps, and overlaps between steps or layers."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm, to_rgba

from fadiag import figures as ff
from fadiag.analysis import overlap_matrix as measure_overlaps
from fadiag.errors import InputError
from tests.conftest import build_run
from tests.figures.drawing import assert_apart, assert_inside, axes, draw
from tests.results.synthetic_results import STEPS, synthetic

RANK = "error_effective_rank_raw"


def heat(results, **options):
    return draw(ff.layer_step_heatmap, results, condition="fa", **options)


def test_each_color_is_the_mean_over_seeds() -> None:
    results = synthetic()
    ax = heat(results)
    probe = results["probe"].to_dataset()
    runs = probe[RANK].values[probe["condition"].values == "fa"]
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), runs.mean(axis=0))  # (layer, step)
    assert isinstance(image.norm, LogNorm)
    table = ff.numbers(ax)
    cell = table[(table["layer"] == "fc2") & (table["step"] == 100)]
    assert cell["value"].item() == pytest.approx(runs[:, 1, 2].mean())
    assert cell["n"].item() == 3
    assert [text.get_text() for text in ax.get_yticklabels()] == ["fc1", "fc2", "fc3", "out"]


def test_panels_of_several_conditions_share_one_scale() -> None:
    results = synthetic()
    maps = [draw(ff.layer_step_heatmap, results, condition=name) for name in ("bp", "fa")]
    values = results["probe"][RANK].values.reshape(6, 3, 4, -1).mean(axis=1)
    for ax in maps:
        assert ax.images[0].get_clim() == pytest.approx((values.min(), values.max()))
    assert heat(results, limits=(2, 300)).images[0].get_clim() == (2, 300)


def test_colors_rise_evenly_in_gray() -> None:
    colors = mpl.colormaps[heat(synthetic()).images[0].get_cmap().name](np.linspace(0, 1, 64))[:, :3]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()
    assert np.ptp(lightness) > 70


def test_gaps_are_hatched_and_zeros_are_white() -> None:
    results = synthetic()
    probe = results["probe"].to_dataset()
    fa = (probe["condition"] == "fa").values
    probe[RANK][fa, 0, 3] = np.nan
    probe[RANK][fa, 1, 4] = 0.0
    results["probe"] = probe
    ax = heat(results)
    assert ax.patch.get_hatch()
    assert {"Hatched: no value.", "White: rank 0, a signal of zeros."} <= {
        f"{part}." for part in ff.small_print(ax).split(". ") for part in [part.rstrip(".")]
    }
    (image,) = ax.images
    shown = image.to_rgba(image.get_array())
    assert shown[0, 3, 3] == 0  # see-through, so the hatch is seen
    assert tuple(shown[1, 4]) == to_rgba("white")
    assert not heat(synthetic()).patch.get_hatch()


def test_a_step_that_other_conditions_have_is_hatched_and_one_that_none_has_is_no_column() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    probe[RANK][(probe["condition"] == "fa").values, :, 3] = np.nan
    probe[RANK][:, :, 5] = np.nan
    results["probe"] = probe
    ax = heat(results)
    assert ax.images[0].get_array().mask.sum() == 4
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        "0",
        "50",
        "100",
        "150",
        "200",
        "300",
        "350",
        "400",
    ]


def test_the_caption_says_the_end_and_the_extremes() -> None:
    results = synthetic(("bp", "fa"), spread=0.0)
    caption = ff.caption(heat(results))
    assert caption.startswith(
        "Effective rank of the error, raw, in all layers at all steps. At fc3, last step (400): "
    )
    assert "fa 65.0 (equal in 3 seeds)" in caption  # 4 * 15 + 5 at the third of four layers
    assert "The mean of fa over seeds lies between 1.00 (fc1, step 0) and 75.0 (fc1, step 400)." in caption


@pytest.mark.parametrize(
    ("metric", "log"), [("participation_ratio", True), ("cosine", False), ("overlap", False)]
)
def test_other_measures_are_drawn(metric, log) -> None:
    assert isinstance(heat(synthetic(), metric=metric).images[0].norm, LogNorm) == log


def test_alignment_without_a_value_in_the_first_layer_is_hatched() -> None:
    ax = heat(synthetic(), metric="weight_feedback_cosine")
    assert "Hatched: no value." in ff.small_print(ax)


def test_layers_and_steps_are_chosen() -> None:
    ax = heat(synthetic(), layers=["fc3", "fc1"], steps=(100, 200))
    assert ax.images[0].get_array().shape == (2, 3)
    with pytest.raises(InputError, match="no step from 1 to 2 was recorded"):
        heat(synthetic(), steps=(1, 2))


def test_a_condition_is_named_among_several() -> None:
    with pytest.raises(InputError, match=r"several conditions \(bp, fa\); name one: condition="):
        draw(ff.layer_step_heatmap, synthetic(("bp", "fa")))
    assert draw(ff.layer_step_heatmap, synthetic(("fa",))).images
    with pytest.raises(InputError, match="no condition 'fb'"):
        draw(ff.layer_step_heatmap, synthetic(("bp", "fa")), condition="fb")
    with pytest.raises(InputError, match=r"limits=\(3, 2\) are not increasing"):
        heat(synthetic(), limits=(3, 2))
    with pytest.raises(InputError, match="of a logarithmic scale are not positive"):
        heat(synthetic(), limits=(0, 2))


@pytest.mark.parametrize("count", [50, 500])
def test_names_of_many_layers_and_steps_are_thinned(count) -> None:
    results = synthetic(("bp", "fa"), layers=tuple(f"block{i}.conv1" for i in range(count)))
    probe = results["probe"].to_dataset()
    steps = np.arange(100) * 10_000
    wide = probe.isel(step=np.arange(100) % len(STEPS)).assign_coords(step=steps)
    results["probe"] = xr.DataTree(wide)
    for width in (4.2, 1.9):
        ax = ff.layer_step_heatmap(results, condition="fa", ax=axes(width, 3.0))
        assert ax.images[0].get_array().shape == (count, 100)
        names = [text.get_text() for text in ax.get_yticklabels()]
        assert names[0] == "block0.conv1"
        assert names[-1] == f"block{count - 1}.conv1"
        assert len(names) < 40
        assert ax.get_xticklabels()[-1].get_text() == "990000"
        assert_inside(ax.figure)
        assert_apart(ax.figure)


@pytest.fixture(scope="module")
def run():
    return build_run(0)


def test_overlaps_between_steps(run) -> None:
    found = measure_overlaps(run, layer="fc2", k=3)
    ax = ff.overlap_matrix(found, ax=axes())
    np.testing.assert_array_equal(ax.images[0].get_array(), found.values)
    assert ax.images[0].get_clim() == (0, 1)
    table = ff.numbers(ax)
    row = table[(table["step"] == 10) & (table["x"] == 30)]
    assert row["value"].item() == found.sel(step=10, other_step=30).item()
    low, high = (f(found.values[~np.eye(4, dtype=bool)]) for f in (np.min, np.max))
    caption = ff.caption(ax)
    assert f"fa, seed 0: between different steps it goes from {low:.3f} to {high:.3f}" in caption
    # fc2 has ten units.
    assert "Subspaces of k = 3 directions drawn at random overlap by k / n = 0.300 on average." in caption
    assert "N = 16 samples" in ff.small_print(ax)
    assert "One run, fa-seed0; no interval." in ff.small_print(ax)


def test_overlaps_between_layers_whose_widths_differ_are_hatched(run) -> None:
    ax = ff.overlap_matrix(measure_overlaps(run, step=10, k=2), ax=axes())
    assert ax.patch.get_hatch()
    assert "no two layers can be compared" in ff.caption(ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["fc1", "fc2", "out"]
    assert_inside(ax.figure)


def test_too_few_directions_show_on_the_diagonal(run) -> None:
    found = measure_overlaps(run, layer="fc2", k=2)
    found.values[1, 1] = 0.5
    ax = ff.overlap_matrix(found, ax=axes())
    assert "Below 1 on the diagonal: a record with fewer than k directions." in ff.small_print(ax)


def test_an_empty_matrix_is_a_panel_with_a_reason(run) -> None:
    ax = ff.overlap_matrix(measure_overlaps(run, layer="fc2", k=2) * np.nan, ax=axes())
    assert "Not drawn" in ff.caption(ax) or "Not drawn" in ax.texts[0].get_text()
    with pytest.raises(InputError, match=r"is no matrix of overlaps; take that of fadiag\.analysis"):
        ff.overlap_matrix(xr.DataArray(np.eye(2)), ax=axes())
