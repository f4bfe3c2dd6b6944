"""``fadiag analyze --meta runs.csv``: entries of the runs from a table."""

import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.cli.meta_csv import read_meta
from fadiag.errors import InputError
from fadiag.results import load_results


@pytest.fixture
def table(tmp_path):
    def write(text: str, encoding: str = "utf-8") -> str:
        path = tmp_path / "runs.csv"
        path.write_text(text, encoding=encoding)
        return str(path)

    return write


def test_numbers_are_numbers_and_empty_cells_no_entries(table) -> None:
    text = (
        "path,condition,seed,learning rate,note\n"
        'a.zarr,fa,0,1e-3,"large, wide"\n'
        "b.zarr, fa+bn ,-1,.5,\n\n"
        "c.zarr,nan,x1,1_0,inf\n"
    )
    expected = {
        "a.zarr": {"condition": "fa", "seed": 0, "learning rate": 0.001, "note": "large, wide"},
        "b.zarr": {"condition": "fa+bn", "seed": -1, "learning rate": 0.5},
        "c.zarr": {"condition": "nan", "seed": "x1", "learning rate": "1_0", "note": "inf"},
    }
    for encoding in ("utf-8", "utf-8-sig"):  # Excel writes a mark before its text
        found = read_meta(table(text, encoding))
        assert found == expected
        assert isinstance(found["a.zarr"]["seed"], int)


@pytest.mark.parametrize("head", ["", "\n", "condition,seed\n", "condition,path\n", "path;seed\n"])
def test_without_a_first_column_path_it_is_refused(head, table) -> None:
    with pytest.raises(
        InputError, match=r"first column of .*runs\.csv is .*; its first line must name path and"
    ):
        read_meta(table(f"{head}a.zarr,1\n" if head.strip() else head))


@pytest.mark.parametrize(("row", "count"), [("a.zarr,fa", 2), ("a.zarr,fa,0,1", 4), ("a.zarr", 1)])
def test_a_row_of_other_columns_is_refused(row, count, table) -> None:
    with pytest.raises(
        InputError,
        match=rf"the row of a\.zarr has {count} cells, and there are 3 columns: path, condition, seed",
    ):
        read_meta(table(f"path,condition,seed\n{row}\n"))


def test_a_path_twice_is_refused(table) -> None:
    with pytest.raises(InputError, match=r"runs\.csv has two rows of a\.zarr; give each run one"):
        read_meta(table("path,seed\na.zarr,0\nb.zarr,1\na.zarr,2\n"))


def test_what_is_no_text_is_refused(tmp_path) -> None:
    (tmp_path / "runs.csv").write_bytes(b"path,seed\n\xff\xfe,1\n")
    with pytest.raises(InputError, match=r"runs\.csv cannot be read as CSV: "):
        read_meta(str(tmp_path / "runs.csv"))


def test_the_command_sets_condition_and_seed(make_run, record, table, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        record(make_run(seed), tmp_path / f"{name}.zarr")
    words = ["analyze", "a.zarr", "b.zarr", "--metric", "error_cosine", "--meta"]
    done = CliRunner().invoke(main, [*words, table("path,condition,seed\na.zarr,dfa,3\n./b.zarr,dfa,4\n")])
    assert done.exit_code == 0, done.output
    assert load_results("results.zarr")["probe/run"].values.tolist() == ["dfa-seed3", "dfa-seed4"]
    refused = CliRunner().invoke(main, [*words, table("path,condition\nc.zarr,fa\n")])
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: meta names c.zarr, which is none of the runs; they are a.zarr, b.zarr"
    )
    assert CliRunner().invoke(main, [*words, "nowhere.csv"]).exit_code == 2
