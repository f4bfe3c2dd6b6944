"""The advice of fadiag.capture on models: layers, adapters, gates, feedback."""

import dataclasses
import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from fadiag.capture import (
    LayerAdapter,
    direct_hooks,
    direct_identity,
    direct_layers,
    exact_layers,
    is_out_of_band,
    record_arrays,
)
from fadiag.rules import convert
from fadiag.store import open_run
from fadiag.testing import check_adapter
from tests.advice.advice import Table
from tests.advice.nets import (
    Halved,
    Own,
    X,
    Y,
    attach,
    fed,
    mine,
    net,
    own_using,
    probes,
    straight,
)
from tests.capture.layers.test_direct import DFALinear, Hook, Net, Tied
from tests.capture.toy import Bent

ADVICE = Table()
ADAPTER = LayerAdapter((Own,), lambda m: m.weight, lambda m: m.back, "layerwise", own_using)


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:.*torch.jit.script", "ignore:.*quantization")
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


class Named(nn.Module):
    """A layer whose weight has another name."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(outputs, inputs) / 3)

    def forward(self, x):
        return functional.linear(x, self.kernel)


NAMED = dataclasses.replace(exact_layers(Named), weight=lambda m: m.kernel)


# Which layers.

ADVICE.row("give an nn.Module", lambda at: attach(at, lambda x: x), lambda at: attach(at, fed()))


@ADVICE.story("give the module that was scripted, and script it after the training")
def _(at, provoked):
    model = net()
    with provoked():
        attach(at, torch.jit.script(model))
    attach(at, model)
    torch.jit.script(model)


ADVICE.row(
    "for which there is no adapter; give adapters=(LayerAdapter(...),)",
    lambda at: attach(at, mine(), layers=["2"]),
    lambda at: attach(at, mine(), layers=["2"], adapters=(ADAPTER,), probes=probes()),
)
ADVICE.row(
    "give adapters=(LayerAdapter(...),) for yours",
    lambda at: attach(at, Own(6, 3)),
    lambda at: attach(at, Own(6, 3), adapters=(ADAPTER,), probes=probes()),
)


class Whole(nn.Sequential):
    """A network whose forward pass uses the weights and never calls the layers."""

    def forward(self, x):
        hidden = torch.tanh(Bent.apply(x, self[0].weight, self[0].weight))
        return Bent.apply(hidden, self[2].weight, self[2].weight)


@ADVICE.story("call the layers, or record the arrays of your own backward pass by fadiag.record_arrays")
def _(at, provoked):
    model = Whole(*net())
    with provoked():
        attach(at, model, probes=probes())
    attach(at, net(), probes=probes())
    with record_arrays(at / "arrays.zarr", layers=["0", "2"]) as record:
        record(0, {"2": {"error": torch.ones(4, 3), "weight": model[2].weight}})


class HookedNet(nn.Sequential):
    """A hook on a gate, or on the consumer behind it, sends the error times F."""

    def __init__(self, hooked):
        super().__init__(*net())
        top, module = {}, self[hooked]
        module.F = torch.randn(3, 8)
        self[2].register_full_backward_pre_hook(lambda m, got: top.update(error=got[0]))
        # A gate's hook returns the credit after the gate; the mask does not matter here.
        module.register_full_backward_hook(lambda m, given, got: (top["error"] @ m.F,))


@ADVICE.story("Put the hook on the consumer, the layer that reads the gate's output, and let it return the")
def _(at, provoked):
    with provoked():
        attach(at, HookedNet(1), probes=probes(), adapters=(direct_hooks(nn.Tanh, feedback="F"),))
    (at / "right").mkdir()
    adapters = (direct_hooks(nn.Linear, feedback="F"),)
    attach(at / "right", HookedNet(2), probes=probes(), adapters=adapters)
    assert "modulator" in open_run(at / "right/run.zarr")["probe/0"]


for _way in (
    "give adapters=(direct_hooks(...),) or a LayerAdapter for it",
    "or leave redraws out where they only read",
):

    @ADVICE.story(_way)
    def _(at, provoked):
        with provoked():
            attach(at, HookedNet(2), probes=probes(redraws=2))
        (at / "right").mkdir()
        adapters = (direct_hooks(nn.Linear, feedback="F"),)
        attach(at / "right", HookedNet(2), probes=probes(redraws=2), adapters=adapters)
        assert "error_null_cosine" in open_run(at / "right/run.zarr")["probe/0"]
        (at / "without").mkdir()
        attach(at / "without", HookedNet(2), probes=probes())


for _way in (
    "Give adapters=(exact_layers(...),) or your own LayerAdapter to record them",
    "or your own LayerAdapter to record them",
    "or layers=[...] to leave them out",
):
    ADVICE.row(
        _way,
        lambda at: attach(at, mine(middle=Named)),
        lambda at: attach(at, mine(middle=Named), adapters=(NAMED,), probes=probes()),
        lambda at: attach(at, mine(), adapters=(ADAPTER,), probes=probes()),
        lambda at: attach(at, mine(middle=Named), layers=["0", "4"], probes=probes()),
    )


ADVICE.row(
    "has no tensor named weight; give its adapter a weight=",
    lambda at: attach(at, Named(6, 3), adapters=(exact_layers(Named),)),
    lambda at: attach(at, Named(6, 3), adapters=(NAMED,), probes=probes()),
)


@ADVICE.story("so its feedback is not known; give adapters=(exact_layers({kind}),)")
def _(at, provoked):
    model = nn.Sequential(Halved(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with provoked():
        attach(at, model)
    for i, options in enumerate(({"adapters": (exact_layers(Halved),)}, {"layers": ["2"]})):
        (at / str(i)).mkdir()
        attach(at / str(i), model, probes=probes(), **options)


@ADVICE.story("where its backward pass is autograd's, a LayerAdapter where it is not, or leave it out")
def _(at, provoked):
    """A layer of quantization-aware training has the name of torch's own."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of quantization
        model = torch.ao.quantization.prepare_qat(model)
    with provoked() as heard:
        attach(at, model)
    kind = torch.ao.nn.qat.Linear
    assert f"adapters=(exact_layers({kind.__module__}.Linear),)" in "".join(heard)
    attach(at, model, adapters=(exact_layers(kind),))


