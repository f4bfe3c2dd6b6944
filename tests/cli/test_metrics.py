"""``fadiag metrics``: all metrics with their definitions."""

import json

from click.testing import CliRunner

from fadiag.analysis import TABLE
from fadiag.cli import main


def metrics(*words):
    return CliRunner().invoke(main, ["metrics", *words])


def test_all_metrics_are_listed_with_their_formulas() -> None:
    found = json.loads(metrics("--json").stdout)
    assert [one["name"] for one in found] == [metric.name for metric in TABLE]
    assert [one["formula"] for one in found] == [metric.formula for metric in TABLE]
    text = metrics().stdout
    assert [line for line in text.splitlines() if line and line[0] != " "] == [
        metric.name for metric in TABLE
    ]


def test_a_filter_looks_at_names_and_descriptions() -> None:
    names = [one["name"] for one in json.loads(metrics("error_*_raw", "stable", "--json").stdout)]
    assert names == ["error_stable_rank_raw", "error_bp_stable_rank_raw", "error_post_stable_rank_raw"]
    found = metrics("roy-vetterli", "update")
    assert found.stdout.splitlines()[:3] == [
        "update_effective_rank_raw",
        "           effective rank (Roy-Vetterli) of the update, raw",
        "  formula  exp(-sum q ln q), q = s / sum s; 0 of zeros",
    ]


def test_no_match_is_an_error() -> None:
    done = metrics("nosuch")
    assert done.exit_code == 1
    assert done.stderr == f"error: no metric matches 'nosuch'; leave the filter out to see all {len(TABLE)}\n"
