import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import InputError
from fadiag.figures import FIGURES
from fadiag.report import render, write_report
from fadiag.report.pictures import Pictures, draw
from fadiag.report.tables import definitions, runs
from fadiag.report.values import values
from fadiag.results.recorded import to_recorded_attribute
from tests.results.synthetic_results import SMALL, shorter, synthetic

METRIC = "error_effective_rank_raw"
HOSTILE = "\x1b[2J\x00</script><img src=x onerror=alert(1)>\u202egnp\u2066\"'&"


class Page(HTMLParser):
    """The elements of a page, its cells by row, and whatever an element refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references, self.tags, self.open, self.rows, self.scripts = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        self.references += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "script" in self.open:
            self.scripts[-1] += data

    def files(self) -> dict[str, bytes]:
        """Return the files that links hold, by their names."""
        links = [attrs for tag, attrs in self.tags if tag == "a" and "download" in attrs]
        return {a["download"]: base64.b64decode(a["href"].partition(",")[2], validate=True) for a in links}


@pytest.fixture(scope="module")
def html() -> str:
    return render(synthetic())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Leave the figures out where a test looks at the text only."""
    monkeypatch.setattr("fadiag.report.write.draw", lambda _: Pictures((), None))


def test_elements_are_closed_in_order(page) -> None:
    assert page.open == []


def test_nothing_outside_the_file_is_referred_to(page, html) -> None:
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert "@import" not in html
    assert "url(" not in html
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_only_the_reports_own_script_may_run(page, html) -> None:
    data, script = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert json.loads(data)["layers"] == ["fc1", "fc2", "fc3", "out"]


