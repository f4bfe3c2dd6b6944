"""One step for all that is compared, and no value from another."""

import numpy as np
import xarray as xr

from fadiag.results import final_values
from fadiag.results.final_values import final_values_of_both


def test_final_does_not_lend_an_earlier_step() -> None:
    # Condition a ends at step 10; one of its seeds diverged before. b goes on to step 20, c has no value.
    nan = np.nan
    values = [[[1.0, 2.0, nan], [1.0, nan, nan]], [[1.0, 5.0, 3.0], [1.0, 6.0, 4.0]], [[nan] * 3] * 2]
    array = xr.DataArray(
        values, dims=("condition", "seed", "step"), coords={"condition": ["a", "b", "c"], "step": [0, 10, 20]}
    )
    shared = final_values(array)
    np.testing.assert_array_equal(shared.transpose("condition", "seed"), [[2.0, nan], [5.0, 6.0], [nan, nan]])
    assert int(shared["step"]) == 10
    assert shared["last_step"].values.tolist() == [10, 20, -1]
    np.testing.assert_array_equal(
        final_values(array, ("b", "c")).transpose("condition", "seed")[0], [3.0, 4.0]
    )
    apart = final_values(array.where((array["step"] > 10) == (array["condition"] == "b")))
    assert int(apart["step"]) == -1
    assert not apart.notnull().any()


def test_a_value_that_is_infinite_is_none() -> None:
    values = [[[1.0, 2.0], [1.0, np.inf]], [[3.0, np.inf], [3.0, np.inf]]]
    coords = {"condition": ["a", "b"], "step": [0, 10]}
    array = xr.DataArray(values, coords, ("condition", "seed", "step"))
    assert final_values(array).step == 0
    np.testing.assert_array_equal(final_values(array, ("a",)), [[2.0, np.nan]])
    a, b = (array.sel({"condition": name}).rename(seed="run") for name in "ab")
    found = final_values_of_both(a, a)
    assert found.step == 10
    np.testing.assert_array_equal(found.layers[""][0], [2.0, np.nan])
    assert final_values_of_both(a, b).note == (
        "compared at step 0, the last at which both have a value: a ends at step 10, b at step 0"
    )


def test_conditions_and_sides_end_at_the_same_step() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = np.where(rng.random((2, 3, 2, 6)) < 0.2, 1.0, np.nan)
        coords = {"condition": ["a", "b"], "layer": ["fc1", "fc2"], "step": np.arange(6) * 10}
        array = xr.DataArray(values, coords, ("condition", "seed", "layer", "step"))
        if not all(array.sel({"condition": name}).notnull().any() for name in "ab"):
            continue
        a, b = (array.sel({"condition": name}).rename(seed="run") for name in "ab")
        by_condition, both = final_values(array), final_values_of_both(a, b)
        if int(by_condition["step"]) < 0:
            assert both.note.startswith("not compared: no step")
            continue
        assert int(by_condition["step"]) == both.step
        for layer, sides in both.layers.items():
            for name, side in zip("ab", sides, strict=True):
                at = {"condition": name, "layer": layer}
                np.testing.assert_array_equal(by_condition.sel(at), side)
