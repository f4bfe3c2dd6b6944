"""Layers chosen by name, glob, module or class."""

import pytest
from torch import nn

from fadiag.errors import InputError
from fadiag.rules import FeedbackLayer, FeedbackLinear, convert


def converted(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, FeedbackLayer)]


def nested() -> nn.ModuleDict:
    return nn.ModuleDict(
        {"body": nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3)), "head": nn.Linear(4, 3)}
    )


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("head", ["head"]),
        (["head", "body.0"], ["body.0", "head"]),
        ("body.*", ["body.0", "body.2"]),
        (nn.Conv2d, ["body.0", "body.2"]),
        ([nn.Linear, "body.2"], ["body.2", "head"]),
        ("*", ["body.0", "body.2", "head"]),
    ],
    ids=str,
)
def test_layers_takes_names_globs_and_classes(chosen: object, expected: list[str]) -> None:
    assert converted(convert(nested(), layers=chosen)) == expected


def test_layers_takes_modules_of_the_model() -> None:
    model = nested()
    convert(model, layers=[model["head"]])
    assert converted(model) == ["head"]
    root = nn.Linear(3, 2)
    assert type(convert(root, layers="")) is FeedbackLinear


def test_layers_that_cannot_be_converted_are_refused() -> None:
    for chosen, match in (
        ("heat", r"unknown layer 'heat'; similar names are 'head'"),
        ("xyz", r"unknown layer 'xyz'; there are 'body.0', 'body.2', 'head'"),
        (nn.Conv1d, r"unknown layer Conv1d; there are|unknown layer Conv1d; similar names are"),
        ("body.1", r"layer 'body.1' is a ReLU, which convert cannot take; it takes nn.Linear, nn.Conv1d"),
        ([], r"layers is empty, so no layer is chosen; name layers or leave it out"),
        ([3], r"layers holds 3, a int; give names, globs, modules or their classes"),
        (nn.Linear(1, 1), r"layers holds a Linear that is no module of the model"),
    ):
        model = nested()
        with pytest.raises(InputError, match=match):
            convert(model, layers=chosen)
        assert not converted(model)
    model = convert(nested(), layers="head")
    with pytest.raises(
        InputError, match=r"'head' is a FeedbackLinear, so it was converted before; build a fresh"
    ):
        convert(model, layers="head")
