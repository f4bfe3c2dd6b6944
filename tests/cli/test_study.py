"""The commands study and demo, on studies small enough for a test."""

import csv
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import xarray as xr
from click.testing import CliRunner

import fadiag
from fadiag.cli import main
from fadiag.figures import FIGURES
from fadiag.studies import load_study
from tests.studies.small import SEARCH, TEXT

#: Makes the demo small.
SMALL = (
    "only=['bp', 'fa', 'fa+muon']",
    "seeds.reported=[0, 1]",
    "base.train.epochs=1",
    "base.model.hidden=[16, 16]",
    "base.record={ every = 20, probe_samples = 32, redraws = 5, gate_draws = 5 }",
)


def ran(*words: object, code: int = 0):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TEXT + SEARCH + "[profiles.ci]\nseeds.reported = [5]\n", encoding="utf-8")
    return path


def test_a_dry_run_lists_the_runs_and_makes_none(file: Path, tmp_path: Path) -> None:
    out = ran("study", file, "--dry-run", "-o", tmp_path / "out").output
    assert "8 runs, 0 of them in the pool" in out
    assert "fa at 0.02, seed 100" in out
    assert out.count("after the search") == 4
    assert not (tmp_path / "out").exists()
    assert "bp-seed5" in ran("study", file, "--dry-run", "--profile", "ci").output


def test_unknown_studies_profiles_and_keys_are_one_line(file: Path) -> None:
    assert (
        "error: no study 'demoo': fadiag has alignment_dynamics, choices, demo, dose"
        in ran("study", "demoo", code=1).output
    )
    assert "has no profile 'cii'; did you mean 'ci'" in ran("study", file, "--profile", "cii", code=1).output
    assert "is not key=value" in ran("study", file, "--set", "x", code=1).output
    assert "unknown key 'bas'; did you mean 'base'" in ran("study", file, "--set", "bas.x=1", code=1).output


@pytest.mark.slow
def test_study_writes_its_page_and_says_where(file: Path, tmp_path: Path) -> None:
    out, pool = tmp_path / "out", tmp_path / "pool"
    words = ("study", file, "-o", out, "--pool", pool, "--workers", 0)
    said = ran(*words).output
    page = (out / "page.md").read_text(encoding="utf-8")
    assert said.splitlines()[0] in page
    assert str(out / "page.md") in said
    assert len(list(pool.glob("*/run.zarr"))) == 8
    assert not (out / "pool").exists()
    assert "8 runs, 8 of them in the pool" in ran(*words, "--dry-run").output


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fadiag.studies.load_study",
            lambda path, *, overrides, **given: load_study(path, overrides=[*SMALL, *overrides], **given),
        )
        done = CliRunner().invoke(main, ["demo", "--out", str(folder), "--workers", "0"])
    assert done.exit_code == 0, done.output
    return folder, done.output


@pytest.mark.slow
def test_demo_names_what_it_wrote(demo) -> None:
    folder, output = demo
    for name in ("pool", "results.zarr", "figures", "page.md", "report.html"):
        assert str(folder / name) in output
        assert (folder / name).exists()
    for figure in ("rank_by_depth", "conditions", "credit_cosine"):
        for suffix in (".pdf", ".png", ".csv", ".tex"):
            assert (folder / "figures" / f"{figure}{suffix}").stat().st_size > 100


@pytest.mark.slow
def test_demo_prints_the_means_the_answer_and_what_muon_takes(demo) -> None:
    with (demo[0] / "conditions.csv").open(encoding="utf-8", newline="") as file:
        means = {row["condition"]: row for row in csv.DictReader(file)}
    for name in ("bp", "fa", "fa+muon"):
        line = next(line for line in demo[1].splitlines() if line.split()[:1] == [name])
        assert f"{100 * float(means[name]['test_accuracy']):.1f} %" in line
        assert line.endswith(f" {float(means[name]['error_effective_rank_raw']):.1f}")
    assert "2 paired seeds." in demo[1]
    assert "Muon takes the weights of fc1 fc2; adam (0.001) takes the rest" in demo[1]


@pytest.mark.slow
def test_the_stores_are_inspected_and_opened(demo) -> None:
    with (demo[0] / "table.csv").open(encoding="utf-8", newline="") as file:
        fa = next(row for row in csv.DictReader(file) if row["condition"] == "fa")
    store = demo[0] / "pool" / fa["address"] / "run.zarr"
    said = ran("inspect", store).output
    assert "status      complete" in said
    for word in ("probe", "state", "log", "static", "fc1", "error_bp", "weight"):
        assert word in said
    with xr.open_datatree(store, engine="zarr") as tree:
        assert "error" in tree["probe/fc1"].data_vars


@pytest.mark.slow
def test_figure_and_report_read_the_results_that_the_demo_wrote(demo, tmp_path) -> None:
    results = str(demo[0] / "results.zarr")
    ran("figure", "rank_gap", results, "-o", tmp_path / "rank.pdf")
    ran("report", results, "-o", tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") == len(FIGURES)
    assert "fa-seed1" in html


@pytest.mark.slow
def test_analyze_of_the_runs_gives_a_table_too(demo, tmp_path) -> None:
    out = tmp_path / "results.csv"
    ran("analyze", *sorted(demo[0].glob("pool/*/run.zarr")), "-o", out, "--metric", "error_cosine")
    assert out.read_text().startswith("stream,run,layer,step,variable,value")


def test_the_other_data_sets_need_their_folder() -> None:
    assert "needs --data-dir" in ran("demo", "--data", "cifar10", code=2).output


@pytest.mark.slow
def test_the_wheel_holds_the_studies(tmp_path: Path) -> None:
    root = Path(fadiag.__file__).parents[1]
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", tmp_path, root]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "there")
    assert "fadiag/studies/shipped/demo.toml" in names
    code = "import fadiag; from fadiag.studies import find_study; print(find_study('demo'))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "there",
        env={"PYTHONPATH": str(tmp_path / "there"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == tmp_path / "there" / "fadiag" / "studies" / "shipped" / "demo.toml"
