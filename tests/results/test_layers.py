"""The layers of results, and those that patterns match."""

import pytest

from fadiag.errors import InputError
from fadiag.results import select_layers
from fadiag.results.layers import layers_of, matching_layers
from tests.results.synthetic_results import synthetic


def test_an_exact_name_comes_before_a_pattern() -> None:
    assert matching_layers(["net[0]", "net0"], "net[0]") == ["net[0]"]
    assert matching_layers(["net0", "net1"], ["net[0]"]) == ["net0"]


def test_many_layers_are_not_all_listed() -> None:
    names = [f"l{i}" for i in range(20)]
    with pytest.raises(InputError, match=r"no layer matches 'x'; there are l0, .*, l11 and 8 more$"):
        matching_layers(names, ["l1", "x"])
    with pytest.raises(InputError, match="there are none"):
        matching_layers([], "x")


def test_all_streams_are_cut_and_scalars_stay() -> None:
    tree = select_layers(synthetic(), ["fc[12]", "out"])
    assert layers_of(tree) == ["fc1", "fc2", "out"]
    assert tree["state"]["layer"].values.tolist() == ["fc1", "fc2", "out"]
    assert tree["log"].sizes == {"run": 18, "step": 9}
    assert tree.attrs["fadiag_results"] == 3
