"""The demo from end to end, on a study small enough for a test."""

from dataclasses import replace as with_fields

import pytest
import xarray as xr
from click.testing import CliRunner
from msgspec.structs import replace

import fadiag.training
from fadiag.cli import main
from fadiag.figures import FIGURES
from fadiag.training import demo_study

pytestmark = pytest.mark.slow


def small(data="digits", data_dir=None):
    study = demo_study(data, data_dir)
    conditions = {
        name: replace(
            config,
            train=replace(config.train, epochs=1),
            model=replace(config.model, hidden=(16, 16)),
            record=replace(config.record, every=20, probe_samples=32, redraws=5, gate_draws=5),
        )
        for name, config in study.conditions.items()
        if name in ("bp", "fa", "fa+muon")
    }
    return with_fields(study, conditions=conditions, seeds=(0, 1))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fadiag.training, "demo_study", small)
        done = CliRunner().invoke(main, ["demo", "--out", str(folder), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_demo_names_what_it_wrote(demo) -> None:
    folder, output = demo
    for name in ("runs", "results.zarr", "figures", "report.html"):
        assert str(folder / name) in output
        assert (folder / name).exists()
    for figure in ("rank_by_depth", "conditions", "credit_cosine"):
        for suffix in (".pdf", ".png", ".csv", ".tex"):
            assert (folder / "figures" / f"{figure}{suffix}").stat().st_size > 100


def test_demo_tells_what_each_figure_shows(demo) -> None:
    assert "Accuracy over training: Test accuracy, over training. At the last step: " in demo[1]
    assert "95 % t interval over 2 paired seeds" in demo[1]


def test_the_stores_are_inspected_and_opened(demo) -> None:
    store = demo[0] / "runs" / "fa-seed1.zarr"
    told = CliRunner().invoke(main, ["inspect", str(store)]).output
    assert "status      complete" in told
    for word in ("probe", "state", "log", "static", "fc1", "error_bp", "weight", "condition=fa"):
        assert word in told
    with xr.open_datatree(store, engine="zarr") as tree:
        assert "error" in tree["probe/fc1"].data_vars


def test_figure_and_report_read_the_results_that_the_demo_wrote(demo, tmp_path) -> None:
    results = str(demo[0] / "results.zarr")
    for words in (
        ["figure", "rank_gap", results, "-o", str(tmp_path / "rank.pdf")],
        ["report", results, "-o", str(tmp_path / "report.html")],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") == len(FIGURES)
    assert "fa-seed1" in html


def test_analyze_of_the_runs_gives_a_table_too(demo, tmp_path) -> None:
    runs = sorted(str(path) for path in (demo[0] / "runs").glob("*.zarr"))
    out = tmp_path / "results.csv"
    done = CliRunner().invoke(main, ["analyze", *runs, "-o", str(out), "--metric", "error_cosine"])
    assert done.exit_code == 0, done.output
    assert out.read_text().startswith("stream,run,layer,step,variable,value")
