"""The results, the report and `fadiag inspect` say where error_bp is not known to be right."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import fadiag
from fadiag.analysis import analyze
from fadiag.capture import Probe, Recorder
from fadiag.cli import main
from fadiag.errors import CaptureWarning
from fadiag.report import render
from fadiag.report.alerts import alerts
from fadiag.report.question import ask
from fadiag.results import by_condition, load_results, save_results, select, to_pandas
from fadiag.results.error_check import doubts, doubts_by_verdict
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12)


def recorded(path, *, loss=loss_of, seed=0, **options):
    torch.manual_seed(seed)
    model = fadiag.convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0)
    meta = {"condition": "fa", "seed": seed}
    Recorder(model, path, probes={"probe": Probe((X, Y), loss)}, meta=meta, **options).close()
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Three runs: the check passes, it cannot tell, and it is off."""
    folder, count = tmp_path_factory.mktemp("runs"), iter(range(10**6))

    def unsteady(model, batch):
        return loss_of(model, batch) + 1e-3 * next(count)

    found = [recorded(folder / "passed.zarr")]
    with pytest.warns(CaptureWarning, match="the check cannot decide"):
        found.append(recorded(folder / "unsteady.zarr", loss=unsteady, seed=1))
    return [*found, recorded(folder / "off.zarr", seed=2, check="off")]


@pytest.fixture(scope="module")
def results(paths):
    return analyze(paths)


def test_results_have_the_verdict_of_each_layer_of_each_run(results):
    checks = results["probe"]["error_bp_check"]
    assert checks.dims == ("run", "layer")
    assert checks.values.tolist() == [["passed"] * 2, ["inconclusive"] * 2, ["off"] * 2]
    assert "error_bp_check" not in results["state"].coords
    assert "derivative of the loss" in checks.attrs["long_name"]


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_verdicts_are_saved_and_selected(results, tmp_path, suffix):
    read = load_results(save_results(results, tmp_path / f"results{suffix}"))
    assert doubts(read) == doubts(results)
    assert [run for run, *_ in doubts(select(read, seed=[0, 1]))] == ["fa-seed1"]
    assert by_condition(read, "error_cosine").dims == ("condition", "seed", "layer", "step")
    assert "error_cosine" in set(to_pandas(read)["variable"])


def test_a_run_without_a_check_is_unchecked(make_run):
    checks = analyze([make_run(0), make_run(1, drop=("error_bp", "modulator_bp", "gradient_bp"))])
    values = checks["probe"]["error_bp_check"].values
    assert values.tolist() == [["unchecked"] * 3, [""] * 3]
    assert len(doubts(checks)) == 1


def test_a_stream_without_anything_to_check_has_no_verdicts(make_run):
    bare = analyze(make_run(0, drop=("error_bp", "modulator_bp", "gradient_bp")))
    assert "error_bp_check" not in bare["probe"].coords
    assert doubted(bare) == []


def doubted(results):
    """Return the alerts of a report that speak of error_bp."""
    found = alerts(results, ask(results))
    return [(alert.where, alert.what) for alert in found if alert.what.startswith("error_bp")]


def test_the_report_names_what_is_in_doubt(results):
    off, inconclusive = doubted(results)
    assert off[0] == "runs fa-seed2; stream probe"
    assert off[1].endswith("was not checked: check='off'")
    assert inconclusive[0] == "runs fa-seed1; stream probe"
    assert "'0', '2' may or may not be the derivative of the loss" in inconclusive[1]
    assert "inconclusive" in render(results)
    assert "inconclusive" not in render(select(results, seed=0))


def test_runs_with_one_verdict_share_an_alert(paths):
    results = analyze(paths)
    results["probe"]["error_bp_check"].values[:] = np.array("inconclusive", object)
    assert [where for where, _ in doubted(results)] == ["runs fa-seed0, fa-seed1, fa-seed2; stream probe"]


def test_inspect_names_what_is_in_doubt(paths):
    outputs = [CliRunner().invoke(main, ["inspect", str(path)]).output for path in paths]
    assert "error_bp of" not in outputs[0]
    assert "probe: error_bp of layers '0', '2' may or may not be the derivative of the loss" in outputs[1]
    assert "probe: error_bp of layers '0', '2' was not checked: check='off'" in outputs[2]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("failed", "is not the derivative of the loss, and was left out"),
        ("zero", "was 0 during the check, which therefore shows nothing"),
        ("unchecked", "was not checked"),
        ("new", "has the verdict 'new'"),
    ],
)
def test_each_verdict_in_words(verdict, words):
    assert doubts_by_verdict([("a", verdict), ("b", "passed"), ("c", "")]) == {
        verdict: f"error_bp of layer 'a' {words}"
    }
