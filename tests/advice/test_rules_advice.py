"""The advice of fadiag.rules."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from fadiag.rules import convert, targets
from tests.advice.advice import Table

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def fresh():
    torch.manual_seed(0)  # with other weights all gates may be closed
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


# Direct rules, and the matrices that convert draws or takes.

X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def direct(rule="dfa", model=None, x=X, **options):
    return convert(fresh() if model is None else model, rule, example=x, **options)


def trained(model, x=X, y=Y):
    nn.functional.cross_entropy(model(x), y).backward()
    assert float(model[0].weight.grad.abs().sum()) > 0


def trained_by_targets(model, y=Y, scale=None):
    with targets(model, y, scale):
        trained(model)


ADVICE.row(
    "give example=x",
    lambda at: convert(fresh(), "dfa"),
    lambda at: convert(fresh(), "dfa", example=X),
)


@ADVICE.story("give convert an example of the size that you train with")
def _(at, provoked):
    def built(positions):
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d((1, 3)), nn.Flatten())
        return direct(model=model.append(nn.Linear(3, 2)), x=torch.randn(6, positions, 4))

    with provoked():
        trained(built(2), torch.randn(6, 5, 4))
    trained(built(5), torch.randn(6, 5, 4))


@ADVICE.story("call the model inside `with fadiag.rules.targets(model, y):`")
def _(at, provoked):
    model = direct("drtp")
    with provoked():
        trained(model)
    trained_by_targets(model)


ADVICE.row(
    "give targets() the targets of this batch",
    lambda at: trained_by_targets(direct("drtp"), Y[:3]),
    lambda at: trained_by_targets(direct("drtp")),
)
ADVICE.row(
    "convert it with rule='drtp'",
    lambda at: trained_by_targets(fresh()),
    lambda at: trained_by_targets(direct("drtp")),
)
ADVICE.row(
    "give a finite number, or leave it out for -1/N",
    lambda at: trained_by_targets(direct("drtp"), scale=float("inf")),
    lambda at: trained_by_targets(direct("drtp"), scale=0.1),
    lambda at: trained_by_targets(direct("drtp")),
)
ADVICE.row(
    "give class indices (N,), or targets (N, {outputs})",
    lambda at: trained_by_targets(direct("drtp"), torch.ones(6, 3)),
    lambda at: trained_by_targets(direct("drtp"), Y),
    lambda at: trained_by_targets(direct("drtp"), torch.eye(2)[Y]),
)
ADVICE.row(
    "give indices from 0 to {outputs - 1}",
    lambda at: trained_by_targets(direct("drtp"), Y + 1),
    lambda at: trained_by_targets(direct("drtp"), Y),
)


class Tied(nn.Module):
    """One layer is called twice, and one is called with a flag only."""

    def __init__(self):
        super().__init__()
        self.below, self.twice, self.spare = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x, spare=False):
        h = self.below(x)
        h = self.spare(h) if spare else self.twice(torch.tanh(self.twice(h)))
        return self.out(h)


ADVICE.row(
    "leave it out by layers=[...]",
    lambda at: direct(model=Tied(), layers=["below", "twice", "out"]),
    lambda at: direct(model=Tied(), layers=["below", "out"]),
)
ADVICE.row(
    "or give an example that uses it",
    lambda at: direct(model=Tied(), layers=["below", "spare", "out"]),
    lambda at: direct(model=Tied(), layers=["below", "out"]),
    lambda at: direct(model=Tied(), layers=["below", "spare", "out"], x=(X, True)),
)
ADVICE.row(
    "give a model that pools or flattens before its last layer",
    lambda at: direct(model=nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), x=torch.ones(6, 5, 4)),
    lambda at: direct(
        model=nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(15, 2)), x=torch.ones(6, 5, 4)
    ),
)
ADVICE.row(
    "add the output layer to layers=[...]",
    lambda at: direct(layers=["0"]),
    lambda at: direct(layers=["0", "2"]),
)


class Positions(nn.Module):
    """A layer reads positions as if they were samples."""

    def __init__(self):
        super().__init__()
        self.each, self.out = nn.Linear(2, 3), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.each(x.reshape(-1, 2)).reshape(len(x), -1))


ADVICE.row(
    "samples of the outputs; leave it out by layers=[...]",
    lambda at: direct(model=Positions()),
    lambda at: direct(model=Positions(), layers=["out"]),
)


@ADVICE.story("call the whole model, ")
def _(at, provoked):
    def of(model, x):
        model(x.requires_grad_()).sum().backward()

    model = direct()
    with provoked():
        of(model[:2], X.clone())
    of(model, X.clone())


@ADVICE.story("compute the loss from its outputs, and checkpoint with use_reentrant=False")
def _(at, provoked):
    model = direct()
    for reentrant in (True, False):
        hidden = checkpoint(model[:2], X.clone().requires_grad_(), use_reentrant=reentrant)
        loss = model[2](hidden).sum()
        if reentrant:
            with provoked():
                loss.backward()
        else:
            loss.backward()


ADVICE.row(
    "give a positive, finite number",
    lambda at: convert(fresh(), scale=0),
    lambda at: convert(fresh(), scale=2),
)
GIVEN = {"0": torch.ones(3, 4), "2": torch.ones(2, 3)}
ADVICE.row(
    "leave feedback= out",
    lambda at: convert(fresh(), "usf", feedback=GIVEN),
    lambda at: convert(fresh(), "usf"),
)
ADVICE.row(
    "multiply the matrices, and leave scale= out",
    lambda at: convert(fresh(), feedback=GIVEN, scale=2),
    lambda at: convert(fresh(), feedback={name: 2 * matrix for name, matrix in GIVEN.items()}),
)
ADVICE.row(
    "give one matrix for each converted layer",
    lambda at: convert(fresh(), feedback={"0": GIVEN["0"], "fc": GIVEN["2"]}),
    lambda at: convert(fresh(), feedback=GIVEN),
)
ADVICE.row(
    "; give {weight.dtype} of shape {tuple(shape)}",
    lambda at: convert(fresh(), feedback={**GIVEN, "0": GIVEN["0"].double()}),
    lambda at: convert(fresh(), feedback=GIVEN),
)
ADVICE.row(
    "is not finite; give finite numbers",
    lambda at: convert(fresh(), feedback={**GIVEN, "0": GIVEN["0"] / 0}),
    lambda at: convert(fresh(), feedback=GIVEN),
)


# Interventions.


def limited(**options):
    return convert(fresh(), "rank_limited", **{"example": X, **options})


def borrowing(model=None, twin=None, **options):
    model = fresh() if model is None else model
    return convert(model, "borrowed_gates", twin=convert(fresh()) if twin is None else twin, **options)


ADVICE.row(
    "give the number of directions, 1 or more",
    lambda at: limited(rank=0),
    lambda at: limited(rank=1),
)
ADVICE.row(
    ", and the rule is {rule}; leave it out",
    lambda at: convert(fresh(), rank=2),
    lambda at: convert(fresh()),
    lambda at: limited(rank=2),
)
ADVICE.row(
    "give the network whose gates are used",
    lambda at: convert(fresh(), "borrowed_gates"),
    lambda at: borrowing(),
)
ADVICE.row(
    "leave layers= out",
    lambda at: borrowing(layers=["1"]),
    lambda at: borrowing(),
)
ADVICE.row(
    "give a twin of the same architecture",
    lambda at: borrowing(twin=nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))),
    lambda at: borrowing(),
)


def bent(gate):
    return nn.Sequential(nn.Linear(4, 3), gate, nn.Linear(3, 2))


ADVICE.row(
    "whose derivative cannot be borrowed; take one of {known}",
    lambda at: borrowing(bent(nn.Mish())),
    lambda at: borrowing(bent(nn.SiLU()), bent(nn.SiLU())),
)
ONE = fresh()
ADVICE.row(
    "give a twin with modules of its own",
    lambda at: borrowing(ONE, ONE),
    lambda at: borrowing(fresh(), fresh()),
)
ADVICE.row(
    "; converted are {_quoted(converted)}; build a fresh model",
    lambda at: borrowing(convert(fresh())),
    lambda at: borrowing(fresh()),
)


class Functions(nn.Module):
    """A network with an activation function and no module for it."""

    def __init__(self):
        super().__init__()
        self.below, self.above = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.above(torch.relu(self.below(x)))


ADVICE.row(
    "build it with modules, because ",
    lambda at: borrowing(Functions(), Functions()),
    lambda at: borrowing(fresh()),
)


@ADVICE.story("call the twin on the same batch before each pass of the model")
def _(at, provoked):
    twin = convert(fresh())
    model = borrowing(twin=twin)
    with provoked():
        trained(model)
    twin(X)
    trained(model)


@ADVICE.story("before each pass of the model")
def _(at, provoked):
    twin = convert(fresh())
    model = borrowing(twin=twin)
    twin(X[:3])
    with provoked():
        trained(model)
    twin(X)
    trained(model)


@ADVICE.story("leave out the checkpointing")
def _(at, provoked):
    twin = convert(fresh())
    model = borrowing(twin=twin)
    twin(X)
    with provoked():
        checkpoint(model, X.clone().requires_grad_(), use_reentrant=False).sum().backward()
    twin(X)
    trained(model)
