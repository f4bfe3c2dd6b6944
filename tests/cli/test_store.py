import csv
import json
import shutil

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.results import save_results, select
from fadiag.store import ArraySpec, RunWriter
from tests.results.synthetic_results import synthetic


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"meta": {"condition": "fa", "seed": 3}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        for signal in ("error", "error_bp"):
            writer.declare("probe", "fc1", signal, ArraySpec(("sample", "out"), (8, 4), "float32"))
        for step in (0, 10, 20, 40):
            values = {("fc1", signal): np.full((8, 4), step, np.float32) for signal in ("error", "error_bp")}
            writer.append("probe", step, values)
    return path


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_inspect_tells_streams_layers_signals_shapes_and_gaps(run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = invoke("inspect", run, "--arrays")
    assert done.exit_code == 0, done.output
    lines = [line.split("  ") for line in done.output.splitlines()]
    assert any(line[0] == "status" and line[-1].strip() == "complete" for line in lines)
    assert "condition=fa, seed=3" in done.output
    assert "error, error_bp  step 4 × sample 8 × out 4  float32" in done.output
    assert "0 to 40" in done.output
    assert "gaps in probe: 20 to 40" in done.output
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_inspect_folds_alike_layers_of_the_signals(tmp_path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        for i in range(12):
            writer.put_static(f"{i}", "weight_init", np.ones((3, 2 if i else 4)), dims=("out", "in"))
            if i > 2:
                writer.set_attrs(f"static/{i}/weight_init", {"nan_count": i % 2})
    done = invoke("inspect", tmp_path / "run.zarr", "--arrays")
    assert [" ".join(line.split()) for line in done.output.splitlines() if "weight_init" in line] == [
        "static 0 weight_init out 3 × in 4 float64 96 B not counted",
        "static 1 weight_init out 3 × in 2 float64 48 B not counted",
        "static 2 weight_init out 3 × in 2 float64 48 B not counted",
        "static 3 ... 11 (9) weight_init out 3 × in 2 float64 432 B 5",
    ]


def test_inspect_fits_a_narrow_terminal_and_lists_arrays_on_request(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    versions = {f"package{i}": "1.2.3" for i in range(12)}
    RunWriter(tmp_path / "empty.zarr", manifest={"versions": versions}).close()
    head = invoke("inspect", tmp_path / "empty.zarr").output.partition("\nstream")[0].splitlines()
    said = head[next(i for i, line in enumerate(head) if line.startswith("versions")) :]
    assert len(said) > 3
    assert max(map(len, said)) <= 60
    assert all(f"{name}=1.2.3" in "\n".join(said) for name in versions)
    assert "step 4 × sample 8" not in invoke("inspect", run).output
    wide = invoke("inspect", run, "--arrays").output
    assert "error, error_bp  step 4 × sample 8 × out 4  float32" in wide


def test_inspect_of_some_layers_and_as_json(tmp_path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={"meta": {"seed": 3}}) as writer:
        for name in ("fc1", "fc2", "out"):
            writer.put_static(name, "weight_init", np.ones((3, 2)), dims=("out", "in"))
            writer.set_attrs(f"static/{name}", {"cosine": 0.5})
    run = tmp_path / "run.zarr"
    some = invoke("inspect", run, "--layers", "fc*", "--arrays")
    shown = [line.split()[1] for line in some.output.splitlines() if "weight_init" in line]
    assert shown == ["fc1", "fc2"]
    found = json.loads(invoke("inspect", run, "--layer", "out", "--json").stdout)
    assert found["info"]["manifest"] == {"meta": {"seed": 3}}
    (stream,) = found["streams"]
    (layer,) = stream["layers"]
    assert (layer["name"], layer["attrs"]["cosine"], layer["signals"][0]["shape"]) == ("out", 0.5, [3, 2])
    wrong = invoke("inspect", run, "--layer", "x")
    assert (wrong.exit_code, wrong.stderr) == (1, "error: no layer matches 'x'; there are fc1, fc2, out\n")


def test_inspect_tells_a_run_without_records(tmp_path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("log", attrs={"kind": "log"})
    done = invoke("inspect", tmp_path / "run.zarr")
    assert done.exit_code == 0, done.output
    assert "none" in done.output


def test_inspect_of_what_is_no_store(tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    done = invoke("inspect", tmp_path / "notes")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert str(tmp_path / "notes") in done.stderr


def test_verify_passes_a_whole_store_and_fails_a_torn_one(run) -> None:
    done = invoke("verify", run)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{run}: whole" in done.output
    chunk = next(path for path in (run / "probe" / "fc1" / "error").rglob("*") if path.name.startswith("c"))
    chunk = chunk if chunk.is_file() else next(path for path in chunk.rglob("*") if path.is_file())
    chunk.unlink()
    done = invoke("verify", run)
    assert done.exit_code == 1
    assert "probe/fc1/error" in done.stdout
    assert done.stderr == f"error: not whole: {run}; take another copy, or record these runs again\n"


def test_verify_looks_at_every_run_that_it_is_given(run, tmp_path) -> None:
    torn = tmp_path / "torn.zarr"
    shutil.copytree(run, torn)
    (torn / "probe" / "rows_valid" / "c.0").unlink()
    done = invoke("verify", tmp_path / "nowhere", torn, run)
    assert done.exit_code == 1
    first, second, third = done.stdout.splitlines()
    assert first == f"{tmp_path / 'nowhere'}: no such file or directory"
    assert "chunk c.0 of probe/rows_valid is missing" in second
    assert third.startswith(f"{run}: whole")
    assert done.stderr.startswith(f"error: not whole: {tmp_path / 'nowhere'}, {torn}; take another copy")


def test_compact_writes_a_sealed_copy_with_equal_values(run, tmp_path) -> None:
    done = invoke("compact", run, tmp_path / "sealed.zarr")
    assert done.exit_code == 0, done.output
    assert "status      sealed" in invoke("inspect", tmp_path / "sealed.zarr").output
    with (
        xr.open_datatree(run, engine="zarr") as one,
        xr.open_datatree(tmp_path / "sealed.zarr", engine="zarr") as other,
    ):
        np.testing.assert_array_equal(one["probe/fc1/error"].values, other["probe/fc1/error"].values)


def test_compact_refuses_a_taken_path(run, tmp_path) -> None:
    done = invoke("compact", run, run)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")


def test_export_writes_netcdf(run, tmp_path) -> None:
    pytest.importorskip("netCDF4")
    done = invoke("export", run, tmp_path / "run.nc")
    assert done.exit_code == 0, done.output
    with xr.open_dataset(tmp_path / "run.nc", group="probe/fc1", engine="netcdf4") as layer:
        np.testing.assert_array_equal(layer["error"].values[:, 0, 0], [0, 10, 20, 40])


def test_compare_shows_what_differs(tmp_path) -> None:
    both = synthetic(("bp", "fa"))
    bp, fa = (save_results(select(both, condition=m), tmp_path / f"{m}.zarr") for m in ("bp", "fa"))
    done = invoke("compare", bp, fa, "-o", tmp_path / "table.csv")
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if "test_accuracy" in line)
    assert "-0.07" in row
    assert done.output.splitlines()[1].split()[:4] == ["variable", "layer", "bp", "fa"]
    assert "difference: fa - bp; 3 runs a side; paired\n" in done.output
    assert "pairs, sign flips need 6" in done.output
    assert len((tmp_path / "table.csv").read_text().splitlines()) > 10


def test_compare_takes_one_condition_of_several(tmp_path) -> None:
    results = save_results(synthetic(("bp", "fa")), tmp_path / "both.zarr")
    done = invoke("compare", results, results)
    assert done.exit_code == 1
    assert "several conditions (bp, fa)" in done.stderr
    assert "-0.07" in invoke("compare", results, results, "--conditions", "bp", "fa").output


def test_compare_sorts_by_effect_and_shows_what_is_asked(tmp_path) -> None:
    results = save_results(synthetic(("bp", "fa")), tmp_path / "both.zarr")
    words = ("compare", results, "--conditions", "bp", "fa")
    out = tmp_path / "table.csv"
    asked = invoke(*words, "--metric", "error_*_raw", "error_overlap", "--layer", "fc2", "fc3", "-o", out)
    assert asked.exit_code == 0, asked.output
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["variable"] for row in rows} == {
        "error_participation_ratio_raw",
        "error_effective_rank_raw",
        "error_overlap",
    }
    assert {row["layer"] for row in rows} == {"fc2", "fc3"}
    numbers = [[float(row[key]) for key in ("difference", "low", "high")] for row in rows]
    effects = [abs(d) / ((high - low) / 2) if high > low else np.inf for d, low, high in numbers]
    assert effects == sorted(effects, reverse=True)
    shown = [line.split()[:2] for line in asked.output.splitlines() if line.startswith("error_")]
    assert shown == [[row["variable"], row["layer"]] for row in rows if row["differs"] == "True"]
    alone = invoke(*words, "--metric", "error_*_raw", "error_overlap", "--layer", "fc[23]", "-o", "-")
    assert alone.stdout == out.read_text()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "Error: give B, or --conditions A B to compare two conditions of A"),
        (("--metric", "x"), 2, "give B, or"),
        (
            ("--conditions", "bp", "fa", "--metric", "x*"),
            1,
            "no compared metric matches 'x*'; leave --metric out",
        ),
        (
            ("--conditions", "bp", "fa", "--metric", "error_cosin"),
            1,
            "no compared metric matches 'error_cosin' (near: error_cosine); leave --metric out",
        ),
        (
            ("--conditions", "bp", "fa", "--layer", "x"),
            1,
            "no layer matches 'x'; there are fc1, fc2, fc3, out",
        ),
        (("--conditions", "bp", "no"), 1, "error: condition='no' matches no run; there are bp, fa"),
    ],
)
def test_compare_refuses(options, code, said, tmp_path) -> None:
    results = save_results(synthetic(("bp", "fa")), tmp_path / "both.zarr")
    done = invoke("compare", results, *options)
    assert done.exit_code == code
    assert said in done.stderr


