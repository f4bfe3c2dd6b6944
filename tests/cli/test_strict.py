"""What a command leaves out is one warning on stderr, and an error under --strict."""

import numpy as np
import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.results import load_results, save_results
from fadiag.results.left_out import LeftOut, left_out, to_attribute
from tests.results.synthetic_results import SMALL, synthetic

TOLD = "run fa-seed1: error of layer 'fc1' at step 50 holds 7 NaN of 160 values"


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def results(tmp_path):
    tree = synthetic(**SMALL)
    lost = LeftOut("fa-seed1", "holds 7 NaN of 160 values", "probe", "fc1", signal="error", step=50)
    tree.attrs |= to_attribute([lost])
    return save_results(tree, tmp_path / "results.zarr")


def commands(results, tmp_path):
    yield "figure", "rank_by_depth", results, "-o", tmp_path / "out.png"
    yield "figure", "accuracy_over_training", results, "-o", tmp_path / "out"
    yield "report", results, "-o", tmp_path / "out.html"
    yield "compare", results, results, "--conditions", "bp", "fa", "-o", tmp_path / "out.table.csv"


@pytest.mark.parametrize("which", range(4))
def test_reading_commands_warn_and_go_on_and_fail_under_strict(which, results, tmp_path) -> None:
    words = list(commands(results, tmp_path))[which]
    refused = invoke(*words, "--strict")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("error: left out: ")
    assert TOLD in refused.stderr
    assert not list(tmp_path.glob("out.*"))
    done = invoke(*words)
    assert (done.exit_code, done.stderr.count("\n")) == (0, 1)
    assert done.stderr.startswith("warning: left out: ")
    assert TOLD in done.stderr
    assert list(tmp_path.glob("out.*"))


def test_what_is_whole_is_said_without_a_warning(tmp_path) -> None:
    results = save_results(
        synthetic(("bp", "fa", "fa+bn"), layers=SMALL["layers"]), tmp_path / "results.zarr"
    )
    for words in commands(results, tmp_path):
        for strict in ((), ("--strict",)):
            done = invoke(*words, *strict)
            assert (done.exit_code, done.stderr) == (0, "")


def test_a_report_says_which_figures_it_has_to_do_without(tmp_path) -> None:
    tree = synthetic(**SMALL)
    tree["probe"] = tree["probe"].to_dataset().drop_vars(["error_overlap", "modulator_effective_rank_raw"])
    results = save_results(tree, tmp_path / "results.zarr")
    done = invoke("report", results, "-o", tmp_path / "out.html")
    assert done.exit_code == 0
    assert "figure rank_by_depth: modulator_effective_rank_raw not in the results" in done.stderr
    assert "figure overlap_over_training: error_overlap not in the results" in done.stderr
    assert "Not drawn: the results hold no error_overlap" in (tmp_path / "out.html").read_text()


def test_analyze_leaves_a_diverged_and_a_lost_run_out(make_run, edit, record, tmp_path) -> None:
    whole = record(make_run(0), tmp_path / "0.zarr")
    diverged = record(edit(make_run(1), "probe/fc2/error", slice(1, None), np.nan), tmp_path / "1.zarr")
    words = ("analyze", whole, diverged, tmp_path / "gone.zarr", "-o", tmp_path / "results.zarr")
    refused = invoke(*words, "--strict")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
    assert not (tmp_path / "results.zarr").exists()
    done = invoke(*words)
    assert done.exit_code == 0, done.stderr
    assert (done.exit_code, done.stdout) == (0, f"wrote {tmp_path / 'results.zarr'}\n")
    assert done.stderr.startswith("warning: 2 left out of the results, listed in their attribute ")
    assert "run gone: " in done.stderr
    assert "run fa-seed1: error of layer 'fc2' at step 10 (and at 2 more) holds 160 NaN" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(left_out(load_results(tmp_path / "results.zarr"))) == 2
    nothing = invoke("analyze", tmp_path / "gone.zarr", "-o", tmp_path / "none.zarr")
    assert (nothing.exit_code, nothing.stderr[:7]) == (1, "error: ")
