"""The report in a real browser: mouse, keyboard, phones, both color schemes, print, and no request."""

import re

import pytest

from fadiag.figures import FIGURES
from fadiag.report import write_report
from tests.report.chromium import opened
from tests.report.test_html import hostile
from tests.results.synthetic_results import synthetic

pytestmark = pytest.mark.slow

LAYERS = tuple(f"layer{i:02d}" for i in range(12))
#: The cells of a column of the table, as shown.
COLUMN = "[...document.querySelectorAll('#values tbody tr')].map(r => r.cells[{}].firstChild.textContent)"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    results = synthetic(("bp", "fa", "fa+bn"), spread=0.1, layers=LAYERS)
    return write_report(results, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab, report):
    tab.open(report)
    yield tab
    assert tab.complaints == []


def column(page, number):
    return page.evaluate(COLUMN.format(number))


def test_every_image_decodes(page) -> None:
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(images) == len(FIGURES)
    assert all(complete and width > 100 and alt > 30 for complete, width, alt in images)


def test_nothing_is_asked_of_the_network(page) -> None:
    asked = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []


def test_a_request_or_a_foreign_script_would_be_seen(tab, report, tmp_path) -> None:
    copy = tmp_path / "copy.html"
    foreign = '<img src="https://example.org/x.png"><script>document.title = "taken"</script></body>'
    copy.write_text(report.read_text().replace("</body>", foreign))
    tab.open(copy)
    said = " ".join(tab.complaints)
    assert "example.org" in said
    assert "script" in said
    assert tab.evaluate("document.title") != "taken"


def test_hostile_names_run_nothing(tab, tmp_path) -> None:
    tab.open(write_report(hostile(), tmp_path / "hostile.html"))
    assert tab.complaints == []
    assert tab.evaluate("document.querySelectorAll('script').length") == 2
    assert "\\x1b[2J\\x00</script><img" in tab.evaluate("document.querySelector('#values').textContent")


@pytest.mark.parametrize("width", [390, 800, 1200])
def test_the_page_does_not_scroll_sideways(tab, report, width) -> None:
    tab.open(report, width=width, mobile=width < 500)
    page, window = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert page <= window == width


@pytest.mark.parametrize("part", ["body", ".note", ".alerts strong", "a[href]", "caption"])
def test_text_can_be_read_in_both_schemes(tab, report, part) -> None:
    colors = {}
    for dark in (False, True):
        tab.open(report, dark=dark)
        script = f"getComputedStyle(document.querySelector('{part}')).color"
        behind = "getComputedStyle(document.querySelector('.alerts li')).backgroundColor"
        page = behind if "alerts" in part else "getComputedStyle(document.body).backgroundColor"
        colors[dark] = [tab.evaluate(found) for found in (script, page)]
        assert contrast(*colors[dark]) >= 4.5  # WCAG AA
    assert colors[False][1] != colors[True][1]


def contrast(ink, paper) -> float:
    """Return the contrast of two colors by the formula of WCAG 2."""

    def light(color):
        parts = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(ink), light(paper)))
    return (high + 0.05) / (low + 0.05)


def test_a_click_on_a_head_sorts_up_down_and_back(page) -> None:
    folded = column(page, 0)
    head = "#values thead th:nth-child(3) button"
    page.click(head)
    up = [float(text) for text in column(page, 2)]
    assert len(up) == len(LAYERS) * 3
    assert up == sorted(up)
    assert page.evaluate("document.querySelector('#values thead th:nth-child(3)').ariaSort") == "ascending"
    page.click(head)
    down = [float(text) for text in column(page, 2)]
    assert down == sorted(down, reverse=True)
    page.click(head)
    assert column(page, 0) == folded


def test_cells_without_a_value_are_sorted_to_the_end(page) -> None:
    place = page.evaluate(
        "[...document.querySelectorAll('#values th')].findIndex(t => t.textContent == 'cos(W, B)')"
    )
    for _ in range(2):
        page.click(f"#values thead th:nth-child({place + 1}) button")
        shown = column(page, place)
        held = [text for text in shown if text != "—"]
        assert "—" in shown
        assert shown[: len(held)] == held


