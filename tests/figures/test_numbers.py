import csv

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures import FIGURES, find, write_numbers
from fadiag.results import by_condition, final_values
from tests.results.synthetic_results import CONDITIONS, RANK, synthetic

RANKS = [
    f"{signal}_{rank}_raw"
    for rank in ("participation_ratio", "effective_rank")
    for signal in ("error", "modulator")
]


def test_all_missing_variables_are_named() -> None:
    results = synthetic()
    results["probe"] = results["probe"].to_dataset().drop_vars(RANKS)
    with pytest.raises(MissingSignalError, match=f"no {', '.join(RANKS)} .*; record or log"):
        find("rank").draw(results)


def test_a_figure_is_drawn_without_the_variables_that_are_missing_and_names_them() -> None:
    results = synthetic()
    results["probe"] = results["probe"].to_dataset().drop_vars(RANKS[2:])
    figure = find("rank")
    missing = f"Left out: {', '.join(RANKS[2:])} (not in the results)."
    assert figure.caption(results) == f"{figure.caption(synthetic())} {missing}"
    panels = [[t.get_text() for t in ax.texts] for ax in figure.draw(results).axes]
    assert [texts == ["not recorded"] for texts in panels] == [False] * 8 + [True] * 8
    results["probe"] = (
        results["probe"]
        .to_dataset()
        .drop_vars(RANKS[0])
        .assign({RANKS[2]: synthetic()["probe"].to_dataset()[RANKS[2]]})
    )
    assert figure.caption(results).startswith("Participation ratio raw of the modulator at fc3, last step: ")
    figure.draw(results)


@pytest.mark.parametrize("name", ["error_cosine", "weight_feedback_cosine"])
def test_alignment_is_drawn_with_one_of_its_variables(name: str) -> None:
    results = synthetic()
    for stream in ("probe", "state"):
        results[stream] = results[stream].to_dataset().drop_vars(name, errors="ignore")
    assert find("alignment").caption(results).endswith(f" Left out: {name} (not in the results).")
    find("alignment").draw(results)


def test_remedies_are_told_without_an_accuracy() -> None:
    results = synthetic()
    del results["log"]
    caption = find("remedies").caption(results)
    assert "FA + BN: rank higher" in caption
    assert "accuracy" not in caption.partition(" Left out")[0]
    assert caption.endswith(" Left out: test_accuracy (not in the results).")
    find("remedies").draw(results)


