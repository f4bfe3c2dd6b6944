"""Test that the adapter check accepts correct adapters and refuses those with no effect or wrong shapes."""

import contextlib
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import DEFAULT_ADAPTERS, LayerAdapter, Probe, Recorder, exact_layers
from fadiag.capture.layers.adapter import adapter_of
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run
from fadiag.testing import check_adapter
from tests.capture.toy import Bent, labelled, loss_of

X, Y = labelled(16)
UNGATED = ["error", "error_bp", "gradient", "gradient_bp"]


class Home(nn.Module):
    """Feedback by an autograd function."""

    def __init__(self, taken, given):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(given, taken) / taken**0.5)
        self.B = torch.randn(given, taken) / taken**0.5
        self.shift = nn.Parameter(torch.zeros(given))

    def forward(self, x):
        return Bent.apply(x, self.weight, self.B) + self.shift


class Hooked(nn.Module):
    """Case 05: feedback by the module's backward hook."""

    def __init__(self, taken, given):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(given, taken) / taken**0.5)
        self.B = torch.randn(given, taken) / taken**0.5
        self.register_full_backward_hook(lambda m, gi, go: (go[0] @ m.B,) if gi[0] is not None else None)

    def forward(self, x):
        return functional.linear(x, self.weight)


@contextlib.contextmanager
def put(module, matrix):
    kept, module.B = module.B, matrix
    try:
        yield
    finally:
        module.B = kept


def adapter(kind=Home, **changes):
    right = LayerAdapter((kind,), lambda m: m.weight, lambda m: m.B, "layerwise", put)
    return replace(right, **changes)


@contextlib.contextmanager
def elsewhere(module, matrix):
    module.feedback = matrix
    yield


@contextlib.contextmanager
def stays(module, matrix):
    module.B = matrix
    yield


@contextlib.contextmanager
def transposed(module, matrix):
    with put(module, matrix.T.contiguous()):
        yield


def network(kind):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), kind(8, 8), nn.Tanh(), kind(8, 3))


def record(model, path, adapters, *, check="raise", **probe):
    probes = {"p": Probe((X, Y), loss_of, **{"signals": UNGATED, **probe})}
    with Recorder(model, path, probes=probes, state=(), adapters=adapters, check=check):
        pass
    return open_run(path)


@pytest.mark.parametrize("kind", [Home, Hooked])
def test_a_right_adapter_passes(kind, tmp_path):
    check_adapter(adapter(kind), kind(8, 3), X[:, :4].repeat(1, 2))
    run = record(network(kind), tmp_path / "run.zarr", [adapter(kind)])
    assert [run[f"p/{name}"].attrs["error_bp_check"] for name in "024"] == ["passed"] * 3
    assert not (run["p/0/error"].values == run["p/0/error_bp"].values).all()


@pytest.mark.parametrize(
    ("using", "match"),
    [
        (elsewhere, r"using\(module, matrix\) has no effect"),
        (stays, r"using\(module, matrix\) is not undone"),
    ],
)
@pytest.mark.parametrize("kind", [Home, Hooked])
def test_using_that_has_no_effect_or_one_that_stays_is_refused(kind, using, match, tmp_path):
    wrong = adapter(kind, using=using)
    with pytest.raises(CaptureError, match=f"the module is a {kind.__name__} whose adapter's {match}"):
        check_adapter(wrong, kind(8, 3), torch.randn(4, 8))
    # At attach it is tried on every layer, whether error_bp would show it or not: here it is not even asked.
    for probe in ({}, {"signals": ["error"], "redraws": 1}):
        with pytest.raises(CaptureError, match=rf"probe 'p': layer '[24]' is a {kind.__name__} .*{match}"):
            record(network(kind), tmp_path / "run.zarr", [wrong], **probe)
    assert not (tmp_path / "run.zarr").exists()


def test_warn_says_that_an_adapter_has_no_effect_and_goes_on(tmp_path):
    with pytest.warns(CaptureWarning) as told:
        run = record(network(Home), tmp_path / "run.zarr", [adapter(using=elsewhere)], check="warn")
    assert any("has no effect" in str(w.message) for w in told)
    assert run["p/0"].attrs["feedback_kind"] == "unknown"
    assert "error_bp" not in run["p/0"]


