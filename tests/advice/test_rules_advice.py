"""The advice of fadiag.rules."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fadiag.rules import convert
from tests.advice.advice import Table

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def fresh():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


class Own(nn.Module):
    """A module with a matrix of its own and a known layer below it."""

    def __init__(self, own):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.matrix = nn.Parameter(torch.randn(4, own))

    def forward(self, x):
        return self.fc(x) @ self.matrix


def lazy():
    return nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2))


def is_fed(model):
    return [name for name, module in model.named_modules() if hasattr(module, "feedback")]


ADVICE.row(
    "build a fresh model for rule {rule}",
    lambda at: convert(convert(fresh()), rule="bp"),
    lambda at: convert(fresh(), rule="bp"),
)
ADVICE.row(
    "with every layer frozen nothing would learn; name those to freeze",
    lambda at: convert(fresh(), "frozen"),
    lambda at: convert(fresh(), "frozen", layers=["0"]),
)


@ADVICE.story("remove {maker}, or leave the layer out by layers=")
def _(at, provoked):
    def normed():
        model = fresh()
        parametrizations.weight_norm(model[0])
        return model

    with provoked():
        convert(normed(), "kp")
    convert(normed(), "kp", layers=["2"])
    model = normed()
    nn.utils.parametrize.remove_parametrizations(model[0], "weight")
    convert(model, "kp")


ADVICE.row(
    "already converted are {_quoted(converted)}; build a fresh model",
    lambda at: convert(convert(fresh())),
    lambda at: convert(fresh()),
)
ADVICE.row(
    "so it was converted before; build a fresh model",
    lambda at: convert(convert(fresh()), layers=["0"]),
    lambda at: convert(fresh(), layers=["0"]),
)


def _initialized():
    model = lazy()
    model(torch.randn(2, 4))
    return model


@ADVICE.story("has no weights yet; run one batch or initialize it before converting")
def _(at, provoked):
    with torch.device("meta"):
        model = fresh()
    with provoked():
        convert(model)
    model = model.to_empty(device="cpu")
    for layer in (model[0], model[2]):
        layer.reset_parameters()
    assert len(is_fed(convert(model))) == 2


@pytest.mark.filterwarnings("ignore:Lazy modules")
@ADVICE.story("or name the layers to convert by layers=[...]")
def _(at, provoked):
    with provoked():
        convert(lazy())
    assert is_fed(convert(_initialized())) == ["0", "1"]
    assert is_fed(convert(lazy(), layers=["0"])) == ["0"]


@ADVICE.story("initialize the weights before converting")
def _(at, provoked):
    model = fresh()
    nn.init.zeros_(model[2].weight)
    with provoked():
        convert(model)
    nn.init.orthogonal_(model[2].weight)
    convert(model)


def _by_module(model):
    convert(model, layers=[model[0]])


ADVICE.row(
    "give names, globs, modules or their classes",
    lambda at: convert(fresh(), layers=[0]),
    lambda at: convert(fresh(), layers=["0"]),
    lambda at: convert(fresh(), layers=["*"]),
    lambda at: _by_module(fresh()),
    lambda at: convert(fresh(), layers=[nn.Linear]),
)
ADVICE.row(
    "name layers or leave it out",
    lambda at: convert(fresh(), layers=[]),
    lambda at: convert(fresh(), layers=["0"]),
    lambda at: convert(fresh()),
)
ADVICE.row(
    "that is no module of the model; give its own",
    lambda at: convert(fresh(), layers=[fresh()[0]]),
    lambda at: _by_module(fresh()),
)
for own in (2, 9):  # a part of the model, and most of it
    ADVICE.row(
        'name the layers to convert by layers=[...], or give layers="*" for all that it can take',
        lambda at, own=own: convert(Own(own)),
        lambda at, own=own: convert(Own(own), layers=["fc"]),
        lambda at, own=own: convert(Own(own), layers="*"),
    )