ADVICE.row(
    "only real weights can be recorded; leave the layer out by layers=[...]",
    lambda at: attach(at, Complex(), probes=probes()),
    lambda at: attach(at, Complex(), probes=probes(), layers=["b"]),
)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5, dtype=torch.complex64), nn.Linear(5, 3)

    def forward(self, x):
        return self.b(self.a(x.to(torch.complex64)).abs())


@ADVICE.story("has no weight yet; run one batch through the model before it is recorded")
def _(at, provoked):
    model = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 3))
    with provoked():
        attach(at, model)
    model(X)
    attach(at, model, probes=probes())


@ADVICE.story("move the model by to_empty() and load its state before it is recorded")
def _(at, provoked):
    with torch.device("meta"):
        model = net()
    with provoked():
        attach(at, model)
    model = model.to_empty(device="cpu")
    model.load_state_dict(net().state_dict())
    attach(at, model, probes=probes())


@ADVICE.story("use torch.nn.utils.parametrize, or leave the layer out by layers=[...]")
def _(at, provoked):
    model = net()
    own = model[0].weight
    del model[0].weight
    model[0].scale = nn.Parameter(own.detach().norm())
    model[0].weight = own.detach() / own.detach().norm() * model[0].scale
    with provoked():
        attach(at, model)
    attach(at, model, layers=["2"])
    model = net()
    parametrizations.weight_norm(model[0])
    (at / "parametrized").mkdir()
    attach(at / "parametrized", model, probes=probes())


def _transposed():
    return nn.Sequential(nn.ConvTranspose1d(3, 5, 3), nn.Flatten(), nn.Linear(30, 3))


_IMAGES = (torch.randn(8, 3, 4), Y[:8])
ADVICE.row(
    "is it stored transposed? Then give exact_layers({kind}, weight_dims={dims[::-1]})",
    lambda at: attach(at, _transposed(), adapters=(exact_layers(nn.ConvTranspose1d),)),
    lambda at: attach(
        at,
        _transposed(),
        adapters=(exact_layers(nn.ConvTranspose1d, weight_dims=("in", "out")),),
        probes=probes(_IMAGES),
    ),
)


