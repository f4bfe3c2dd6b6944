"""The spectrum's drawing, numbers and caption, against what the made-up singular values give by hand."""

import numpy as np
import pytest

from fadiag import figures as ff
from fadiag.errors import InputError
from tests.figures.drawing import draw
from tests.figures.on_request import DECAY, VALUES, kept
from tests.results.synthetic_results import synthetic


def means(ax, condition):
    table = ff.numbers(ax)
    return table[(table["kind"] == "mean") & (table["condition"] == condition)]


@pytest.mark.parametrize("name", ["bp", "fa"])
def test_scree_and_cumulative_energy_are_those_of_the_singular_values(name) -> None:
    s = DECAY[name == "bp"] ** np.arange(VALUES)
    for options, want in (
        ({}, s / s[0]),
        ({"normalized": False}, s * 2),  # seeds 0, 1, 2 scale it by 1, 2, 3
        ({"cumulative": True}, np.cumsum(s**2) / np.sum(s**2)),
        ({"cumulative": True, "normalized": False}, np.cumsum(s**2) * (1 + 4 + 9) / 3),
    ):
        rows = means(draw(ff.spectrum, kept(), **options), name)
        assert rows["x"].tolist() == list(range(1, VALUES + 1))
        np.testing.assert_allclose(rows["value"], want)
        assert set(rows["layer"]) == {"fc3"}
        assert set(rows["step"]) == {400}
        assert set(rows["n"]) == {3}


def test_every_seed_is_a_thin_line_and_the_scree_is_logarithmic() -> None:
    results = kept(synthetic(("bp", "fa")))
    ax = draw(ff.spectrum, results)
    assert ax.get_yscale() == "log"
    widths = [line.get_linewidth() for line in ax.lines]
    assert sorted(widths.count(width) for width in set(widths)) == [2, 6]  # thick means, thin seeds
    assert widths.count(min(widths)) == 6
    assert draw(ff.spectrum, results, cumulative=True).get_yscale() == "linear"


def test_the_caption_counts_directions_and_says_their_share() -> None:
    results = kept(synthetic(("bp", "fa")))
    results.attrs["k"] = "classes - 1"
    results["probe/error_overlap"].attrs["k"] = 4
    ax = draw(ff.spectrum, results)
    want = {}
    for name in ("bp", "fa"):
        s = DECAY[name == "bp"] ** np.arange(VALUES)
        share = np.cumsum(s**2) / np.sum(s**2)
        want[name] = (int((share < 0.9).sum()) + 1, share[3])
    text = ff.caption(ax)
    assert (
        "At fc3, last step (400): mean number of directions that hold 90 % of the energy: "
        f"bp {want['bp'][0]:#.3g} (equal in 3 seeds), fa {want['fa'][0]:#.3g}"
    ) in text
    assert f"leading classes − 1 = 4 directions: bp {want['bp'][1]:.3f}" in text
    bound = ff.numbers(ax).query("kind == 'bound'")
    assert bound["x"].tolist() == [4]
    assert any(list(line.get_xdata()) == [4, 4] for line in ax.lines)


def test_rounding_is_below_the_axis() -> None:
    results = kept(synthetic(("bp",)))
    probe = results["probe"].to_dataset()
    probe["error_spectrum_raw"][..., -1] = 1e-12
    results["probe"] = probe
    ax = draw(ff.spectrum, results)
    assert 1e-7 < ax.get_ylim()[0] < 1e-6
    assert ax.get_ylim()[1] < 2
    assert "The axis ends where a float32 signal has only rounding." in ff.small_print(ax)
    assert "rounding" not in ff.small_print(draw(ff.spectrum, kept()))


def test_a_step_or_layer_that_was_not_kept_is_refused() -> None:
    with pytest.raises(InputError, match="step 50 was not recorded; the nearest are 0, 400"):
        draw(ff.spectrum, kept(), step=50)
    with pytest.raises(InputError, match="no layer 'fc9'"):
        draw(ff.spectrum, kept(), layer="fc9")
    with pytest.raises(InputError, match=r"no signal is called 'eror' \(near: error"):
        draw(ff.spectrum, kept(), signal="eror")
    at_start = draw(ff.spectrum, kept(), step=0)
    assert set(ff.numbers(at_start)["step"].dropna()) == {0}


def test_without_spectra_the_panel_says_how_to_keep_them() -> None:
    ax = draw(ff.spectrum, synthetic())
    said = " ".join(ax.texts[0].get_text().split())
    assert said == "Not drawn: the results hold no error_spectrum_raw; keep it with analyze(spectra='error')"


def test_one_run_is_drawn_beside_its_exact_twin() -> None:
    results = kept(synthetic(("fa",), seeds=(0,)))
    probe = results["probe"].to_dataset()
    results["probe"] = probe.assign(error_bp_spectrum_raw=probe["error_spectrum_raw"] ** 2)
    ax = draw(ff.spectrum, results)
    assert set(ff.numbers(ax)["condition"].dropna()) == {"fa", "error_bp, same weights"}
    assert "no interval from one seed" in ff.small_print(ax)