def test_a_click_opens_and_closes_a_group_of_like_layers(page) -> None:
    folded = column(page, 0)
    assert folded[:3] == ["layer00"] * 3
    assert folded[3:6] == ["layer01 to layer10 (10)"] * 3
    assert len(folded) == 9
    page.click("#values tbody button")
    assert [text.strip() for text in column(page, 0)[6:9]] == ["layer01"] * 3
    assert len(column(page, 0)) == 9 + 10 * 3
    page.click("#values tbody button")
    assert column(page, 0) == folded


def test_what_is_typed_and_chosen_filters_the_rows(page) -> None:
    page.click("#layer-filter")
    page.type("ER03")
    assert column(page, 0) == ["layer03"] * 3
    assert page.evaluate("document.querySelector('#count').textContent") == "3 rows"
    choose = (
        "s = document.querySelector('#condition-filter'); s.value = 1; s.dispatchEvent(new Event('input'))"
    )
    page.evaluate(choose)
    assert (column(page, 0), column(page, 1)) == (["layer03"], ["fa"])
    page.type("x")
    assert column(page, 0) == []


def test_a_button_shows_every_layer(page) -> None:
    page.click("#unfold")
    assert len(column(page, 0)) == len(LAYERS) * 3
    page.click("#unfold")
    assert len(column(page, 0)) == 9


def test_the_numbers_are_those_of_the_captions(page) -> None:
    caption = page.evaluate("document.querySelector('#figure-conditions figcaption').textContent")
    page.click("#layer-filter")
    page.type("layer10")
    cells = page.evaluate("[...document.querySelectorAll('#values tbody tr')].map(r => r.cells[2].innerText)")
    for cell in cells:
        assert " ".join(cell.split("\n")) in caption


def test_the_keyboard_reaches_sorts_and_opens_with_visible_focus(page) -> None:
    page.evaluate("document.querySelector('#layer-filter').focus()")
    seen = []
    for _ in range(8):
        page.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent"))
    assert "layer" in seen
    assert "condition" in seen
    page.evaluate(
        "document.querySelector('#values thead th:nth-child(3) button').focus({focusVisible: true})"
    )
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.press("Enter")
    up = [float(text) for text in column(page, 2)]
    assert up == sorted(up)
    for key in ("Enter", " "):
        page.evaluate("document.querySelector('#definitions summary').focus()")
        was = page.evaluate("document.querySelector('#definitions details').open")
        page.press(key)
        assert page.evaluate("document.querySelector('#definitions details').open") != was


def test_focus_stays_on_a_group_that_was_opened(page) -> None:
    page.evaluate("document.querySelector('#values tbody button').focus()")
    page.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "layer01 to layer10 (10)"
    assert page.evaluate("document.activeElement.ariaExpanded") == "true"


def test_the_methods_are_copied_or_selected(page) -> None:
    page.click("#copy")
    assert page.evaluate("getSelection().toString()").startswith("We recorded 9 runs")
    assert page.evaluate("document.querySelector('#copied').textContent")


def test_print_opens_everything_and_cuts_no_column(page) -> None:
    page.send("Emulation.setEmulatedMedia", media="print")
    page.send("Emulation.setDeviceMetricsOverride", width=688, height=1000, deviceScaleFactor=1, mobile=False)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    # 688 pixels are the width of A4 less its margins.
    wide = page.evaluate(
        "[...document.querySelectorAll('table, img')].map(t => t.getBoundingClientRect().right)"
    )
    assert max(wide) <= 688
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    page.send("Emulation.setEmulatedMedia", media="")
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    assert 5 < pdf.count(b"/Type /Page\n") < 40


def test_headings_are_kept_with_their_figures_in_print(page) -> None:
    rules = page.evaluate(
        "[...document.styleSheets[0].cssRules].filter(r => r.media?.mediaText === 'print')"
        ".map(r => r.cssText).join()"
    )
    assert re.search(r"h2, h2 \+ p, h3[^{]*{ break-after: avoid", rules)
    inside = "[...document.querySelectorAll('figure')].every(f => f.querySelector('.keep h3 ~ .scroll img'))"
    assert page.evaluate(inside)
    assert re.search(r"\.keep,[^{]*{ break-inside: avoid", rules)
