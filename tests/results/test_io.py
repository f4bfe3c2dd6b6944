"""Results on disk: what is written is read, nothing recorded is overwritten, finished values are kept."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from fadiag.analysis import analyze
from fadiag.errors import DamagedError, InputError, NotAStoreError, SchemaError
from fadiag.results import load_results, save_results, to_pandas

METRICS = ["error_cosine", "error_participation_ratio_raw", "weight_feedback_cosine"]


@pytest.fixture
def results(make_run):
    return analyze([make_run(0), make_run(1, condition="bp")], metrics=METRICS)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_round_trip(results, tmp_path, suffix):
    path = save_results(results, tmp_path / f"results{suffix}")
    again = load_results(path)
    assert again.attrs == results.attrs
    for group in results.children:
        kept, written = again[group].to_dataset(), results[group].to_dataset()
        assert set(kept.variables) == set(written.variables)
        for name in written.variables:
            np.testing.assert_array_equal(kept[name].values, written[name].values)
            assert kept[name].attrs == written[name].attrs
    assert list(tmp_path.iterdir()) == [path]


def flip(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 4  # inside the compressed numbers or their checksum
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name", ["error_cosine", "step"])
def test_a_damaged_array_is_named_and_not_taken_over(make_run, record, tmp_path, damage, name):
    run, path = record(make_run(0), tmp_path / "a.zarr"), tmp_path / "results.zarr"
    analyze(run, metrics=METRICS, output=path)
    (chunk,) = (file for file in (path / "probe" / name / "c").rglob("*") if file.is_file())
    damage(chunk)
    what = "a coordinate" if name == "step" else f"probe/{name}"
    told = rf"results.zarr is damaged: {what} cannot be read \(.*\); remove it and analyze again"
    with pytest.raises(DamagedError, match=told):
        load_results(path)
    with pytest.raises(DamagedError, match=told):
        analyze(run, metrics=METRICS, output=path)


def test_a_damaged_netcdf_file_is_named(results, tmp_path):
    path = save_results(results, tmp_path / "results.nc")
    numbers = np.ascontiguousarray(results["probe/error_cosine"].values).tobytes()
    data = bytearray(path.read_bytes())
    data[data.index(numbers) + 20] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"results.nc is damaged: probe/error_cosine cannot be read \("):
        load_results(path)


def test_plain_xarray_opens_it(results, tmp_path):
    save_results(results, tmp_path / "results.zarr")
    with xr.open_datatree(tmp_path / "results.zarr", engine="zarr") as tree:
        assert tree["probe/error_cosine"].sel(run="bp-seed1", layer="fc2").notnull().all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_long_table(results, tmp_path, suffix):
    path = save_results(results, tmp_path / f"results{suffix}")
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table.columns) == ["stream", "run", "layer", "step", "variable", "value"]
    row = table.query("run == 'fa-seed0' and layer == 'fc2' and step == 10").query(
        "variable == 'error_cosine'"
    )
    expected = results["probe/error_cosine"].sel(run="fa-seed0", layer="fc2", step=10)
    assert row["value"].item() == pytest.approx(float(expected), rel=1e-15)
    assert table["value"].notna().all()
    assert set(table.query("stream == 'log'")["variable"]) == {"loss", "test_accuracy"}
    assert len(table.query("variable == 'weight_feedback_cosine'")) == 2 * 2 * 4


def test_saving_again_replaces(results, tmp_path):
    path = save_results(results, tmp_path / "results.zarr")
    save_results(results.isel(run=[0]), path)
    assert load_results(path)["probe"].sizes["run"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_is_never_overwritten(results, make_run, tmp_path):
    store = tmp_path / "run.zarr"
    store.mkdir()
    (store / "zarr.json").write_text(
        '{"zarr_format": 3, "node_type": "group", "attributes": {"run_id": "a"}}'
    )
    before = sorted(p.read_bytes() for p in store.iterdir())
    with pytest.raises(InputError, match="exists and holds no results"):
        save_results(results, store)
    with pytest.raises(InputError, match="exists and holds no results"):
        analyze(make_run(0), output=store)
    assert sorted(p.read_bytes() for p in store.iterdir()) == before


def test_a_path_that_cannot_be_written_is_refused_before_the_work(make_run, tmp_path):
    def never(done, total):
        raise AssertionError("work was done")

    with pytest.raises(InputError, match=r"its name must end in \.zarr, \.nc, \.csv, \.parquet"):
        analyze(make_run(0), output=tmp_path / "results.txt", progress=never)
    with pytest.raises(InputError, match="there is no directory"):
        analyze(make_run(0), output=tmp_path / "gone" / "results.csv", progress=never)


def test_a_failed_save_leaves_the_old_results(results, tmp_path, monkeypatch):
    path = save_results(results, tmp_path / "results.zarr")

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(xr.DataTree, "to_zarr", full)
    with pytest.raises(OSError, match="no space"):
        save_results(results.isel(run=[0]), path)
    assert load_results(path)["probe"].sizes["run"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_results_that_cannot_be_put_in_place_leave_the_old(results, tmp_path, monkeypatch):
    path = save_results(results, tmp_path / "results.zarr")
    replace = Path.replace

    def broken(self, target):
        if self.name == path.name and Path(target) == path:
            raise OSError("input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="input/output error"):
        save_results(results.isel(run=[0]), path)
    assert load_results(path)["probe"].sizes["run"] == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_that_is_no_results_is_kept(results, tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    table = pd.DataFrame({"name": ["a"], "value": [1.0]})
    _ = table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"mine\{suffix} exists and holds no results"):
        save_results(results, path)
    assert path.read_bytes() == before
    path.unlink()
    save_results(results, path)
    save_results(results.isel(run=[0]), path)
    assert load_table(path)["run"].nunique() == 1


def load_table(path):
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files")
def test_a_directory_that_takes_no_files_is_refused_before_the_work(make_run):
    def never(done, total):
        raise AssertionError("work was done")

    with pytest.raises(
        InputError, match=r"results cannot be written to /proc/x\.csv: /proc takes no new files"
    ):
        analyze(make_run(0), output="/proc/x.csv", progress=never)


@pytest.mark.parametrize("layout", ["abc", [1, 2]])
def test_a_layout_that_is_no_number_is_refused(results, tmp_path, layout):
    results.attrs["fadiag_results"] = layout
    path = save_results(results, tmp_path / "results.zarr")
    with pytest.raises(
        SchemaError, match=r"results of layout .*, which is no number; remove it and analyze again"
    ):
        load_results(path)


def test_load_refuses_what_is_no_results(tmp_path, results):
    with pytest.raises(NotAStoreError, match="no such file or directory"):
        load_results(tmp_path / "gone.zarr")
    with pytest.raises(NotAStoreError, match="is no zarr directory"):
        load_results(save_results(results, tmp_path / "results.csv"))
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(NotAStoreError, match="cannot be opened as zarr"):
        load_results(tmp_path / "empty.zarr")
    del results.attrs["fadiag_results"]
    with pytest.raises(NotAStoreError, match="holds no results; a recorded run is analyzed first"):
        load_results(save_results(results, tmp_path / "other.zarr"))
    for layout, way_out in ((99, "update fadiag"), (1, "remove it and analyze again")):
        results.attrs["fadiag_results"] = layout
        with pytest.raises(SchemaError, match=f"layout {layout}, this version reads layout 3; {way_out}"):
            load_results(save_results(results, tmp_path / f"results{layout}.zarr"))


def test_long_table_of_nothing():
    empty = to_pandas(xr.DataTree())
    assert list(empty.columns) == ["stream", "run", "layer", "step", "variable", "value"]


def test_netcdf_is_not_measured_again(make_run, record, tmp_path):
    path, output = record(make_run(0, meta={"tuned": True}), tmp_path / "a.zarr"), tmp_path / "results.nc"
    first = analyze(path, metrics=METRICS, output=output)
    blocks = []
    again = analyze(path, metrics=METRICS, output=output, progress=lambda done, total: blocks.append(total))
    assert blocks == []
    for group in first.children:
        for name in first[group].data_vars:
            np.testing.assert_array_equal(again[group][name], first[group][name])


def test_a_netcdf_file_that_is_no_results_is_kept(results, tmp_path):
    path = tmp_path / "run.nc"
    xr.Dataset({"x": ("a", [1.0])}).to_netcdf(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists and holds no results"):
        save_results(results, path)
    with pytest.raises(NotAStoreError, match="holds no results"):
        load_results(path)
    assert path.read_bytes() == before
    (tmp_path / "text.nc").write_text("nothing")
    with pytest.raises(NotAStoreError, match=r"text\.nc cannot be opened as netcdf4"):
        load_results(tmp_path / "text.nc")


@pytest.mark.parametrize(
    "words", [("nc", "netCDF4", "netcdf"), ("parquet", "pyarrow", "parquet")], ids=lambda words: words[0]
)
def test_without_its_library_the_extra_is_named(make_run, tmp_path, monkeypatch, words):
    suffix, module, extra = words
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"r\.{suffix} needs {module}: pip install 'fadiag\[{extra}\]'"):
        analyze(make_run(0), output=tmp_path / f"r.{suffix}")


@pytest.mark.parametrize(
    ("seeds", "kind"),
    [
        ((3, 4), "i"),
        ((2**63 + 5, 2**63 + 6), "u"),
        ((2**64 - 1, 0), "u"),
        ((2**63 + 5, -1), "O"),
        ((10**400, 1), "O"),
        ((2**53, 2**53 + 1, None), "O"),
        ((2**53 + 1, 0.5), "O"),
        ((1, None), "f"),
        ((1, 0.5), "f"),
    ],
)
def test_seeds_of_any_size_stay_apart(make_run, tmp_path, seeds, kind):
    runs = [make_run(i, meta={"seed": seed, "condition": f"m{i}"}) for i, seed in enumerate(seeds)]
    for run, seed in zip(runs, seeds, strict=True):
        if seed is None:
            del run.attrs["meta"]["seed"]
    results = analyze(runs, metrics=["error_cosine"], output=tmp_path / "results.zarr")
    for found in (results, load_results(tmp_path / "results.zarr")):
        coordinate = found["probe"].coords["seed"]
        assert coordinate.dtype.kind in (kind, *"TU"[: 2 * (kind == "O")])
        assert len({str(value) for value in coordinate.values}) == len(seeds)
        for value, seed in zip(coordinate.values.tolist(), seeds, strict=True):
            assert seed is None or value == (str(seed) if kind == "O" else seed)
    save_results(results, tmp_path / "results.csv")