class Attending(nn.Module):
    def __init__(self, *, plain=False):
        super().__init__()
        self.value = nn.Linear(6, 6)
        self.attention = nn.Linear(6, 6) if plain else nn.MultiheadAttention(6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        v = self.value(x)
        if isinstance(self.attention, nn.Linear):
            return self.head(self.attention(torch.softmax(v @ v.T, -1) @ v))
        return self.head(self.attention(v, v, v)[0])


ADVICE.row(
    "build the attention of nn.Linear modules, or leave it out by layers=[...]",
    lambda at: attach(at, Attending()),
    lambda at: attach(at, Attending(plain=True), probes=probes()),
    lambda at: attach(at, Attending(), layers=["value", "head"], probes=probes()),
)


class Skipping(nn.Module):
    """A model with a layer that it calls only where it is said so."""

    def __init__(self, *, uses=False, detaches=False):
        super().__init__()
        self.fc, self.aux, self.uses, self.detaches = nn.Linear(6, 3), nn.Linear(6, 3), uses, detaches

    def forward(self, x):
        if not self.uses:
            return self.fc(x)
        side = self.aux(x)
        return self.fc(x) + (side.detach() if self.detaches else side)


ADVICE.row(
    "leave it out of layers=[...], or give a model and a loss that use it",
    lambda at: attach(at, Skipping(), layers=["fc", "aux"], probes=probes()),
    lambda at: attach(at, Skipping(), layers=["fc"], probes=probes()),
    lambda at: attach(at, Skipping(uses=True), layers=["fc", "aux"], probes=probes()),
)
ADVICE.row(
    "Name the layers to record in layers=[...]",
    lambda at: attach(at, Skipping(uses=True, detaches=True), probes=probes()),
    lambda at: attach(at, Skipping(uses=True, detaches=True), layers=["fc"], probes=probes()),
)


@ADVICE.story("train the recorded model with DistributedDataParallel or in one process")
def _(at, provoked):
    model = net()
    model[0].weight.ds_id = 0  # what DeepSpeed's ZeRO-3 marks its parameters with
    with provoked():
        attach(at, model)
    attach(at, net(), probes=probes())


@ADVICE.story("so that the optimizer's has no gradient; turn it off")
def _(at, provoked):
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")

    def layer(constrain):
        options = {"constrain_weights": constrain, "gradient_clip": False, "init": "xavier"}
        return nn.Sequential(constructor.Linear(6, 3, layer_config={"type": "fa", "options": options}))

    with provoked():
        attach(at, layer(True))
    attach(at, layer(False), probes=probes())


# Adapters.


def _adapter(**changes):
    return dataclasses.replace(ADAPTER, **changes)


def _own_model():
    torch.manual_seed(0)
    return nn.Sequential(Own(6, 8), nn.Tanh(), Own(8, 3))


def _checked(**changes):
    check_adapter(_adapter(**changes), _own_model()[2], torch.randn(4, 8))


@contextmanager
def _without_effect(module, matrix):
    module.other = matrix
    yield


@contextmanager
def _not_undone(module, matrix):
    module.back = matrix
    yield


ADVICE.row(
    "let it put the matrix where the module's backward pass reads it",
    lambda at: _checked(using=_without_effect),
    lambda at: _checked(using=own_using),
)
ADVICE.row(
    "let it restore what was there, in a finally",
    lambda at: _checked(using=_not_undone),
    lambda at: _checked(using=own_using),
)
ADVICE.row(
    "let it return a tensor{'' if name == 'weight' else ' or None'}",
    lambda at: _checked(weight=lambda m: m.weight.tolist()),
    lambda at: _checked(weight=lambda m: m.weight),
)
ADVICE.row(
    "let feedback(module) return None, or say feedback_kind='layerwise'",
    lambda at: _checked(feedback_kind="exact"),
    lambda at: _checked(feedback_kind="layerwise"),
    lambda at: check_adapter(exact_layers(nn.Linear), nn.Linear(6, 3), X),
)
ADVICE.row(
    "has no exact=; give a context, exact(module)",
    lambda at: _adapter(feedback_kind="direct"),
    lambda at: _adapter(feedback_kind="direct", exact=lambda m: own_using(m, m.weight)),
)
ADVICE.row(
    "give weight=lambda m: m.weight",
    lambda at: _adapter(weight=None),
    lambda at: _checked(weight=lambda m: m.weight),
)


@contextmanager
def _halved_using(module, matrix):
    module.forward = lambda x: (straight(x, module.weight, matrix) + module.bias) / 2
    try:
        yield
    finally:
        del module.forward


def _halved(at, adapter, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Halved(6, 3))
    attach(at, model, adapters=(adapter,), probes=probes(**options))


_OTHER = {"b": {"2": torch.ones(3, 6)}}
ADVICE.row(
    "leave it out of feedbacks, or give an adapter with using=",
    lambda at: _halved(at, exact_layers(Halved), feedbacks=_OTHER),
    lambda at: _halved(at, exact_layers(Halved), feedbacks={"b": {"0": torch.ones(6, 6)}}),
    lambda at: _halved(at, dataclasses.replace(exact_layers(Halved), using=_halved_using), feedbacks=_OTHER),
)


# error_bp that is wrong.


class Product(nn.Module):
    """A module of somebody's rule whose matrix has no layer that the recorder knows."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight, self.back = (nn.Parameter(torch.randn(outputs, inputs) / 3) for _ in range(2))

    def forward(self, x):
        return Bent.apply(x, self.weight, self.back)


@contextmanager
def _product_using(module, matrix):
    module.forward = lambda x: Bent.apply(x, module.weight, matrix)
    try:
        yield
    finally:
        del module.forward


_PRODUCT = dataclasses.replace(ADAPTER, types=(Product,), using=_product_using)


@ADVICE.story(
    "Give adapters=(LayerAdapter(...),) for it, leave the layer out by layers=[...], or give check='warn'"
)
def _(at, provoked):
    def attached(name, **options):
        (at / name).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if "check" in options or name == "wrong" else "error")
            attach(at / name, mine(middle=Product), probes=probes(), **options)
        return open_run(at / name / "run.zarr")["probe"]

    with provoked():
        attached("wrong")
    assert {"0", "2", "4"} <= set(attached("adapter", adapters=(_PRODUCT,)).children)
    assert set(attached("layers", layers=["4"]).children) == {"4"}
    warned = attached("warn", check="warn")
    assert "error_bp" not in warned["0"]
    assert warned["0"].attrs["feedback_kind"] == "unknown"
    assert "error_bp" in attached("off", check="off")["0"]


# Direct feedback.

X64 = X.double()
DIRECT = direct_identity(Hook, feedback="fixed_fb_weights")


def _direct(at, model, adapters=(DIRECT,), **options):
    options = {"probes": probes((X64, Y))} | options
    attach(at, model, adapters=adapters, **options)


ADVICE.row(
    "a pass of a probe shows which layer it credits; give probes={'probe': Probe(batch, loss)}",
    lambda at: _direct(at, Net("identity"), probes=None),
    lambda at: _direct(at, Net("identity")),
)


class Twice(Net):
    """A layer that two modules send direct feedback to."""

    def __init__(self):
        super().__init__("identity")
        self.hook0 = SecondHook(torch.randn(3, 8, dtype=torch.float64), self.error)

    def forward(self, x):
        h = self.hook1(self.hook0(torch.tanh(self.fc1(x))))
        out = self.out(self.hook2(torch.tanh(self.fc2(h))))
        if out.requires_grad:
            out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


class SecondHook(Hook):
    pass


class TurnedHook(Hook):
    """A module that holds F as (consumer's input, outputs)."""

    def __init__(self, feedback, error):
        super().__init__(feedback.T.contiguous(), error)

    def forward(self, x):
        from tests.capture.layers.test_direct import Sent

        return Sent.apply(x, self.fixed_fb_weights.T, self.error)


def _with_turned_hook():
    model = Net("identity")
    model.hook1 = TurnedHook(model.hook1.fixed_fb_weights.detach(), model.error)
    model.hook2 = nn.Identity()
    return model


ADVICE.row(
    "; is it stored transposed? Then give the adapter transposed=True",
    lambda at: _direct(at, _with_turned_hook(), (direct_identity(TurnedHook, feedback="fixed_fb_weights"),)),
    lambda at: _direct(
        at, _with_turned_hook(), (direct_identity(TurnedHook, feedback="fixed_fb_weights", transposed=True),)
    ),
)
ADVICE.row(
    "one matrix is recorded for each layer, so give an adapter for one of them",
    lambda at: _direct(at, Twice()),
    lambda at: _direct(at, Once()),
)


class Once(Twice):
    def __init__(self):
        super().__init__()
        self.hook0 = nn.Identity()


def _both_kinds():
    model = Net("identity")
    convert(model, layers=["fc2"])
    return model


ADVICE.row(
    "one feedback is recorded for each layer, so record them in separate models",
    lambda at: _direct(at, _both_kinds()),
    lambda at: _direct(at, Net("identity")),
    lambda at: attach(at, convert(Net("none"), layers=["fc2"]), probes=probes((X64, Y))),
)


@ADVICE.story("so no gradient is one rule's; untie them")
def _(at, provoked):
    model = Tied().double()
    batch = (torch.zeros(16), Y)
    with provoked():
        _direct(at, model, probes=probes(batch))
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    _direct(at, model, probes=probes(batch))


class Over(Net):
    """A skip connection over a layer with direct feedback."""

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        out = self.out(self.hook2(torch.tanh(self.fc2(self.hook1(h))))) + h[:, :3]
        if out.requires_grad:
            out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


@ADVICE.story(
    "leave the direct adapter out and give check='warn': the error is recorded then, and error_bp is not"
)
def _(at, provoked):
    with provoked():
        _direct(at, Over("identity"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _direct(at, Over("identity"), (), check="warn")
    layer = open_run(at / "run.zarr")["probe/fc1"]
    assert "error" in layer
    assert "error_bp" not in layer


_MODULE = (direct_layers(DFALinear, feedback="back", base=nn.Linear, transposed=True),)
_F = torch.ones(3, 7, dtype=torch.float64)
ADVICE.row(
    "which gets no direct feedback; name the layer whose output it credits",
    lambda at: _direct(at, Net("module"), _MODULE, probes=probes((X64, Y), feedbacks={"b": {"out": _F}})),
    lambda at: _direct(at, Net("module"), _MODULE, probes=probes((X64, Y), feedbacks={"b": {"fc2": _F}})),
)


# Gates.


class Formula(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.5 * x) * torch.tanh(x)


def _gated(at, gate, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), gate, nn.Linear(8, 3))
    signals = options.pop("signals", None)
    probe = probes() if signals is None else probes(signals=signals)
    attach(at, model, probes=probe, **options)
    return open_run(at / "run.zarr")["probe/0"]


def _needs(array, name):
    assert name in array


ADVICE.row(
    "say by Recorder(passes=..., gates=...) which function or module merely passes its input on",
    lambda at: _gated(at, Formula()),
    lambda at: _needs(_gated(at, Formula(), gates=(Formula,)), "activation"),
    lambda at: _needs(_gated(at, Formula(), passes=(Formula,)), "error"),
    lambda at: _needs(_gated(at, nn.SiLU()), "activation"),
    lambda at: _gated(at, Formula(), signals=["error", "error_bp", "gradient"]),
)
ADVICE.row(
    "give a tuple, {option}=",
    lambda at: _gated(at, Formula(), gates=Formula),
    lambda at: _gated(at, Formula(), gates=(Formula,)),
)
ADVICE.row(
    "give autograd functions or their apply, functions, or module classes",
    lambda at: _gated(at, Formula(), gates=(Formula(),)),
    lambda at: _gated(at, Formula(), gates=(Formula,)),
    lambda at: _gated(at, Formula(), gates=(Formula, Bent, Bent.apply, torch.tanh, straight)),
)
ADVICE.row(
    "give the class of the module without layers",
    lambda at: _gated(at, Formula(), gates=(nn.Sequential,)),
    lambda at: _gated(at, Formula(), gates=(Formula,)),
)
ADVICE.row(
    "and the model has no such module; leave it out",
    lambda at: _gated(at, Formula(), gates=(Formula, nn.GELU)),
    lambda at: _gated(at, Formula(), gates=(Formula,)),
)
ADVICE.row(
    "is in passes and in gates; leave it out of one",
    lambda at: _gated(at, Formula(), gates=(Formula,), passes=(Formula,)),
    lambda at: _gated(at, Formula(), gates=(Formula,)),
)


# What passes do.


class Transformed(nn.Module):
    def __init__(self, *, maps):
        super().__init__()
        self.first, self.fc, self.maps = nn.Linear(6, 6), nn.Linear(6, 3), maps

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return torch.vmap(self.fc)(h) if self.maps else self.fc(h)


ADVICE.row(
    "call it on the whole batch outside, or leave it out by layers=[...]",
    lambda at: attach(at, Transformed(maps=True), probes=probes(), layers=["first", "fc"]),
    lambda at: attach(at, Transformed(maps=False), probes=probes(), layers=["first", "fc"]),
    lambda at: attach(at, Transformed(maps=True), probes=probes(), layers=["first"]),
)


class Saving(nn.Module):
    def __init__(self, *, reentrant):
        super().__init__()
        self.body, self.out = nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x):
        return self.out(checkpoint(self.body, x.clone().requires_grad_(), use_reentrant=self.reentrant))


ADVICE.row(
    "checkpoint with use_reentrant=False, or leave the layer out by layers=[...]",
    lambda at: attach(at, Saving(reentrant=True), probes=probes()),
    lambda at: attach(at, Saving(reentrant=False), probes=probes()),
    lambda at: attach(at, Saving(reentrant=True), probes=probes(), layers=["out"]),
)


class Changing(nn.Module):
    def __init__(self, *, changes):
        super().__init__()
        self.fc, self.scale, self.changes = nn.Linear(6, 3), nn.Parameter(torch.ones(())), changes

    def forward(self, x):
        if self.changes:
            with torch.no_grad():
                self.scale.mul_(0.9)
        return self.fc(x) * self.scale


ADVICE.row(
    "do that outside forward(), for example after optimizer.step()",
    lambda at: attach(at, Changing(changes=True), probes=probes()),
    lambda at: attach(at, Changing(changes=False), probes=probes()),
)


@ADVICE.story(
    "let it pass where fadiag.capture.is_out_of_band() is true, or remove it before the model is recorded"
)
def _(at, provoked):
    model = net()

    def strict(module, grad_input, grad_output):
        raise ValueError("no gradient is expected here")

    def kind(module, grad_input, grad_output):
        if not is_out_of_band():
            strict(module, grad_input, grad_output)

    handle = model[2].register_full_backward_hook(strict)
    with provoked():
        attach(at, model, probes=probes())
    handle.remove()
    (at / "none").mkdir()
    attach(at / "none", model, probes=probes())
    model[2].register_full_backward_hook(kind)
    attach(at, model, probes=probes())


@ADVICE.story("give the model a batch (x.unsqueeze(0)), or leave the layer out")
def _(at, provoked):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(0), nn.Linear(6, 3), nn.Unflatten(0, (1, 3)))

    def batched():
        return nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(6, 3))

    x, y = torch.randn(2, 3), torch.tensor([1])
    with provoked():
        attach(at, model(), probes=probes((x, y)))
    (at / "left").mkdir()
    attach(at / "left", model(), probes=probes((x, y)), layers=["2"])
    attach(at, batched(), probes=probes((x.unsqueeze(0), y)))


class Sequence(nn.Module):
    """Tokens of five features; the layer's output is turned before its gate."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.fc(x).transpose(1, 2)).relu().mean((1, 2))


def _turned_signals(at, **options):
    def square(model, x):
        return model(x).square().mean()

    attach(at, Sequence(), probes=probes(torch.randn(4, 5, 6), square, **options), state=())


_CHANNELS = {"reduction": "factor", "unfolding": "channels"}
ADVICE.row(
    "record it with unfolding='samples' or reduction='raw', or leave it out by signals=[...]",
    lambda at: _turned_signals(at, **_CHANNELS),
    lambda at: _turned_signals(at, reduction="factor"),
    lambda at: _turned_signals(at, reduction="raw", unfolding="channels"),
    lambda at: _turned_signals(at, signals=["error", "error_bp"], **_CHANNELS),
)
