"""Letters that no font has are spelled in letters that every font has."""

from fadiag import figures as ff
from fadiag.figures.look import fonts
from fadiag.figures.look.text import shown
from tests.figures.drawing import draw
from tests.results.synthetic_results import synthetic


def test_letters_without_a_font_are_spelled(monkeypatch) -> None:
    monkeypatch.setattr(fonts, "font_with", lambda character: None)
    assert shown("テスト 한국 ｆａ 🚀 中") == r"tesuto hangug fa [rocket] \u4e2d"
    names = ("bp", "テスト", "🚀")
    ax = draw(ff.accuracy_over_training, synthetic(names))
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["bp", "tesuto", "[rocket]"]
    assert "テスト" in ff.caption(ax)
