"""Kept spectra and overlap matrices, against NumPy's SVD in float64, from values and from factors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag.analysis import analyze, compare, overlap_matrix
from fadiag.cli import main
from fadiag.errors import InputError, MissingSignalError
from fadiag.results import by_condition, load_results, to_pandas
from fadiag.store import open_run

WIDTHS = (6, 12, 9, 4)
SAMPLES = 10  # fewer than the units of the first layer, more than those of the second
LAYERS = ("0", "2", "4")
REDUCTIONS = ("raw", "factor")
STEPS = 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Record one training twice, as values and as factors, also the error under another B."""
    found = {}
    for reduction in REDUCTIONS:
        torch.manual_seed(0)
        pairs = list(pairwise(WIDTHS))
        layers = [each for i, o in pairs for each in (nn.Linear(i, o), nn.ReLU())]
        model = fadiag.convert(nn.Sequential(*layers[:-1]), rule="fa", seed=0)
        other = {name: torch.randn(o, i) for name, (i, o) in zip(LAYERS, pairs, strict=True)}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, y = torch.randn(SAMPLES, WIDTHS[0]), torch.randint(0, WIDTHS[-1], (SAMPLES,))
        probe = fadiag.Probe(
            (x, y), lambda m, b: cross_entropy(m(b[0]), b[1]), reduction=reduction, feedbacks={"mine": other}
        )
        path = tmp_path_factory.mktemp("spectra") / f"{reduction}.zarr"
        meta = {"condition": "fa", "seed": 0}
        with fadiag.Recorder(
            model, path, optimizer=optimizer, probes={"probe": probe}, every=1, meta=meta
        ) as recorder:
            for _ in range(STEPS):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
                recorder.step()
        found[reduction] = path
    return found


@pytest.fixture(scope="module")
def results(stores):
    return {name: analyze(path, spectra=["error", "error_mine", "update"]) for name, path in stores.items()}


def matrix(stores, layer, signal, step, stream="probe"):
    node = next(n for n in open_run(stores["raw"])[stream].children.values() if n.attrs["name"] == layer)
    return node[signal].sel(step=step).values.astype(np.float64)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("signal", ["error", "error_mine"])
@pytest.mark.parametrize("layer", LAYERS)
def test_spectra_are_those_of_an_svd_in_float64(stores, results, reduction, signal, layer) -> None:
    probe = results[reduction]["probe"]
    ends = probe["spectrum_step"].values
    assert ends.tolist() == [0, STEPS]
    for step in ends:
        x = matrix(stores, layer, signal, step)
        for how, rows in (("raw", x), ("centered", x - x.mean(0))):
            count = min(len(x) - (how == "centered"), x.shape[1])
            want = np.linalg.svd(rows, compute_uv=False)[:count]
            got = probe[f"{signal}_spectrum_{how}"].sel(layer=layer, spectrum_step=step).values[0]
            np.testing.assert_allclose(got[:count], want, rtol=2e-5, atol=2e-6 * want[0])
            assert np.isnan(got[count:]).all()


def test_ranks_under_another_feedback_are_measured(stores, results) -> None:
    for step in (0, STEPS):
        s = np.linalg.svd(matrix(stores, "2", "error_mine", step), compute_uv=False)
        q = s[s > 0] / s.sum()
        found = results["raw"]["probe/error_mine_effective_rank_raw"].sel(layer="2", step=step).item()
        assert found == pytest.approx(np.exp(-(q * np.log(q)).sum()), rel=1e-6)
    alone = analyze(stores["raw"], metrics=["error_mine_effective_rank_raw"])
    assert list(alone["probe"].data_vars) == ["error_mine_effective_rank_raw"]


def test_a_state_stream_keeps_the_last_update(stores, results) -> None:
    state = results["raw"]["state"]
    assert state["spectrum_step"].values.tolist() == [0, 1, STEPS - 1, STEPS]
    found = state["update_spectrum_raw"].sel(layer="2", spectrum_step=STEPS - 1).values[0]
    want = np.linalg.svd(matrix(stores, "2", "update", STEPS - 1, "state"), compute_uv=False)
    np.testing.assert_allclose(found[: len(want)], want, rtol=1e-5, atol=1e-6 * want[0])


def test_steps_of_spectra_are_chosen(stores) -> None:
    def kept(**options):
        return analyze(stores["raw"], metrics=["error_cosine"], spectra="error", **options)["probe"]

    assert kept(spectra_steps=[1, 3])["spectrum_step"].values.tolist() == [1, 3]
    assert kept(spectra_steps="all")["spectrum_step"].values.tolist() == list(range(STEPS + 1))
    with pytest.raises(
        InputError, match="spectra_steps has 9, a step that no run recorded; the nearest are 2, 3, 4"
    ):
        kept(spectra_steps=[9])
    with pytest.raises(InputError, match="spectra_steps is 'last'; it is 'ends', 'all' or a list of steps"):
        kept(spectra_steps="last")


