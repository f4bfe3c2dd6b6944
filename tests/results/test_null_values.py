"""The variables of nulls: known by their names, and read at the step of the values beside them."""

import numpy as np
import pytest

from fadiag.analysis import analyze
from fadiag.figures import find
from fadiag.results.null_values import NULL_WORDS, above_null, beside_null, is_companion
from tests.results.synthetic_results import synthetic


def test_every_null_that_is_measured_is_known_by_its_name(make_run) -> None:
    probe = analyze(make_run(0))["probe"].to_dataset()
    nulls = {name for name in probe.data_vars if is_companion(name)}
    assert nulls == {name for name in probe.data_vars if "_null_" in str(name)}
    assert {f"error_cosine_{suffix}" for suffix in NULL_WORDS} <= nulls
    assert all("null of" in probe[name].attrs["long_name"] for name in nulls)


def test_runs_above_their_null_are_counted_where_it_was_drawn() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset().copy(deep=True)
    high = probe["error_overlap_null_high"]
    high[{"step": slice(2, None)}] = np.nan
    high[{"run": 3, "step": 1}] = 0.99
    results["probe"] = probe
    numbers = find("overlap").numbers(results)
    values, bound = beside_null(numbers, "error_overlap", "error_overlap_null_high", "fa", "fc3")
    assert (int(values["step"]), int(bound["step"])) == (50, 50)
    # 0.45 to 0.47 at step 50: below the band's end of 0.7, and of 0.99.
    assert above_null(numbers, "error_overlap", "fa", "fc3")[:2] == (0, 3)
    numbers["error_overlap_null_high"] = numbers["error_overlap_null_high"] * 0.5
    assert above_null(numbers, "error_overlap", "fa", "fc3")[:2] == (2, 3)
    assert above_null(numbers.drop_vars("error_overlap_null_high"), "error_overlap", "fa", "fc3") is None
    numbers["error_overlap_null_high"] = numbers["error_overlap_null_high"] * np.nan
    assert above_null(numbers, "error_overlap", "fa", "fc3") is None


@pytest.mark.parametrize("name", ["null_low", "error_null", "error_cosine_null_low_twice"])
def test_other_names_are_no_nulls(name) -> None:
    assert not is_companion(name)