def test_compare_says_where_it_cannot_write(tmp_path) -> None:
    results = save_results(synthetic(("bp",)), tmp_path / "bp.zarr")
    for out in (tmp_path, tmp_path / "table.txt", tmp_path / "gone" / "table.csv"):
        done = invoke("compare", results, results, "-o", out)
        assert done.exit_code == 2
        assert f"'-o' / '--out': the table cannot be written to {out}: " in done.stderr


def test_compare_replaces_a_table_and_nothing_else(tmp_path) -> None:
    results, out = save_results(synthetic(("bp",)), tmp_path / "bp.zarr"), tmp_path / "table.csv"
    out.write_text("my,own\n1,2\n")
    done = invoke("compare", results, results, "-o", out)
    assert done.exit_code == 2
    assert f"{out} exists and holds no such table; choose another name" in done.stderr
    assert out.read_text() == "my,own\n1,2\n"
    out.unlink()
    for _ in range(2):
        assert invoke("compare", results, results, "-o", out).exit_code == 0


def test_compare_of_equals_shows_nothing(tmp_path) -> None:
    results = save_results(synthetic(("bp",)), tmp_path / "bp.zarr")
    done = invoke("compare", results, results)
    assert "0 of " in done.output
    assert "test_accuracy" not in done.output
    assert "test_accuracy" in invoke("compare", results, results, "--all").output
