"""A saved figure: the same bytes each time, texts as texts, and its numbers and caption beside it."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import InputError
from tests.figures.drawing import draw
from tests.results.synthetic_results import SMALL, synthetic


def two_panels():
    figure = Figure(figsize=ff.size("icml", "text", aspect=0.4))
    axs = figure.subplots(1, 2)
    with ff.style("icml"):
        results = synthetic(**SMALL)
        ff.rank_by_depth(results, ax=axs[0])
        ff.accuracy_over_training(results, ax=axs[1])
        ff.letters(axs)
    return figure


def test_the_same_results_give_the_same_bytes_also_when_saved_again(tmp_path) -> None:
    figures = {"a": two_panels(), "b": two_panels()}
    for name in ("a", "b", "a", "a"):  # the last time after two others
        ff.save(figures[name], tmp_path / name)
        files = {path.suffix: path.read_bytes() for path in tmp_path.glob(f"{name}.*")}
        assert set(files) == {".pdf", ".svg", ".png", ".csv", ".tex"}
        files[".tex"] = files[".tex"].replace(b"{b}", b"{a}").replace(b"fig:b", b"fig:a")
        first = files if name == "a" and "first" not in locals() else first  # noqa: F821
        assert files == first


def test_an_svg_holds_text_and_a_pdf_truetype(tmp_path) -> None:
    ff.save(draw(ff.accuracy_over_training, synthetic(**SMALL)), tmp_path / "a")
    assert ">training step</text>" in (tmp_path / "a.svg").read_text()
    data = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


@pytest.mark.parametrize("function", [ff.rank_by_depth, ff.rank_over_training, ff.rank_gap, ff.conditions])
def test_the_csv_holds_what_is_drawn(function, tmp_path) -> None:
    ax = draw(function)
    ff.save(ax, tmp_path / "a", formats=["svg"])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = np.concatenate([np.ravel(line.get_xdata()) for line in ax.lines])
    drawn = np.concatenate([drawn, *(np.ravel(line.get_ydata()) for line in ax.lines)])
    values = [float(row["value"]) for row in rows if row["kind"] in ("mean", "difference", "seed")]
    assert len(values) > 20
    assert np.isin(values, drawn).all()
    for row in rows:
        if row["kind"] in ("mean", "difference") and row["low"]:
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
            assert (row["n"], row["seeds"]) == ("3", "0 1 2")
            assert row["interval"].startswith("95 % t")


def test_the_caption_file_is_latex(tmp_path) -> None:
    ff.save(two_panels(), tmp_path / "fig1", formats=["png"])
    text = (tmp_path / "fig1.tex").read_text()
    assert text.startswith(
        "% Put this inside a figure environment: \\input{fig1}\n"
        "\\caption{Numbers of fc1, last step (400). (a) Effective rank"
    )
    assert "(b) Test accuracy, over training: fa" in text
    assert "exp($-$$\\Sigma$ q ln q), q = s/$\\Sigma$s" in text
    assert "N = 256 samples" in text
    assert "95 \\% t interval" in text
    assert "fa $-$ bp" in text
    assert text.endswith("}\n\\label{fig:fig1}\n")


def test_letters_may_come_before_the_panels() -> None:
    figure = Figure()
    axs = figure.subplots(1, 2)
    ff.letters(axs)
    ff.accuracy_over_training(synthetic(**SMALL), ax=axs[1])
    assert ff.caption(figure).startswith("(b) Test accuracy")
    assert set(ff.numbers(figure)["panel"]) == {"b"}


def test_a_cleared_panel_is_forgotten() -> None:
    ax = draw(ff.accuracy_over_training, synthetic(**SMALL))
    ax.clear()
    assert ff.caption(ax) == ""
    ff.rank_by_depth(synthetic(**SMALL), ax=ax)
    assert ff.caption(ax).startswith("Effective rank")


def test_what_cannot_be_saved_is_refused_before_drawing(tmp_path) -> None:
    ax = draw(ff.accuracy_over_training, synthetic(**SMALL))
    with pytest.raises(InputError, match=r"cannot be saved as 'gif' \(there are pdf, svg, png\)"):
        ff.save(ax, tmp_path / "a", formats=["gif"])
    with pytest.raises(InputError, match="there is no directory"):
        ff.save(ax, tmp_path / "nowhere" / "a")
    with pytest.raises(InputError, match="int is no figure of matplotlib; give a Figure or an Axes"):
        ff.save(3, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_suffix_chooses_the_format(tmp_path) -> None:
    written = ff.save(draw(ff.conditions, synthetic(**SMALL)), tmp_path / "v1.2.pdf")
    assert [path.name for path in written] == ["v1.2.pdf", "v1.2.csv", "v1.2.tex"]
    written = ff.save(draw(ff.conditions, synthetic(**SMALL)), tmp_path / "v1.3", formats=["png"])
    assert [path.name for path in written] == ["v1.3.png", "v1.3.csv", "v1.3.tex"]
