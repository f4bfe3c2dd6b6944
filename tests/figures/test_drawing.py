import itertools
from functools import cache

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text

from fadiag.errors import InputError
from fadiag.figures import FIGURES, find, save, svg
from fadiag.figures.style import style
from tests.results.synthetic_results import synthetic


def texts(canvas):
    """Return every text that is drawn, with its box in pixels."""
    with style():
        canvas.draw_without_rendering()
    renderer = canvas._get_renderer()
    of_ticks, found = set(), []
    for ax in canvas.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                of_ticks |= {tick.label1, tick.label2}
                if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text():
                    found.append(tick.label1)
    found += [
        t for t in canvas.findobj(Text) if t not in of_ticks and t.get_visible() and t.get_text().strip()
    ]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found]


CASES = {
    "all": {},
    "two conditions, no nulls": {"conditions": ("bp", "fa"), "nulls": False},
    "long layers": {"layers": tuple(f"model.encoder.layers.{i}.self_attention.out" for i in range(4))},
    "many layers": {"conditions": ("bp", "fa"), "layers": tuple(f"block{i}.conv1" for i in range(60))},
    "one seed, long names": {
        "conditions": ("bp", "fa", "fa with a weight mirror", "fa+ln+muon"),
        "seeds": (0,),
    },
}


@cache
def drawn(figure, case="all"):
    """Return the canvas of a figure, for tests that only look at it: drawing takes long."""
    return find(figure).draw(synthetic(**CASES[case]))


#: Every figure in two cases and one figure in every case; the slow tests have the others.
LAID_OUT = [
    pytest.param(
        *(figure, case),
        id=f"{figure.name}-{case}",
        marks=() if figure.name == "alignment" or case in ("all", "many layers") else pytest.mark.slow,
    )
    for figure in FIGURES
    for case in CASES
]


@pytest.mark.parametrize(("figure", "case"), LAID_OUT)
def test_no_text_is_cut_or_covered(figure, case) -> None:
    canvas = drawn(figure.name, case)
    found = texts(canvas)
    width, height = canvas.get_size_inches() * canvas.dpi
    for text, box in found:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, first), (other, second) in itertools.combinations(found, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        along = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across < 1 or along < 1, f"{one!r} lies over {other!r}"


def test_every_seed_is_drawn_where_it_is() -> None:
    results = synthetic()
    numbers = find("rank").numbers(results)
    ax = drawn("rank").axes[2]  # error, fc3
    lines = [line.get_ydata() for line in ax.lines]
    for condition in ("bp", "fa"):
        for seed in (0, 1, 2):
            want = numbers["error_participation_ratio_raw"].sel(
                {"condition": condition, "seed": seed, "layer": "fc3"}
            )
            assert any(np.array_equal(want, line) for line in lines)


def test_rank_draws_the_gate_null_where_it_is_recorded() -> None:
    def bands(canvas):
        return [len(ax.collections) for ax in canvas.axes]

    with_null, without = bands(drawn("rank")), bands(find("rank").draw(synthetic(nulls=False)))
    # Four layers of the first row have one more band; no null of the other rows was recorded.
    assert np.subtract(with_null, without).tolist() == [1] * 4 + [0] * 12


def test_remedies_draw_every_seed_as_a_dot() -> None:
    results = synthetic()
    at_end = results["log/test_accuracy"].values[:, -1] * 100
    ax = drawn("remedies").axes[0]
    dots = np.concatenate([line.get_xdata() for line in ax.lines if line.get_marker() == "o"])
    np.testing.assert_allclose(np.sort(dots), np.sort(at_end))


def test_figures_say_n_mode_seeds_and_interval() -> None:
    for figure in FIGURES:
        words = " ".join(text for text, _ in texts(drawn(figure.name))).replace("\n", " ")
        assert "3 seeds per condition; every seed is shown" in words
        assert "95 % t interval" in words
        if figure.name != "accuracy":
            assert "N = 256 samples" in words
            assert "eval mode" in words


def test_drawing_leaves_the_users_settings_alone(tmp_path) -> None:
    with mpl.rc_context({"font.size": 31.0, "pdf.fonttype": 3}):
        before = dict(mpl.rcParams)
        save(find("rank").draw(synthetic()), tmp_path / "rank.pdf")
        assert dict(mpl.rcParams) == before


def test_pdf_embeds_truetype_and_no_type_3(tmp_path) -> None:
    data = save(find("accuracy").draw(synthetic()), tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_same_results_give_the_same_file(tmp_path, suffix) -> None:
    one, other = (
        save(find("accuracy").draw(synthetic()), tmp_path / f"{i}{suffix}").read_bytes() for i in "ab"
    )
    assert one == other


def test_svg_is_a_document_of_its_own() -> None:
    assert "<svg" in svg(find("accuracy").draw(synthetic()))


def test_other_suffixes_are_refused(tmp_path) -> None:
    canvas = find("accuracy").draw(synthetic(("bp",)))
    with pytest.raises(
        InputError, match=r"cannot be saved as .*fig\.gif: its name must end in \.pdf, \.png, \.svg"
    ):
        save(canvas, tmp_path / "fig.gif")
    with pytest.raises(InputError, match="there is no directory"):
        save(canvas, tmp_path / "nowhere" / "fig.pdf")


@pytest.mark.parametrize("name", ["rank", "alignment", "overlap"])
def test_of_many_layers_some_are_drawn_and_told(name) -> None:
    canvas = drawn(name, "many layers")
    titles = [ax.get_title().replace("\n", "") for ax in canvas.axes if ax.get_title()]
    assert titles == [f"block{i}.conv1" for i in (0, 8, 17, 25, 34, 42, 58, 59)]  # 58 is in the caption
    assert "8 of 60 layers are shown." in canvas.get_supxlabel().replace("\n", " ")


@pytest.mark.parametrize("conditions", [("bp", "fa"), ("bp", "fa", "fa+bn", "frozen")])
def test_one_step_is_seen(conditions) -> None:
    results = synthetic(conditions)
    for stream in ("probe", "state", "log"):
        results[stream] = results[stream].to_dataset().isel(step=[-1])
    ax = find("accuracy").draw(results).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert (len(dots), len(bars)) == (4 * len(conditions), len(conditions))
    assert list(ax.get_xticks()) == [400]
    assert all(len(ax.collections) for ax in find("overlap").draw(results).axes)  # the null


def test_names_are_no_mathematics(tmp_path) -> None:
    rule, layer = "$\\lr$=0.1", "a$_b$"
    results = synthetic(("fa", rule), layers=("fc1", layer, "fc3", "out"))
    canvas = find("alignment").draw(results)
    save(canvas, tmp_path / "alignment.svg")
    assert {rule, layer} <= {text for text, _ in texts(canvas)}


def test_an_overlap_without_a_value_says_so() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    results["probe"] = probe.assign(error_overlap=probe["error_overlap"].where(probe["layer"] != "fc2"))
    said = [[text.get_text() for text in ax.texts] for ax in find("overlap").draw(results).axes]
    assert said == [[], ["not recorded"], [], []]
