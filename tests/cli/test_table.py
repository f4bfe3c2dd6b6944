"""``fadiag table``: text, LaTeX and CSV."""

import csv
import io

import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.results import save_results
from tests.results.synthetic_results import synthetic


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    tree = synthetic(("bp", "fa", "fa+muon"))
    return save_results(tree, tmp_path_factory.mktemp("table") / "results.zarr")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(*words):
    return CliRunner().invoke(main, ["table", *map(str, words)])


def test_conditions_are_rows(results) -> None:
    done = table(results)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["condition", "bp", "fa", "fa+muon"]
    assert "test accuracy (%)" in lines[1]
    assert lines[-1] == "Mean [95 % t interval] over 3 seeds at step 400, layer fc3."


def test_latex_has_the_rules_of_booktabs(results, tmp_path) -> None:
    words = (
        results,
        "--metric",
        "error_cosine",
        "--layer",
        "fc1",
        "--conditions",
        "fa+muon",
        "fa",
        "--latex",
    )
    done = table(*words)
    assert done.exit_code == 0, done.output
    # The cosines 0.3, 0.34 and 0.43 have the mean 0.3567, and t = 4.3027 gives +- 0.1654.
    assert done.stdout.splitlines()[2:] == [
        r"\begin{tabular}{lll}",
        r"\toprule",
        r"condition & error cosine & test accuracy (\%) \\",
        r"\midrule",
        r"fa+muon & 0.357 [0.191, 0.522] & 94.5 [93.2, 95.9] \\",
        r"fa & 0.358 [0.197, 0.519] & 90.5 [89.2, 91.9] \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    written = table(*words, "-o", tmp_path / "table.tex")
    assert written.stdout == f"wrote {tmp_path / 'table.tex'}\n"
    assert (tmp_path / "table.tex").read_text() == done.stdout


def test_csv_has_all_digits(results) -> None:
    rows = list(csv.DictReader(io.StringIO(table(results, "--csv", "--metric", "error_cosine").stdout)))
    assert [(row["condition"], row["variable"], row["layer"]) for row in rows] == [
        (condition, *where)
        for condition in ("bp", "fa", "fa+muon")
        for where in (("error_cosine", "fc3"), ("test_accuracy", ""))
    ]
    assert float(rows[3]["mean"]) == pytest.approx(0.9054666666666668)
    assert rows[3]["n"] == rows[3]["runs"] == "3"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--latex", "--csv"), 2, "--latex and --csv exclude each other"),
        (("-o", "table.tex"), 2, "-o needs --latex or --csv"),
        (("--metric", "error_cosin"), 1, "similar names are error_cosine"),
        (("--layer", "fc*"), 1, "'fc*' matches fc1, fc2, fc3; a table is of one layer, so name it"),
        (("--layer", "x"), 1, "no layer matches 'x'; there are fc1, fc2, fc3, out"),
        (("--conditions", "bp", "nope"), 1, "condition='nope' matches no run"),
        (("--latex", "-o", "nowhere/table.tex"), 1, "the table cannot be written to "),
        (("--metric",), 2, "Option '--metric' requires an argument"),
        (("--nope",), 2, "No such option"),
    ],
    ids=str,
)
def test_wrong_words(words, code, said, results, here) -> None:
    done = table(results, *words)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert list(here.iterdir()) == []


def test_a_list_that_takes_the_results_is_explained(results) -> None:
    done = table("--conditions", "bp", results)
    assert done.exit_code == 2
    assert (
        "RESULTS is missing: --conditions takes all words up to the next option, so put it last"
        in done.stderr
    )
    assert table("--conditions", "bp", "--csv", results).exit_code == 0
    assert table("--conditions=bp", results).exit_code == 0
    assert table("--conditions", "bp", "--", results).exit_code == 0
