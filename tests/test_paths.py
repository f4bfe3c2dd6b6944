"""A path means the same at every public door, whatever the working directory; ``~`` is the home folder."""

import contextlib
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import nn

import fadiag
from fadiag.cli import main
from fadiag.figures import FIGURES
from fadiag.figures import save as save_figure
from fadiag.paths import absolute_path
from fadiag.report import write_report
from fadiag.results import load_results, save_results
from fadiag.store import compact, export_netcdf, inspect_run, run_info, verify_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


def recorder(path, **options):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    probes = {"p": fadiag.Probe((X, Y), loss_of)}
    return fadiag.Recorder(model, path, probes=probes, every=1, **options)


def finished(path):
    with recorder(path, if_exists="replace", meta={"condition": "bp", "seed": 0}) as running:
        running.step(loss=1.0)
        running.log(test_accuracy=0.5)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and a working directory elsewhere that stays empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list((tmp_path / "work").iterdir())


def test_a_recording_goes_on_where_it_began_when_the_directory_changes(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with recorder("run.zarr") as running:
        running.step()
        monkeypatch.chdir(tmp_path / "other")
        for _ in range(3):
            running.step()
        assert running._session._writer.path == tmp_path / "run.zarr"
    assert run_info(tmp_path / "run.zarr").status == "complete"
    monkeypatch.chdir(tmp_path)
    lazy, seen = fadiag.open_run("run.zarr"), run_info("run.zarr").path
    monkeypatch.chdir(tmp_path / "other")
    assert lazy["p/0/error"].values.shape == (5, 16, 5)
    assert seen == tmp_path / "run.zarr"


def test_the_home_folder_at_every_door_of_the_library(home):
    finished("~/run.zarr")
    for read in (fadiag.open_run, run_info, inspect_run, verify_run):
        read("~/run.zarr")
    results = fadiag.analyze("~/run.zarr", output="~/analyzed.zarr", meta={"~/run.zarr": {"seed": 3}})
    assert results["p"]["seed"].item() == 3
    compact("~/run.zarr", "~/sealed.zarr")
    with contextlib.suppress(ModuleNotFoundError):
        import netCDF4  # noqa: F401

        export_netcdf("~/run.zarr", "~/run.nc")
    assert save_results(results, "~/saved.zarr") == home / "saved.zarr"
    load_results("~/saved.zarr")
    write_report(results, "~/report.html")
    assert save_figure(FIGURES[0].draw(results), "~/figure.pdf")[0] == home / "figure.pdf"
    there = {path.name for path in home.iterdir()} - {"run.nc"}
    assert there == {
        "run.zarr", "analyzed.zarr", "sealed.zarr", "saved.zarr", "report.html", "figure.pdf", "figure.csv",
        "figure.tex",
    }  # fmt: skip


def test_the_home_folder_at_every_door_of_the_command(home):
    def run(*arguments):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output

    finished("~/run.zarr")
    (home / "meta.csv").write_text("path,seed\n~/run.zarr,4\n")
    (home / "config.toml").write_text(
        "[train]\nepochs = 1\nbatch_size = 64\n[data]\nname = 'digits'\ntrain_samples = 64\n"
        "[record]\nprobe_samples = 16\nredraws = 0\ngate_draws = 0\n"
    )
    run("train", "~/config.toml", "--out=~/trained.zarr")
    run("inspect", "~/run.zarr")
    run("verify", "~/run.zarr")
    run("compact", "~/run.zarr", "~/sealed.zarr")
    run("analyze", "~/run.zarr", "--out=~/results.zarr", "--meta=~/meta.csv")
    assert load_results(home / "results.zarr")["p"]["seed"].item() == 4
    run("figure", FIGURES[0].name, "~/results.zarr", "--out=~/figure.pdf")
    run("report", "~/results.zarr", "--out=~/report.html")
    assert {path.name for path in home.iterdir()} == {
        "run.zarr", "meta.csv", "config.toml", "trained.zarr", "sealed.zarr", "results.zarr", "figure.pdf",
        "figure.csv", "figure.tex", "report.html",
    }  # fmt: skip


def test_a_folder_whose_name_begins_with_a_tilde_is_no_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_path("~nobody-has-this-name/x") == tmp_path / "~nobody-has-this-name/x"
    assert absolute_path(Path("a") / ".." / "b") == tmp_path / "a" / ".." / "b"  # a link may be named a
    assert absolute_path(os.fspath(tmp_path)) == tmp_path
