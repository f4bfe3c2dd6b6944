"""Theorems that a study declares: what is held to them, what the page says, and how a broken one ends."""

import csv
import json
import re
from pathlib import Path

import pytest

from fadiag.errors import ConfigError, FadiagError
from fadiag.results import load_results
from fadiag.studies import run_study
from fadiag.studies.outputs.theorems import theorem_rows
from tests.studies.small import declared

KEPT = """
[[theorems]]
law = "At the output every rule has the exact error."
metric = "error_cosine"
layers = "out"
at_least = 1
[[theorems]]
law = "No participation ratio exceeds the effective rank."
metric = "error_participation_ratio_raw"
at_most = "error_effective_rank_raw"
"""


def theorem(**keys: object) -> str:
    return "[[theorems]]\nlaw = 'A law.'\n" + "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in keys.items()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("theorems")
    run_study(declared(more=KEPT), out, workers=0)
    return out


def rows_of(made: Path, **keys: object) -> list[dict[str, object]]:
    return theorem_rows(declared(more=theorem(**keys)), load_results(made / "results.zarr"))


def test_kept_theorems_are_on_the_page(made) -> None:
    with (made / "theorems.csv").open(encoding="utf-8", newline="") as file:
        exact, ladder = csv.DictReader(file)
    assert (exact["values"], exact["kept"], exact["conditions"]) == ("12", "true", "bp | fa")
    assert float(exact["lowest"]) == pytest.approx(1)
    assert (ladder["values"], ladder["kept"], ladder["at_most"]) == ("36", "true", "error_effective_rank_raw")
    page = (made / "page.md").read_text(encoding="utf-8")
    assert "## Theorems" in page
    assert (
        "| At the output every rule has the exact error. | error cosine | 1 | at least 1 | 12 | kept |"
        in page
    )
    assert re.search(r"\| [\d.]+ to [\d.]+ \| at most error effective rank raw \| 36 \| kept \|", page)


def test_a_broken_theorem_ends_the_study_after_all_is_written(made, tmp_path) -> None:
    wrong = declared(more=KEPT + theorem(metric="error_participation_ratio_raw", layers="out", at_most=1))
    says = r"do not keep 1 of the study's theorems, so do not trust .*A law\. \(error_part.*; at most 1\)"
    for _ in range(2):  # the second call finds all its outputs there
        with pytest.raises(FadiagError, match=says):
            run_study(wrong, tmp_path, pool=made / "pool", workers=0)
        assert "**broken**" in (tmp_path / "page.md").read_text(encoding="utf-8")
        assert (tmp_path / "results.zarr").exists()


def test_conditions_layers_and_steps_choose_the_values(made) -> None:
    metric = "error_cosine"
    (row,) = rows_of(made, metric=metric, conditions=["bp"], at_least=1.0, at_most=1.0)
    assert (row["values"], row["kept"]) == (18, True)
    (row,) = rows_of(made, metric=metric, conditions=["fa"], at_least=1.0)
    assert (row["values"], row["kept"]) == (18, False)
    for step in ("first", "last"):
        (row,) = rows_of(made, metric=metric, layers="fc*", step=step, at_most=1.0)
        assert (row["values"], row["kept"]) == (8, True)


def test_the_mean_is_held_to_a_law_of_means(made) -> None:
    held = load_results(made / "results.zarr")["probe"]["error_stable_rank_raw"]
    mean = float(held.mean())
    (row,) = rows_of(made, metric="error_stable_rank_raw", average=True, at_least=mean, at_most=mean)
    assert (row["values"], row["kept"]) == (1, True)
    assert row["lowest"] == row["highest"] == pytest.approx(mean)
    (row,) = rows_of(made, metric="error_stable_rank_raw", at_least=mean, at_most=mean)
    assert not row["kept"]


def test_the_tolerance_is_a_share_of_the_bound(made) -> None:
    largest = float(load_results(made / "results.zarr")["probe"]["error_stable_rank_raw"].max())
    for tolerance, kept in ((0.1, True), (0.001, False)):
        keys = {"at_most": largest / 1.05, "tolerance": tolerance}
        (row,) = rows_of(made, metric="error_stable_rank_raw", **keys)
        assert row["kept"] is kept


def test_a_theorem_of_nothing_is_not_kept(made, tmp_path) -> None:
    for keys in ({"layers": "conv*"}, {"average": True, "layers": "conv*"}):
        (row,) = rows_of(made, metric="error_cosine", at_most=2.0, **keys)
        assert (row["values"], row["kept"]) == (0, False)
    absent = "error_cosine_null_p"  # nothing was drawn
    for keys in ({"metric": absent, "at_most": 2.0}, {"metric": "error_cosine", "at_most": absent}):
        (row,) = rows_of(made, **keys)
        assert not row["kept"]
    wrong = declared(more=theorem(metric=absent, at_most=2.0))
    with pytest.raises(FadiagError, match=r"\(error_cosine_null_p: no value; at most 2\)"):
        run_study(wrong, tmp_path, pool=made / "pool", workers=0)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"metric": "eror_cosine", "at_most": 1.0}, "'theorems' names 'eror_cosine'; .*error_cosine"),
        (
            {"metric": "error_cosine", "at_most": "error_cosin"},
            "'theorems' names 'error_cosin'; .*error_cosine",
        ),
        ({"metric": "error_cosine", "conditions": ["f"], "at_most": 1.0}, "names the condition 'f'; .*fa"),
        ({"metric": "error_cosine"}, "theorem 'A law.' has no bound; give it at_least or at_most"),
        ({"metric": "error_cosine", "at_most": 1.0, "step": "middle"}, "step"),
    ],
)
def test_a_wrong_theorem_is_refused_before_the_first_run(keys, says) -> None:
    with pytest.raises(ConfigError, match=says):
        declared(more=theorem(**keys))


def test_theorems_of_conditions_that_do_not_run_are_left_out() -> None:
    more = theorem(metric="error_cosine", conditions=["fa", "tanh"], at_most=1.0)
    more += "\n" + theorem(metric="error_cosine", conditions=["tanh"], at_most=1.0)
    study = declared("only=['bp', 'fa']", more=more + "\n[conditions.tanh]\nmodel.gate = 'tanh'\n")
    assert [one.conditions for one in study.theorems] == [("fa",)]
    study = declared(more=theorem(metric="error_cosine", at_most=1.0, conditions=["fa"]) + GRID)
    assert study.theorems[0].conditions == ("fa weight_scale=1", "fa weight_scale=0.1")


GRID = '\n[grid]\n"model.weight_scale" = [1.0, 0.1]\n'
