import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import InputError
from fadiag.figures import FIGURES
from fadiag.report import render, write_report
from fadiag.report.tables import definitions, finals, runs, scalars
from tests.results.synthetic_results import CONDITIONS, SMALL, shorter, synthetic


class Page(HTMLParser):
    """The elements of a page, its text by section, and whatever an element refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references, self.tags, self.open, self.rows = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self.references += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def html() -> str:
    return render(synthetic())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_elements_are_closed_in_order(page) -> None:
    assert page.open == []


def test_nothing_outside_the_file_is_referred_to(page, html) -> None:
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert "@import" not in html
    assert "url(" not in html
    assert not any(tag == "script" for tag, _ in page.tags)


def test_links_lead_somewhere(page) -> None:
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= ids


def test_every_figure_is_there_with_its_sentence(page, html) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(FIGURES)
    for image, figure in zip(images, FIGURES, strict=True):
        kind, _, code = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(code, validate=True)
        assert image["alt"].endswith(figure.caption(synthetic()))
    assert html.count("<figcaption>") == len(FIGURES)


def test_table_of_the_last_step_compares_conditions_layer_by_layer(page) -> None:
    head = next(row for row in page.rows if row[:2] == ["layer", "condition"])
    rows = [row for row in page.rows if len(row) == len(head) and row[0] in ("fc1", "fc2", "fc3", "out")]
    assert [row[1] for row in rows[:2]] == ["bp", "fa"]
    assert len(rows) == 4 * len(CONDITIONS)
    fa = next(row for row in rows if row[:2] == ["fc3", "fa"])
    # 15, 15 + 0.02 * 2 * 30 ...: see synthetic; the mean is between and the interval around it.
    mean, low, high = map(
        float, re.match(r"(\S+) \[(\S+), (\S+)\]", fa[head.index("error PR, raw")]).groups()
    )
    assert 15 < mean < 20
    assert low < mean < high


def test_provenance_names_runs_seeds_and_versions(page) -> None:
    cells = [cell for row in page.rows for cell in row]
    for run in ("bp-seed0", "fa+muon+bn-seed2"):
        assert run in cells
    assert "fadiag 0.1.0, numpy 2.4" in cells
    assert "2026-11-24T12:00:00+00:00" in cells


def test_what_all_runs_share_is_said_once() -> None:
    results = synthetic(**SMALL)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset().assign_coords(data_sha256=("run", ["abc123"] * 6))
    assert render(results).count("abc123") == 1


def test_what_runs_tell_of_each_stream_is_said_of_its_stream() -> None:
    results = synthetic(("bp", "fa"))
    for stream, split in (("probe", "test"), ("state", "train")):
        told = {"split": ("run", [split] * 6), "kept_samples": ("run", [256.0] * 6)}
        results[stream] = results[stream].to_dataset().assign_coords(told)
    common, _ = runs(results)
    assert {("split of probe", "test"), ("split of state", "train"), ("kept_samples", "256")} <= set(
        common.rows
    )


def test_seeds_are_shown_in_full() -> None:
    results = synthetic(("bp", "fa"), seeds=(0, 1))
    for stream in ("probe", "log", "state"):
        seeds = {"seed": ("run", [20261128.0, 20261129.0, np.nan, 0.1])}
        results[stream] = results[stream].to_dataset().assign_coords(seeds)
    _, each = runs(results)
    column = each.head.index("seed")
    assert [row[column] for row in each.rows] == ["20261128", "20261129", "nan", "0.1"]


def test_definitions_carry_formula_source_and_n(page) -> None:
    row = next(row for row in page.rows if row[0] == "error_participation_ratio_raw")
    assert "tr(G)² / |G|²" in row
    assert "definition" in row
    assert "probe, N = 256, test, samples, eval mode" in row


def test_names_from_the_user_are_escaped() -> None:
    conditions = ("bp", "<script>alert(1)</script>", 'a"b')
    html = render(synthetic(conditions, layers=SMALL["layers"]), title="<b>&")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<title>&lt;b&gt;&amp;</title>" in html


def test_a_figure_without_its_signals_is_told_and_the_rest_drawn() -> None:
    results = synthetic(**SMALL)
    results["probe"] = results["probe"].to_dataset().drop_vars("error_overlap")
    html = render(results)
    assert html.count("<img") == len(FIGURES)  # the reason is in the picture, and in its caption
    assert "Not drawn: the results hold no error_overlap" in html


def test_a_figure_that_refuses_is_told_and_the_rest_drawn(monkeypatch) -> None:
    def refuse(*_):
        raise InputError("the figure of a test")

    monkeypatch.setattr("fadiag.report.pictures.svg", refuse)
    html = render(synthetic(("bp", "fa")))
    assert html.count("Not drawn: the figure of a test.") == len(FIGURES)
    assert "error PR, raw" in html


def test_runs_that_cannot_be_drawn_as_one_leave_provenance_and_definitions() -> None:
    results = synthetic(("bp", "fa"), seeds=(0, 1))
    for stream in ("probe", "log", "state"):
        crossed = {"seed": ("run", [0] * 4), "feedback_seed": ("run", [0, 1] * 2)}
        results[stream] = results[stream].to_dataset().assign_coords(crossed)
    html = render(results)
    told = (
        "runs &#39;bp-seed0&#39; and &#39;bp-seed1&#39; share condition &#39;bp&#39; and seed 0 and differ in"
    )
    assert html.count(f"Not drawn: {told}") == len(FIGURES)
    assert html.count(f"No table: {told}") == 1
    rows = Page(html).rows
    assert any("fa-seed1" in row for row in rows)
    assert any("error_cosine" in row for row in rows)


def test_results_without_a_log_are_reported() -> None:
    results = synthetic(("fa",), seeds=(0,), layers=SMALL["layers"])
    del results["log"]
    html = render(results)
    assert "Not drawn: the results hold no test_accuracy" in html
    assert "(one seed)" in html
    assert not re.search(r"\bnan\b", re.sub(r'base64,[^"]*', "", html))


def test_the_same_results_give_the_same_file(tmp_path) -> None:
    results = synthetic(**SMALL)
    one, other = (write_report(results, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_refuses_where_there_is_nothing_to_write_or_to_tell(tmp_path) -> None:
    with pytest.raises(InputError, match="name a file in a directory that exists"):
        write_report(synthetic(("bp",)), tmp_path / "nowhere" / "report.html")
    with pytest.raises(InputError, match="hold no run, so there is nothing to report"):
        write_report(xr.DataTree(), tmp_path / "report.html")


def test_the_table_of_the_last_step_is_of_one_stream() -> None:
    results = synthetic(("bp", "fa"))
    expected = finals(results)
    live = results["probe"].to_dataset() * 0 + 1000.0
    live.attrs["kind"] = "live"
    groups = {f"/{name}": node.to_dataset() for name, node in results.children.items()}
    beside = finals(xr.DataTree.from_dict({"/live": live, **groups}))
    assert beside.rows == expected.rows
    assert beside.note == f"{expected.note} Measured on the stream 'probe', not on live."


def test_nulls_have_no_definitions_of_their_own() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    draws = {f"error_cosine_null_{end}": probe["error_cosine"] for end in ("mean", "p", "draws")}
    results["probe"] = probe.assign(draws)
    names = [row[0] for row in definitions(results).rows]
    assert "error_cosine" in names
    assert not [name for name in names if "_null_" in name]


def test_tables_hold_conditions_against_each_other_at_one_step() -> None:
    results = synthetic(("bp", "fa"))
    assert "at step" not in finals(results).note + scalars(results).note
    until = float(results["log/test_accuracy"].isel(run=slice(3)).sel(step=100).mean())
    table = scalars(shorter(results, "fa", 3))
    assert table.rows[0][:2] == ("bp", table.rows[0][1])
    assert table.rows[0][1].startswith(f"{until:.3f} [")
    told = "at step 100, the last shared step (bp ends at step 400)."
    assert table.note.endswith(f" test accuracy: {told}")
    note = finals(results).note
    assert note.startswith("Mean over seeds [95 % t interval] at the last recorded step, unless stated. PR:")
    assert f"cos(error, error_bp), overlap with error_bp: {told}" in note
    # Of FA alone:
    assert note.endswith(
        " cos(W, B): at step 100 (no later step has a value; the results go up to step 400)."
    )


def test_tables_say_where_all_runs_ended_early() -> None:
    results = shorter(synthetic(("fa",)), "fa", 3)
    until = "at step 100 (no later step has a value; the results go up to step 400)."
    assert finals(results).note.endswith(until)
    assert scalars(results).note.endswith(f" test accuracy: {until}")


def test_the_table_says_that_different_numbers_of_samples_are_not_compared() -> None:
    results = synthetic(("bp", "fa"))
    assert "not compared" not in finals(results).note
    for array in results["probe"].data_vars.values():
        array.attrs["samples"] = "64, 16"
    told = " Conditions are not compared: runs measured on different numbers of samples (64, 16)."
    assert finals(results).note.endswith(told)