def test_links_lead_somewhere(page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= set(ids)


def test_every_figure_is_there_with_its_words(page, html) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == html.count("<figcaption>") == len(FIGURES)
    for image, figure in zip(images, FIGURES, strict=True):
        kind, _, code = image["src"].partition(",")
        content = base64.b64decode(code, validate=True)
        assert (b"<svg" in content) if "svg" in kind else content.startswith(b"\x89PNG")
        assert image["alt"].startswith(f"{figure.title}. ")
        assert image["alt"].removeprefix(f"{figure.title}. ") in html.replace("&#39;", "'")


def test_provenance_names_runs_seeds_and_versions(page) -> None:
    cells = [cell for row in page.rows for cell in row]
    for run in ("bp-seed0", "fa+muon+bn-seed2"):
        assert run in cells
    assert "fadiag 0.1.0, numpy 2.4" in cells
    assert "2026-11-24T12:00:00+00:00" in cells


def test_provenance_says_how_runs_were_recorded(undrawn) -> None:
    results = synthetic(("bp", "fa"), (0, 1), layers=SMALL["layers"])
    made = {"versions": {"torch": "2.13"}, "device": "cpu", "config": {"train": {"epochs": 30}}}
    hosts = {"bp-seed0": "h1", "bp-seed1": "h1", "fa-seed0": "h1", "fa-seed1": "h2"}
    results.attrs |= to_recorded_attribute({run: {**made, "host": host} for run, host in hosts.items()})
    of_study = {"study_command": "fadiag study s.toml", "study_commit": "abc"}
    entries = {key: ("run", np.array([value] * 4, object)) for key, value in of_study.items()}
    results["log"] = results["log"].to_dataset().assign_coords(entries)
    rows = Page(render(results)).rows
    assert ["torch", "2.13"] in rows
    assert ["device", "cpu"] in rows
    assert ["host", "h1 (bp-seed0, bp-seed1, fa-seed0); h2 (fa-seed1)"] in rows
    assert ["train.epochs", "30"] in rows
    assert ["study's command", "fadiag study s.toml"] in rows
    assert ["study's commit", "abc"] in rows
    assert "do not say how their runs were recorded" in render(synthetic(**SMALL))


def test_what_all_runs_share_is_said_once(undrawn) -> None:
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
    row = next(row for row in page.rows if row[:1] == ["error_participation_ratio_raw"])
    assert "tr(G)² / |G|²" in row
    assert "definition" in row
    assert "probe, N = 256, test, samples, eval mode" in row


def test_nulls_have_no_definitions_of_their_own() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    draws = {f"error_cosine_null_{end}": probe["error_cosine"] for end in ("mean", "p", "draws")}
    results["probe"] = probe.assign(draws)
    names = [row[0] for row in definitions(results).rows]
    assert "error_cosine" in names
    assert not [name for name in names if "_null_" in name]


def hostile() -> xr.DataTree:
    """Return results in which every name that a store may hold is hostile."""
    results = synthetic(("bp", "fa"), (0, 1), layers=SMALL["layers"])
    groups = {"/": results.to_dataset().assign_attrs(created=HOSTILE, versions=HOSTILE)}
    for name, node in results.children.items():
        stream = node.to_dataset()
        stream = stream.assign_coords(
            condition=("run", np.array([HOSTILE, HOSTILE, f"fa{HOSTILE}", f"fa{HOSTILE}"], object)),
            run=np.array([f"{HOSTILE}{i}" for i in range(4)], object),
            rule=("run", ["bp", "bp", "fa", "fa"]),
            dataset=("run", np.array([HOSTILE] * 4, object)),
            model=("run", np.array([HOSTILE] * 4, object)),
            status=("run", np.array(["killed"] * 4, object)),
            question=("run", np.array([HOSTILE] * 4, object)),
            study_command=("run", np.array([HOSTILE] * 4, object)),
        )
        if "layer" in stream.dims:
            stream = stream.assign_coords(layer=np.array([f"{HOSTILE}1", f"{HOSTILE}2"], object))
            for array in stream.data_vars.values():
                array.attrs = {**array.attrs, "long_name": HOSTILE, "formula": HOSTILE, "split": HOSTILE}
        groups[f"/{name}"] = stream
    made = {f"{HOSTILE}{i}": {"host": HOSTILE, "config": {HOSTILE: HOSTILE}} for i in range(4)}
    groups["/"].attrs |= to_recorded_attribute(made)
    return xr.DataTree.from_dict(groups)


def test_no_control_character_of_a_store_gets_into_the_file() -> None:
    html = render(hostile(), title=HOSTILE)
    page = Page(html)
    texts = [html, *page.scripts]
    for tag, attrs in page.tags:
        if tag == "img" and "svg" in attrs["src"][:30]:
            texts.append(base64.b64decode(attrs["src"].partition(",")[2]).decode())
    texts += [content.decode() for name, content in page.files().items() if not name.endswith(".pdf")]
    for text in texts:
        assert {c for c in text if not c.isprintable()} <= {"\n"}
    assert "\\x1b[2J\\x00" in html
    assert "\\u202e" in html
    assert not any("onerror" in attrs or attrs.get("src") == "x" for _, attrs in page.tags)
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["layers"][0].startswith("\\x1b[2J\\x00</script><img")


def test_names_from_the_user_are_escaped(undrawn) -> None:
    conditions = ("bp", "<script>alert(1)</script>", 'a"b')
    html = render(synthetic(conditions, layers=SMALL["layers"]), title="<b>&")
    assert html.count("<script") == 2
    assert "&lt;script&gt;" in html
    assert "<title>&lt;b&gt;&amp;</title>" in html


def test_a_figure_without_its_signals_gives_the_reason_and_the_rest_is_drawn() -> None:
    results = synthetic(**SMALL)
    results["probe"] = results["probe"].to_dataset().drop_vars("error_overlap")
    html = render(results)
    assert html.count("<img") == len(FIGURES) - 1
    assert "Not drawn: the results hold no error_overlap (similar names are " in html


def test_a_figure_that_refuses_gives_the_reason_and_the_rest_is_drawn(monkeypatch) -> None:
    def refuse(*_):
        raise InputError("the figure of a test")

    monkeypatch.setattr("fadiag.report.pictures._picture", refuse)
    html = render(synthetic(("bp", "fa")))
    assert html.count("Not drawn: the figure of a test.") == len(FIGURES)
    assert "error PR, raw" in html


def test_runs_that_cannot_be_drawn_as_one_leave_provenance_and_definitions() -> None:
    results = synthetic(("bp", "fa"), seeds=(0, 1))
    for stream in ("probe", "log", "state"):
        crossed = {"seed": ("run", [0] * 4), "feedback_seed": ("run", [0, 1] * 2)}
        results[stream] = results[stream].to_dataset().assign_coords(crossed)
    html = render(results)
    why = (
        "runs &#39;bp-seed0&#39; and &#39;bp-seed1&#39; share condition &#39;bp&#39; and seed 0 and differ in"
    )
    assert html.count(f"Not drawn: {why}") == len(FIGURES)
    assert html.count(f"No table: {why}") == 1
    rows = Page(html).rows
    assert any("fa-seed1" in row for row in rows)
    assert any("error_cosine" in row for row in rows)


@pytest.mark.slow
def test_the_same_results_give_the_same_file(tmp_path) -> None:
    results = synthetic(**SMALL)
    one, other = (write_report(results, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_refuses_where_there_is_nothing_to_write_or_to_say(tmp_path) -> None:
    with pytest.raises(InputError, match="name a file in a directory that exists"):
        write_report(synthetic(("bp",)), tmp_path / "nowhere" / "report.html")
    with pytest.raises(InputError, match="hold no run, so there is nothing to report"):
        write_report(xr.DataTree(), tmp_path / "report.html")


def test_downloads_hold_the_numbers_with_all_digits(page) -> None:
    files = page.files()
    assert list(files) == ["figures.pdf", "values.csv", "differences.csv", "fadiag.bib"]
    assert files["figures.pdf"].startswith(b"%PDF")
    assert files["figures.pdf"].count(b"/Type /Page ") == len(FIGURES)
    rows = list(csv.DictReader(io.StringIO(files["values.csv"].decode())))
    (row,) = (r for r in rows if (r["variable"], r["layer"], r["condition"]) == (METRIC, "fc3", "fa"))
    ends = synthetic()[f"probe/{METRIC}"].isel(layer=2, step=-1).values[3:6]
    assert (float(row["mean"]), row["step"], row["n"]) == (ends.mean(), "400", "3")
    differences = list(csv.DictReader(io.StringIO(files["differences.csv"].decode())))
    (fa,) = (r for r in differences if (r["variable"], r["layer"], r["condition"]) == (METRIC, "fc3", "fa"))
    bp = synthetic()[f"probe/{METRIC}"].isel(layer=2, step=-1).values[:3]
    assert float(fa["difference"]) == pytest.approx(ends.mean() - bp.mean(), rel=1e-12)
    assert (fa["p"], fa["note"]) == ("", "no p: 3 pairs, sign flips need 6")
    assert b"@software{fadiag," in files["fadiag.bib"]


def test_the_table_of_values_is_of_one_stream() -> None:
    results = synthetic(("bp", "fa"))
    expected = values(results, METRIC)
    live = results["probe"].to_dataset() * 0 + 1000.0
    live.attrs["kind"] = "live"
    groups = {f"/{name}": node.to_dataset() for name, node in results.children.items()}
    beside = values(xr.DataTree.from_dict({"/live": live, **groups}), METRIC)
    assert beside.cells == expected.cells
    assert beside.note == f"{expected.note} Measured on the stream 'probe', not on live."


def test_values_compare_conditions_at_one_step() -> None:
    results = synthetic(("bp", "fa"))
    assert "at step" not in values(results, METRIC).note
    until = float(results["log/test_accuracy"].isel(run=slice(3)).sel(step=100).mean())
    table = values(shorter(results, "fa", 3), METRIC)
    head, rows = table.scalars()
    assert head == ("condition", "test accuracy")
    assert rows[0][1].startswith(f"{until:.3f} [")
    assert "at step 100, the last shared step (bp ends at step 400)" in table.note


def test_values_are_of_living_layers_within_what_is_possible_and_equal_seeds_have_no_interval() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset().copy(deep=True)
    name = "error_participation_ratio_raw"
    for place, last in ((0, [240, 250, 256, 0, 2, 2.1]), (1, [5, 5, 5, 1, 1.1, 3])):
        probe[name][{"layer": place, "step": -1}] = last
    results["probe"] = probe
    table = values(results, name)
    column = table.cells[[each[0] for each in table.columns].index(name)]
    bp, fa, equal, low = column[len(table.conditions) * table.layers.index("fc1") :][:4]
    assert bp[0] == pytest.approx(746 / 3)
    assert bp[1] > 220
    assert bp[2] == 256  # N; the whole t interval ends at 268.7
    assert fa[0] == pytest.approx(2.05)
    assert fa[3:5] == [2, 3]
    assert equal[:4] == [5, None, None, 3]
    assert low[1] == 1
    assert "dead, with rank 0, and left out at some layer: 1 of 3 runs of fa" in table.note


def test_values_say_that_different_numbers_of_samples_are_not_compared() -> None:
    results = synthetic(("bp", "fa"))
    assert "not compared" not in values(results, METRIC).note
    for array in results["probe"].data_vars.values():
        array.attrs["samples"] = "64, 16"
    why = " Conditions are not compared: runs measured on different numbers of samples (64, 16)."
    assert values(results, METRIC).note.endswith(why)


def test_like_layers_fold_into_groups() -> None:
    names = tuple(f"layer{i}" for i in range(12))
    deep = synthetic(("bp", "fa"), spread=0.0, layers=names)
    # The first and the last layer differ from those between, which repeat one; see synthetic.
    assert values(deep, METRIC).data()["groups"] == [(0, 0), (1, 10), (11, 11)]
    probe = deep["probe"].to_dataset().copy(deep=True)
    probe[METRIC].values[:, 5] *= 1.5
    deep["probe"] = probe
    assert values(deep, METRIC).data()["groups"] == [(0, 0), (1, 4), (5, 5), (6, 10), (11, 11)]
    assert values(synthetic(("bp", "fa")), METRIC).data()["groups"] == [(i, i) for i in range(4)]


def test_values_of_a_layer_without_a_value_are_empty() -> None:
    data = values(synthetic(("bp", "fa")), METRIC).data()
    column = data["cells"][data["heads"].index("cos(W, B)")]
    assert data["layers"] == ["fc1", "fc2", "fc3", "out"]
    assert column[:3] == [None, None, None]  # fc1 of both, fc2 of BP
    assert column[3][3:] == [3, 3, 0]


BAD_INPUT = pytest.mark.parametrize(
    "results",
    [
        pytest.param(lambda: synthetic(("fa",), (0,)), id="one run"),
        pytest.param(lambda: synthetic(("bp", "fa"), (0,)), id="one seed"),
        pytest.param(lambda: one_step(synthetic(("bp", "fa"), (0, 1))), id="one step"),
        pytest.param(lambda: with_gaps(synthetic(("bp", "fa"), (0, 1))), id="gaps"),
        pytest.param(lambda: synthetic(("bp", "fa"), (0,), layers=[f"l{i}" for i in range(500)]), id="500"),
        pytest.param(lambda: synthetic(("bp", "x" * 200), (0,), layers=["a" * 200, "b" * 200]), id="long"),
        pytest.param(lambda: synthetic(tuple(f"c{i}" for i in range(10)), (0,)), id="ten conditions"),
        pytest.param(lambda: without_rank(synthetic(("bp", "fa"), (0, 1))), id="no rank"),
    ],
)


@BAD_INPUT
def test_any_results_give_a_report(undrawn, results) -> None:
    html = render(results())
    page = Page(html)
    assert page.open == []
    words = re.sub(r"<style>.*?</style>|<script.*?</script>|data:[^\"]*", "", html, flags=re.S)
    assert not re.search(r"\b(nan|None|inf)\b", words)


def one_step(results):
    groups = {p: n.to_dataset() for p, n in results.subtree_with_keys}
    groups = {p: g.isel(step=[-1]) if "step" in g.dims else g for p, g in groups.items()}
    return xr.DataTree.from_dict(groups)


def with_gaps(results):
    groups = {}
    for path, node in results.subtree_with_keys:
        groups[path] = node.to_dataset()
        if "step" in groups[path].dims:
            groups[path] = groups[path].where(groups[path]["step"] % 100 == 0)
    return xr.DataTree.from_dict(groups)


def without_rank(results):
    groups = {p: n.to_dataset() for p, n in results.subtree_with_keys if p != "probe"}
    return xr.DataTree.from_dict(groups)


@pytest.mark.slow
@BAD_INPUT
def test_any_results_give_figures(results) -> None:
    found = draw(results())
    assert [picture.name for picture in found.each] == [figure.name for figure in FIGURES]
    for picture in found.each:
        assert bool(picture.uri) != bool(picture.missing)
        assert len(picture.uri) < 400_000
