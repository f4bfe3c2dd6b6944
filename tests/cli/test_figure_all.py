"""``fadiag figure``: all figures of results, and parts of them."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.results import save_results
from tests.results.synthetic_results import SMALL, synthetic


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return save_results(synthetic(**SMALL, seeds=(0, 1)), tmp_path_factory.mktemp("all") / "results.zarr")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figure(*words):
    return CliRunner().invoke(main, ["figure", *map(str, words)])


def few(monkeypatch, *names):
    """Leave few figures, since all take a while."""
    import fadiag.figures

    kept = {
        key: tuple(f for f in getattr(fadiag.figures, key) if f.name in names)
        for key in ("FIGURES", "ON_REQUEST")
    }
    for key, figures in kept.items():
        monkeypatch.setattr(fadiag.figures, key, figures)


def test_a_figure_that_cannot_be_drawn_is_named_and_the_others_are_drawn(
    results, tmp_path, monkeypatch
) -> None:
    few(monkeypatch, "accuracy_over_training", "credit_cosine", "spectrum", "two_by_two")
    out = tmp_path / "figs"
    done = figure("--all", results, "-o", out, "--style", "nature")
    assert done.exit_code == 0, done.output
    assert "not drawn: spectrum: the results hold no error_spectrum_raw\n" in done.stderr
    assert (
        "two_by_two: error_bp_effective_rank_raw, error_fa_effective_rank_raw not in the results"
        in done.stderr
    )
    assert f"of 4 figures to {out}: accuracy_over_training, credit_cosine" in done.stdout
    assert {"credit_cosine.pdf", "credit_cosine.png", "credit_cosine.csv", "credit_cosine.tex"} <= {
        path.name for path in out.iterdir()
    }
    strict = figure("--all", results, "-o", out, "--strict")
    assert (strict.exit_code, strict.stderr[:7]) == (1, "error: ")


def test_a_figure_whose_panels_are_all_blank_is_not_drawn(tmp_path, monkeypatch) -> None:
    few(monkeypatch, "accuracy_against_rank", "accuracy_over_training")
    tree = synthetic(**SMALL, seeds=(0, 1))
    probe = tree["probe"].to_dataset()
    ranks = [name for name in probe.data_vars if "rank" in name or "participation" in name]
    tree["probe"] = probe.assign({name: probe[name] * np.nan for name in ranks})
    done = figure("--all", save_results(tree, tmp_path / "r.zarr"), "-o", tmp_path / "figs")
    assert "not drawn: accuracy_against_rank: no run has both error_effective_rank_raw at fc1" in done.stderr
    assert "wrote 1 of 2 figures" in done.stdout
    assert not list((tmp_path / "figs").glob("accuracy_against_rank*"))


def test_a_layer_is_chosen_under_either_name(results, here) -> None:
    for option in ("--layer", "--layers"):
        assert figure("rank_by_depth", results, "-o", "a.png", option, "fc1").exit_code == 0
        with (here / "a.csv").open(encoding="utf-8") as file:
            assert {row["layer"] for row in csv.DictReader(file) if row["kind"] == "mean"} == {"fc1"}


def test_nothing_drawn_is_a_failure(results, tmp_path, monkeypatch) -> None:
    few(monkeypatch, "spectrum")
    done = figure("--all", results, "-o", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.endswith("error: 1 of 1 figures are not drawn\n")


def test_conditions_and_layers_are_chosen(results, tmp_path) -> None:
    out = tmp_path / "a.png"
    done = figure("credit_cosine", results, "-o", out, "--conditions", "fa", "--layers", "fc*")
    assert done.exit_code == 0, done.output
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["condition"] for row in rows if row["condition"]} == {"fa"}
    assert {row["layer"] for row in rows if row["layer"]} == {"fc1"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("rank_gap",), 2, "Missing argument 'RESULTS'; to draw all figures of one, add --all"),
        (("--all",), 2, "Missing argument 'NAME'"),
        (("--all", "rank_gap", "{results}"), 2, "--all takes no NAME, RESULTS alone"),
        (("--all", "{results}", "-o", "{results}/zarr.json"), 2, "is a file; with --all name a folder"),
        (("rank_gap", "{results}", "--layers", "zz*"), 1, "no layer matches 'zz*'; there are fc1, out"),
        (
            ("rank_gap", "{results}", "--conditions", "zz"),
            1,
            "condition='zz' matches no run; there are bp, fa",
        ),
        (("--conditions", "bp", "rank_gap", "{results}"), 2, "NAME is missing: --conditions takes all words"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_wrong_words(words, code, said, results, here) -> None:
    done = figure(*(word.format(results=results) for word in words))
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert list(here.iterdir()) == []