def test_using_that_gives_the_wrong_gradient_is_refused():
    with pytest.raises(CaptureError, match=r"gradient at the input with using\(.*is the matrix transposed"):
        check_adapter(adapter(using=transposed), Home(8, 8), torch.randn(4, 8))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"weight": lambda m: None},
            r"adapter's weight\(module\) returns a NoneType; let it return a tensor$",
        ),
        ({"weight": lambda m: "weight"}, r"adapter's weight\(module\) returns a str"),
        ({"feedback": lambda m: [m.B]}, r"adapter's feedback\(module\) returns a list.* tensor or None"),
        (
            {"feedback": lambda m: m.B.T},
            r"says 'layerwise', and its feedback is \(8, 3\) where.* is \(3, 8\)",
        ),
        ({"feedback": lambda m: None}, r"says 'layerwise', and its feedback is None"),
        ({"feedback_kind": "exact"}, r"says 'exact' and gives a feedback"),
        ({"bias": lambda m: 0.0}, r"adapter's bias\(module\) returns a float"),
        ({"bias": lambda m: torch.zeros(8)}, r"has 3 outputs .* and its bias 8"),
        ({"redraw": lambda m, g: m.B.T}, r"redraw gives \(8, 3\) where the weight is \(3, 8\)"),
        ({"types": (Hooked,)}, r"the adapter does not take a Home"),
    ],
)
def test_what_does_not_fit_is_refused(changes, match):
    with pytest.raises(InputError, match=match):
        check_adapter(adapter(**changes), Home(8, 3), torch.randn(4, 8))


def test_a_kind_that_there_is_not_is_refused_when_the_adapter_is_made():
    with pytest.raises(InputError, match="feedback_kind 'layerwse'; it is one of layerwise, direct, exact"):
        adapter(feedback_kind="layerwse")


def test_the_bias_is_where_the_adapter_says(tmp_path):
    model = network(Home)
    nn.init.ones_(model[2].shift)
    adapters = [adapter(bias=lambda m: m.shift)]
    with Recorder(model, tmp_path / "run.zarr", adapters=adapters, state=["bias"]):
        pass
    run = open_run(tmp_path / "run.zarr")
    assert (run["state/2/bias"].values == 1).all()
    assert run["static/2/bias_init"].shape == (8,)


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "frsf", "brsf"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(8, 3), (4, 8)),
        (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 9)),
        (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 7, 7)),
        (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
        (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    ],
)
def test_the_default_adapters_are_right(layer, shape, rule):
    torch.manual_seed(0)
    model = nn.Sequential(layer())
    if rule != "bp" and isinstance(model[0], (nn.Linear, nn.Conv1d, nn.Conv2d)):
        convert(model, rule=rule)
    check_adapter(adapter_of(model[0], DEFAULT_ADAPTERS), model[0], torch.randn(shape))


@pytest.mark.parametrize("rule", ["fa", "usf", "brsf", "frsf"])
@pytest.mark.parametrize("kind", ["Linear", "Conv2d"])
def test_the_adapter_of_biotorch_is_right(kind, rule):
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")
    torch.manual_seed(0)
    sizes, shape = ((8, 3), (4, 8)) if kind == "Linear" else ((2, 4, 3), (2, 2, 6, 6))
    module = getattr(constructor, kind)(*sizes, layer_config={"type": rule})
    check_adapter(adapter_of(module, DEFAULT_ADAPTERS), module, torch.randn(shape))


def test_without_an_input_that_has_a_gradient_nothing_can_be_tried():
    with pytest.raises(InputError, match="inputs hold no float tensor"):
        check_adapter(
            exact_layers(nn.Embedding, weight_dims=("in", "out")), nn.Embedding(5, 3), torch.tensor([1])
        )


@pytest.mark.parametrize("kind", [Home, Hooked])
def test_a_matrix_given_by_feedbacks_is_used(kind, tmp_path):
    model = network(kind)
    same = {"same": {"4": model[4].B}, "other": {"4": -model[4].B}}
    run = record(model, tmp_path / "run.zarr", [adapter(kind)], feedbacks=same)
    error = run["p/2/error"].values
    assert (run["p/2/error_same"].values == error).all()
    assert (run["p/2/error_other"].values == -error).all()
    assert abs(run["p/2/error_bp"].values - error).max() > 1e-4
    # Layers that are not named keep the feedback that they have.
    assert (run["p/0/error_same"].values == run["p/0/error"].values).all()


def test_a_matrix_given_to_a_layer_that_does_not_use_it_is_refused_by_name(tmp_path):
    exact = replace(adapter(), feedback=lambda m: None, feedback_kind="exact", using=elsewhere)
    model = network(Home)
    for layer in (model[2], model[4]):
        layer.B = layer.weight  # so that the pass is exact
    feedbacks = {"b": {"4": torch.zeros(3, 8)}}
    with pytest.raises(CaptureError, match=r"layer '4' is a Home whose adapter's using.* has no effect"):
        record(model, tmp_path / "run.zarr", [exact], signals=["error"], feedbacks=feedbacks)
    record(model, tmp_path / "run.zarr", [exact])


def test_a_first_layer_whose_input_needs_no_gradient_is_not_tried(tmp_path):
    class First(Home):
        def forward(self, x):
            return functional.linear(x, self.weight)

    torch.manual_seed(0)
    model = nn.Sequential(First(6, 8), nn.Tanh(), nn.Linear(8, 3))
    run = record(model, tmp_path / "run.zarr", [adapter(First)])
    assert run["p/0"].attrs["error_bp_check"] == "passed"
