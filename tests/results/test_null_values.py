"""The variables of nulls: known by their names."""

import pytest

from fadiag.analysis import analyze
from fadiag.results.null_values import NULL_WORDS, is_companion


def test_every_null_that_is_measured_is_known_by_its_name(make_run) -> None:
    probe = analyze(make_run(0))["probe"].to_dataset()
    nulls = {name for name in probe.data_vars if is_companion(name)}
    assert nulls == {name for name in probe.data_vars if "_null_" in str(name)}
    assert {f"error_cosine_{suffix}" for suffix in NULL_WORDS} <= nulls
    assert all("null of" in probe[name].attrs["long_name"] for name in nulls)


@pytest.mark.parametrize("name", ["null_low", "error_null", "error_cosine_null_low_twice"])
def test_other_names_are_no_nulls(name) -> None:
    assert not is_companion(name)