def test_an_unknown_figure_lists_the_known() -> None:
    with pytest.raises(InputError, match="no figure is called 'ranks'; there are accuracy, rank, alignment"):
        find("ranks")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_numbers_read_back_bit_equal(figure, tmp_path) -> None:
    numbers = figure.numbers(synthetic(spread=0.7))
    path = write_numbers(numbers, tmp_path / "numbers.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(int(array.notnull().sum()) for array in numbers.data_vars.values())
    for row in rows:
        array = numbers[row["variable"]].sel({"condition": row["condition"], "seed": int(row["seed"])})
        if row["layer"]:
            array = array.sel(layer=row["layer"])
        assert float(array.sel(step=int(row["step"]))) == float(row["value"])


def test_numbers_carry_the_known_finals() -> None:
    numbers = find("remedies").numbers(synthetic())
    at_end = final_values(numbers["error_participation_ratio_raw"].sel(layer="fc3"))
    for condition in CONDITIONS:
        assert float(at_end.sel({"condition": condition, "seed": 0})) == pytest.approx(RANK[condition])


def _with_seeds(seeds) -> xr.DataTree:
    """Return results of BP (0.1, 0.5, 0.9 %) and FA (0.92, 0.11, 0.52 %) whose runs tell these seeds."""
    coords = {
        "run": [f"r{i}" for i in range(6)],
        "step": [10],
        "condition": ("run", ["bp"] * 3 + ["fa"] * 3),
        **({} if seeds is None else {"seed": ("run", seeds)}),
    }
    accuracy = np.array([[0.1, 0.5, 0.9, 0.92, 0.11, 0.52]]).T / 100
    log = xr.Dataset({"test_accuracy": (("run", "step"), accuracy)}, coords, {"kind": "log"})
    return xr.DataTree.from_dict({"/log": log})


@pytest.mark.parametrize(
    "seeds",
    [
        ["a", "b", "c", "c", "a", "b"],
        [0.1, 0.2, 0.3, 0.3, 0.1, 0.2],
        [1e16, 2e16, 3e16, 3e16, 1e16, 2e16],
        ["01", "1", "001", "001", "01", "1"],
    ],
)
def test_runs_pair_by_the_seed_that_they_tell(seeds) -> None:
    caption = find("accuracy").caption(_with_seeds(seeds))
    # FA is 0.02, 0.01 and 0.02 above BP of the same seed.
    assert "FA is above BP (FA − BP = 0.0167 points [0.00232, 0.0310]" in caption
    assert "over 3 paired seeds" in caption


@pytest.mark.parametrize(
    "seeds",
    [
        None,
        [0, 1, 2, np.nan, np.nan, np.nan],
        np.array(["a", "b", "c", "", "", ""], object),
        np.array([None] * 6, object),
    ],
)
def test_runs_that_tell_no_seed_pair_with_no_run(seeds) -> None:
    results = _with_seeds(seeds)
    caption = find("accuracy").caption(results)
    assert "no seed has a value for both FA and BP, so no runs are paired" in caption
    drawn = by_condition(results, "test_accuracy").isel(step=-1).sel({"condition": "fa"}).dropna("seed")
    assert drawn["seed"].values.tolist() == ["(no seed, run r3)", "(no seed, run r4)", "(no seed, run r5)"]
    lines = find("accuracy").draw(results).axes[0].lines
    assert {round(float(line.get_ydata()[0]), 2) for line in lines} >= {0.1, 0.5, 0.9, 0.92, 0.11, 0.52}


def test_whole_seeds_are_numbers_in_their_order() -> None:
    for seeds in ([10.0, 9.0, 0.0] * 2, [10, 9, 0] * 2):
        assert by_condition(_with_seeds(seeds), "test_accuracy")["seed"].values.tolist() == [0, 9, 10]


def _with_streams(**others: str) -> xr.DataTree:
    """Return results where other streams hold the probe's variables too, all of them 1000, without a null."""
    results = synthetic()
    probe = results["probe"].to_dataset()
    copy = probe.drop_vars([name for name in probe.data_vars if "_null_" in name]) * 0 + 1000.0
    added = {name: copy.assign_attrs(kind=kind) for name, kind in others.items()}
    return xr.DataTree.from_dict(
        {
            f"/{k}": v
            for k, v in sorted({**added, **{k: c.to_dataset() for k, c in results.children.items()}}.items())
        }
    )


def test_figures_take_the_probe_and_say_so() -> None:
    alone, beside = synthetic(), _with_streams(live="live")
    for name in ("rank", "alignment", "overlap", "remedies"):
        figure = find(name)
        xr.testing.assert_equal(figure.numbers(beside), figure.numbers(alone))
        told = figure.caption(beside)
        assert told == f"{figure.caption(alone)} Measured on the stream 'probe', not on live."
    assert by_condition(beside, "error_cosine").attrs["stream"] == "probe"
    assert by_condition(beside, "error_cosine", stream="live").attrs["stream"] == "live"


def test_a_scalar_logged_under_the_name_of_a_metric_is_not_taken_for_it() -> None:
    results = synthetic()
    log = results["log"].to_dataset()
    results["log"] = log.assign(
        error_cosine=log["test_accuracy"], weight_feedback_cosine=log["test_accuracy"]
    )
    assert find("alignment").caption(results) == find("alignment").caption(synthetic())
    xr.testing.assert_identical(
        by_condition(results, "error_cosine"), by_condition(synthetic(), "error_cosine")
    )
    assert by_condition(results, "weight_feedback_cosine", stream="log").dims == ("condition", "seed", "step")


def test_a_scalar_logged_under_the_name_of_a_metric_that_is_missing_does_not_stand_for_it() -> None:
    results = synthetic()
    log, probe = results["log"].to_dataset(), results["probe"].to_dataset()
    results["log"] = log.assign(error_overlap=log["test_accuracy"])
    results["probe"] = probe.drop_vars("error_overlap")
    with pytest.raises(MissingSignalError, match="the results hold no error_overlap by layer; record or log"):
        find("overlap").caption(results)


def test_a_figure_is_of_one_stream() -> None:
    # The first probe in order lacks the nulls; those of the other must not stand beside its values.
    numbers = find("overlap").numbers(_with_streams(held_out="probe"))
    assert list(numbers.data_vars) == ["error_overlap"]
    assert float(numbers["error_overlap"].min()) == 1000.0
    with pytest.raises(MissingSignalError, match="no error_overlap_null_low in stream 'held_out'; record"):
        by_condition(_with_streams(held_out="probe"), "error_overlap_null_low", stream="held_out")


def test_a_missing_variable_is_told_in_few_words() -> None:
    results = synthetic()
    results["log"] = results["log"].to_dataset().rename(test_accuracy="accuracy_of_tests")
    with pytest.raises(MissingSignalError) as caught:
        find("accuracy").draw(results)
    assert str(caught.value).startswith("the results hold no test_accuracy")
    assert len(str(caught.value)) < 200