def test_spectra_are_off_by_default_and_wrong_signals_are_named(stores) -> None:
    assert "spectrum_step" not in analyze(stores["raw"])["probe"].dims
    with pytest.raises(InputError, match="'eror' is no signal with a spectrum; near: error"):
        analyze(stores["raw"], spectra="eror")
    with pytest.raises(InputError, match="spectra is empty; leave it out"):
        analyze(stores["raw"], spectra=[])
    with pytest.raises(MissingSignalError, match="error_other_spectrum_raw needs the signal 'error_other'"):
        analyze(stores["raw"], spectra="error_other")


def test_results_with_spectra_are_saved_resumed_and_compared(stores, tmp_path) -> None:
    path = tmp_path / "results.zarr"
    first = analyze(stores["raw"], metrics=["error_cosine"], spectra="error", output=path)
    again = analyze(
        stores["raw"], metrics=["error_cosine"], spectra="error", spectra_steps="all", output=path
    )
    ends = again["probe/error_spectrum_raw"].sel(spectrum_step=[0, STEPS])
    np.testing.assert_array_equal(ends, first["probe/error_spectrum_raw"])
    assert again["probe/error_spectrum_raw"].notnull().any("singular_value").all()
    loaded = load_results(path)
    assert by_condition(loaded, "error_spectrum_raw").dims[2:] == ("layer", "spectrum_step", "singular_value")
    table = to_pandas(loaded)
    row = table[(table.variable == "error_spectrum_raw[2]") & (table.layer == "2") & (table.step == STEPS)]
    want = np.linalg.svd(matrix(stores, "2", "error", STEPS), compute_uv=False)[1]
    assert row.value.item() == pytest.approx(want, rel=1e-6)
    assert set(compare(loaded, loaded).variable) == {"error_cosine"}


def overlaps(x, y, k):
    u, v = (np.linalg.svd(each, full_matrices=False)[2][:k].T for each in (x, y))
    return np.square(u.T @ v).sum() / k


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_overlap_of_steps(stores, reduction) -> None:
    found = overlap_matrix(stores[reduction], layer="2", k=2)
    assert found.dims == ("step", "other_step")
    assert found["step"].values.tolist() == list(range(STEPS + 1))
    records = [matrix(stores, "2", "error", step) for step in range(STEPS + 1)]
    want = [[overlaps(x, y, 2) for y in records] for x in records]
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert (found["columns"] == WIDTHS[2]).all()
    assert (found["k"] == 2).all()
    assert found.attrs["condition"] == "fa"


def test_directions_of_a_factor_of_the_columns_are_not_compared(stores) -> None:
    with pytest.raises(InputError, match="error of layer '0' is a factor of its columns"):
        overlap_matrix(stores["factor"], layer="0")


def test_k_is_classes_less_one_as_in_analyze(stores) -> None:
    found = overlap_matrix(stores["raw"], layer="2")
    assert (found["k"] == WIDTHS[-1] - 1).all()


def test_overlap_of_layers_is_nan_where_widths_differ(stores) -> None:
    found = overlap_matrix(stores["raw"], step=STEPS, k=2)
    assert found["layer"].values.tolist() == list(LAYERS)
    np.testing.assert_allclose(np.diag(found), 1)
    assert np.isnan(found.values[~np.eye(3, dtype=bool)]).all()


def test_an_update_has_an_overlap_matrix_and_zeros_have_none(make_run, edit) -> None:
    run = edit(make_run(0), "state/fc2/update", 1, 0.0)
    found = overlap_matrix(run, layer="fc2", signal="update", k=2)
    assert found["step"].values.tolist() == [0, 10, 20]  # the last state has no update
    assert np.isnan(found.sel(step=10)).all()
    assert found.sel(step=0, other_step=20).item() < 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InputError, r"give layer=\.\.\. or step=\.\.\."),
        ({"layer": "fc2", "step": 0}, InputError, r"give layer=\.\.\. or step=\.\.\."),
        ({"layer": "fc9"}, InputError, "no layer 'fc9'; it has fc1, fc2, out"),
        ({"step": 7}, InputError, "step 7 was not recorded; the nearest are 0, 10, 20"),
        (
            {"layer": "fc2", "signal": "erorr"},
            InputError,
            "'erorr' is no signal with a spectrum; near: error",
        ),
        ({"layer": "fc2", "signal": "input"}, MissingSignalError, "needs the signal 'input'"),
        ({"layer": "fc2", "stream": "live"}, InputError, "no error in a stream 'live'; it is in probe"),
        ({"layer": "fc2", "k": 0}, InputError, "k"),
    ],
)
def test_overlap_matrix_names_what_is_wrong(make_run, options, error, message) -> None:
    with pytest.raises(error, match=message):
        overlap_matrix(make_run(0), **options)


def test_the_command_keeps_spectra(stores, tmp_path) -> None:
    words = ["analyze", str(stores["raw"]), "--metric", "error_cosine", "-o", str(tmp_path / "results.zarr")]
    done = CliRunner().invoke(main, [*words, "--spectra", "error", "--spectra-steps", "all"])
    assert done.exit_code == 0, done.output
    probe = load_results(tmp_path / "results.zarr")["probe"]
    assert probe["error_spectrum_raw"].sizes["spectrum_step"] == STEPS + 1
    wrong = CliRunner().invoke(main, [*words, "--spectra", "eror"])
    assert wrong.exit_code != 0
    assert "'eror' is no signal with a spectrum; near: error" in wrong.output
