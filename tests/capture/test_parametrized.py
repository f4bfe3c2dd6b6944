"""Test that computed weights are recorded with their computed values and are not disturbed."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from fadiag import analyze, convert
from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import choose_layers
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import FeedbackLinear
from fadiag.store import layer_key, open_run
from tests.capture.test_run_unchanged import adam, check_same_bits, run
from tests.capture.toy import labelled, loss_of

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
X, Y = labelled(8, torch.float64)
LAYERS, GATES = (0, 2, 4), (torch.relu, torch.tanh, lambda a: a)


class LowRank(nn.Module):
    """A parametrization with matrices of its own, as LoRA has them."""

    def __init__(self, weight):
        super().__init__()
        self.left = nn.Parameter(torch.randn(weight.shape[0], 2, dtype=weight.dtype) / 8)
        self.right = nn.Parameter(torch.randn(2, weight[0].numel(), dtype=weight.dtype) / 8)

    def forward(self, weight):
        return weight + (self.left @ self.right).reshape(weight.shape)


class Noisy(nn.Module):
    def forward(self, weight):
        return weight * (torch.rand_like(weight) > 0.1) if self.training else weight


def low_rank(layer):
    return parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.3)


WAYS = {
    "weight_norm": (parametrizations.weight_norm, "WeightNorm"),
    "spectral_norm": (parametrizations.spectral_norm, "SpectralNorm"),
    "orthogonal": (parametrizations.orthogonal, "Orthogonal"),
    "low_rank": (low_rank, "LowRank"),
    "both": (lambda m: parametrizations.spectral_norm(low_rank(m)), "LowRank and SpectralNorm"),
    "pruned": (pruned, "L1Unstructured"),
    "old_weight_norm": (nn.utils.weight_norm, "WeightNorm"),
    "old_spectral_norm": (nn.utils.spectral_norm, "SpectralNorm"),
}


def model_of(way, rule="fa", *, convert_last=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    if rule and not convert_last:
        convert(model, rule=rule)
    for i in (0, 2):
        WAYS[way][0](model[i])
    if rule and convert_last:
        convert(model, rule=rule)
    return model


def weights_of_pass(model):
    """The weights of a forward pass: what each layer makes of the unit vectors."""
    layers = [model[i] for i in LAYERS]
    return [(x(torch.eye(x.in_features).double()) - x.bias).detach().numpy().T for x in layers]


def record(model, path, twin=None, *, steps=3, **options):
    """Record a training, and return the run and the weights of each of its passes, of a twin of the model."""
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    probes, used = {"probe": Probe((X, Y), loss_of)}, []
    with Recorder(model, path, optimizer=optimizer, probes=probes, every=1, **options) as recorder:
        for step in range(steps + 1):
            if twin is not None:
                twin.load_state_dict(model.state_dict())
                used.append(weights_of_pass(twin))
            if step < steps:
                optimizer.zero_grad()
                loss_of(model, (X, Y)).backward()
                optimizer.step()
                recorder.step()
    return open_run(path), used


def oracle(weights, biases, feedbacks):
    """Errors and gradients by autograd on explicit weights, with feedbacks in their place where given."""
    weights = [torch.as_tensor(w).requires_grad_() for w in weights]
    feedbacks = [w if b is None else torch.as_tensor(b) for w, b in zip(weights, feedbacks, strict=True)]
    h, places = X, []
    for i, (weight, bias, gate) in enumerate(zip(weights, biases, GATES, strict=True)):
        below = h.detach()
        # The value of h W^T, the derivative by W of h W^T, and by h of h B^T.
        a = below @ weight.T + h @ feedbacks[i].detach().T - below @ feedbacks[i].detach().T + bias
        places.append(a)
        h = gate(a)
    return torch.autograd.grad(functional.cross_entropy(h, Y), [*places, *weights])


def rows_of(*values, fast):
    """Return every combination of values; those that are not ``fast`` are left to the slow tests."""
    return [pytest.param(*row, marks=() if fast(*row) else pytest.mark.slow) for row in product(*values)]


@pytest.mark.parametrize(
    ("way", "rule", "mode"),
    rows_of(
        WAYS,
        ["fa", "usf", ""],
        ["train", "eval"],
        fast=lambda way, rule, mode: way == "both" or (rule, mode) == ("fa", "train"),
    ),
)
def test_signals_are_those_of_the_computed_weight(way, rule, mode, tmp_path):
    model = model_of(way, rule)
    weights = weights_of_pass(model_of(way, rule).train(mode == "train"))
    biases = [model[i].bias.detach() for i in LAYERS]
    feedbacks = [None] * 3
    if rule == "fa":
        feedbacks = [model[i].feedback.detach().clone() for i in LAYERS]
    elif rule == "usf":
        feedbacks = [np.sqrt((w**2).mean()) * np.sign(w) for w in weights]
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of, mode=mode)}):
        pass
    run = open_run(tmp_path / "run.zarr")
    for suffix, matrices in (("", feedbacks), ("_bp", [None] * 3)):
        expected = oracle(weights, biases, matrices)
        for i, error, gradient in zip(LAYERS, expected[:3], expected[3:], strict=True):
            layer = run[f"probe/{i}"]
            np.testing.assert_allclose(layer[f"error{suffix}"].values[0], error, rtol=0, atol=1e-12)
            np.testing.assert_allclose(layer[f"gradient{suffix}"].values[0], gradient, rtol=0, atol=1e-12)
            assert layer.attrs["error_bp_check"] == "passed"
    for i, weight in zip((0, 2), weights, strict=False):
        assert run[f"probe/{i}"].attrs["parametrization"] == WAYS[way][1]
        assert run[f"state/{i}"].attrs["type"] == type(model_of(way, rule)[4]).__name__
        if mode == "train":  # the mode of the model itself
            for array in ("state/{}/weight", "static/{}/weight_init"):
                np.testing.assert_allclose(
                    run[array.format(i)].values.reshape(weight.shape), weight, atol=1e-12
                )
    assert "parametrization" not in run["probe/4"].attrs


@pytest.mark.parametrize("way", WAYS)
def test_the_state_has_the_weights_of_the_trainings_passes_and_their_differences(way, tmp_path):
    run, used = record(model_of(way), tmp_path / "run.zarr", model_of(way), live=Live(every=1))
    for at, i in enumerate(LAYERS):
        weights = np.stack([weights[at] for weights in used])
        state = run[f"state/{i}"]
        np.testing.assert_allclose(state["weight"].values, weights, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state["update"].values[:-1], np.diff(weights, axis=0), rtol=0, atol=1e-12)
        assert state["update"].values[:-1].any(axis=(1, 2)).all()
        assert state["bias_update"].values[:-1].any()
        assert np.isfinite(run[f"live/{i}/error"].values).all()
    for i in (0, 2):
        assert not {"gradient", "momentum"} & set(run[f"state/{i}"].data_vars)
        for signal in ("gradient", "momentum"):
            why = run[f"state/{i}"].attrs[f"no_{signal}"]
            assert why.startswith(f"{WAYS[way][1]} computes the weight of layer '{i}' from ")
            assert why.endswith(
                f"has the {signal} of these; a Probe records the gradient of the weight itself"
            )
    assert run["state/4/gradient"].values[:-1].any()
    assert run["state/4/momentum"].values[:-1].any()
    assert "no_gradient" not in run["state/4"].attrs
    # Each training pass is the probe's: its live error is the probe's error in the same mode.
    results = analyze(tmp_path / "run.zarr")
    assert not results.attrs.get("left_out")
    assert np.isfinite(results["state"]["update_effective_rank_raw"].isel(run=0, step=0)).all()


@pytest.mark.parametrize("way", WAYS)
def test_live_errors_are_those_of_the_computed_weight(way, tmp_path):
    model, twin = model_of(way), model_of(way)
    weights = weights_of_pass(twin)
    biases, feedbacks = zip(*((twin[i].bias.detach(), twin[i].feedback) for i in LAYERS), strict=True)
    run, _ = record(model, tmp_path / "run.zarr", live=Live(every=1), steps=1)
    expected = oracle(weights, biases, feedbacks)[:3]
    for i, error in zip(LAYERS, expected, strict=True):
        np.testing.assert_allclose(run[f"live/{i}/error"].values[0], error, rtol=0, atol=1e-12)


def build_of(way):
    def build():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5),
            nn.ReLU(inplace=True), nn.Dropout2d(0.3), nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(16, 9), nn.Tanh(), nn.Linear(9, 3),
        )  # fmt: skip
        for i in (1, 5, 8):
            NOISY_TOO[way][0](model[i])
        return model

    return build


NOISY_TOO = {
    **WAYS,
    "noisy": (lambda m: parametrize.register_parametrization(m, "weight", Noisy()), "Noisy"),
}


@pytest.mark.parametrize(
    ("way", "options"),
    rows_of(
        NOISY_TOO,
        [{}, {"rule": "bp"}, {"rule": "brsf"}, {"mode": "eval"}, {"accumulate": 2}],
        fast=lambda way, options: way in ("both", "noisy") or not options,
    ),
    ids=str,
)
def test_recording_changes_no_bit_of_the_run(way, options, tmp_path):
    # The state_dict has the buffers of spectral norm and the masks of pruning.
    bare = run(build_of(way), adam, None, **options)
    recorded = run(build_of(way), adam, tmp_path / "run.zarr", **options)
    check_same_bits(bare, recorded)
    assert open_run(tmp_path / "run.zarr")["probe/8"].attrs["parametrization"] == NOISY_TOO[way][1]


@pytest.mark.parametrize("way", WAYS)
def test_convert_and_then_compute_is_compute_and_then_convert(way, tmp_path):
    first, last = model_of(way), model_of(way, convert_last=True)
    for i in LAYERS:
        last[i].feedback.copy_(first[i].feedback)  # its scale is that of the weight as it was
    runs = [record(model, tmp_path / f"{i}.zarr")[0] for i, model in enumerate((first, last))]
    for i in LAYERS:
        for array in (f"probe/{i}/error", f"probe/{i}/gradient_bp", f"state/{i}/update"):
            np.testing.assert_array_equal(runs[0][array].values, runs[1][array].values)
    assert repr(first) == repr(last)


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "low_rank"])
def test_a_converted_layer_keeps_and_loses_its_parametrization_as_torchs_own(way):
    model = model_of(way, convert_last=True)
    same = copy.deepcopy(model)
    np.testing.assert_array_equal(model(X).detach(), same(X).detach())
    weight = model.eval()[0].weight.detach()
    parametrize.remove_parametrizations(model[0], "weight")
    assert type(model[0]) is FeedbackLinear
    np.testing.assert_array_equal(model[0].weight.detach(), weight)


def test_convert_draws_for_the_computed_weight_and_does_not_disturb_it():
    for way in WAYS:
        model = model_of(way, "")
        before = {name: value.clone() for name, value in model.state_dict().items()}
        convert(model)
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
        weight, scale = weights_of_pass(model)[0], float(model[0].feedback.square().mean().sqrt())
        assert 0.6 < scale / np.sqrt((weight**2).mean()) < 1.5
    model = nn.Sequential(nn.Linear(6, 5), parametrizations.weight_norm(nn.Bilinear(5, 5, 3)))
    with pytest.raises(InputError, match=r"most of Sequential .*: '1' \(Bilinear\), with"):
        convert(model)


@pytest.mark.parametrize("way", WAYS)
def test_another_feedback_of_a_plain_layer_with_a_computed_weight(way, tmp_path):
    model, twin = model_of(way, ""), model_of(way, "").eval()
    kinds, matrix = [type(module) for module in model], torch.randn(4, 5).double()
    probe = Probe(
        (X, Y), loss_of, feedbacks={"other": {"2": matrix}}, redraws=2, gate_draws=2, jacobian_vectors=2
    )
    Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}).close()
    assert kinds == [type(module) for module in model]
    expected = oracle(weights_of_pass(twin), [twin[i].bias.detach() for i in LAYERS], [None, matrix, None])
    found = open_run(tmp_path / "run.zarr")["probe/0/error_other"].values[0]
    np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_nulls_are_drawn_through_the_computed_weight(way, tmp_path):
    model, twin = model_of(way), model_of(way).eval()
    for one in (model, twin):
        for i in LAYERS:
            one[i].feedback.fill_(0.3)  # a permutation of its entries is the same
    probe = Probe((X, Y), loss_of, redraws=2, gate_draws=2, jacobian_vectors=2, feedbacks={"w": {
        "2": torch.as_tensor(weights_of_pass(twin)[1]), "4": model[4].weight.detach(),
    }})  # fmt: skip
    Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}).close()
    layer = open_run(tmp_path / "run.zarr")["probe/0"]
    np.testing.assert_allclose(layer["error_w"].values, layer["error_bp"].values, rtol=0, atol=1e-12)
    error, true = (layer[name].values[0] for name in ("error", "error_bp"))
    lengths = np.linalg.norm(error, axis=1) * np.linalg.norm(true, axis=1)
    cosine = ((error * true).sum(1)[lengths > 0] / lengths[lengths > 0]).mean()
    np.testing.assert_allclose(layer["error_null_cosine"].values[0], [cosine] * 2, rtol=1e-6)


def test_frozen_and_left_out_layers(tmp_path):
    model = model_of("spectral_norm").requires_grad_(False)
    model[0].bias.requires_grad_(True)
    with Recorder(
        model, tmp_path / "run.zarr", layers=["0"], probes={"p": Probe((X, Y), loss_of, mode="train")}
    ):
        pass
    twin = model_of("spectral_norm")
    weights, biases = weights_of_pass(twin), [twin[i].bias.detach() for i in LAYERS]
    run = open_run(tmp_path / "run.zarr")
    expected = oracle(weights, biases, [None] * 3)
    np.testing.assert_allclose(run["p/0/error_bp"].values[0], expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(run["p/0/gradient_bp"].values[0], expected[3], rtol=0, atol=1e-12)
    assert not any(p.requires_grad for p in model[0].parametrizations.parameters())


def test_a_parametrization_is_no_layer_of_its_own_and_an_unknown_module_with_one_is_named(tmp_path):
    model = model_of("low_rank", "")
    model.add_module("5", nn.Tanh())
    model.add_module("6", parametrizations.weight_norm(nn.Bilinear(3, 3, 3)).double())
    model.forward = lambda x: model[6](*2 * (nn.Sequential.forward(model[:6], x),))
    with pytest.warns(CaptureWarning, match=r"no adapter knows them: '6' \(Bilinear\)\."):
        Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}).close()
    assert open_run(tmp_path / "run.zarr")["p/0"].attrs["classes"] == 3


def test_a_weight_that_is_computed_in_an_unknown_way_is_refused():
    model = model_of("weight_norm", "")
    weight = model[4].weight.detach()
    del model[4].weight
    model[4].register_forward_pre_hook(lambda module, taken: setattr(module, "weight", 2 * weight))
    model[4].weight = weight
    with pytest.raises(
        CaptureError, match=r"layer '4' has a weight that is no parameter, .*torch.nn.utils.param"
    ):
        choose_layers(model, DEFAULT_ADAPTERS, None)


def test_signals_that_only_the_parameters_have_are_refused_if_asked_for(tmp_path):
    model = nn.Sequential(pruned(nn.Linear(6, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    match = (
        "state signal 'momentum' would never be there: L1Unstructured computes the weight of layer '0' from "
        "weight_orig, and the optimizer has the momentum of these"
    )
    with pytest.raises(InputError, match=match):
        Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, state=["momentum"])
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    with pytest.raises(InputError, match="the optimizer has none of the recorded weights"):
        Recorder(model, tmp_path / "run.zarr", optimizer=other)


@pytest.mark.parametrize("way", WAYS)
def test_other_weights_at_close_are_not_recorded_under_the_last_step(way, tmp_path):
    def trained(path, change):
        model = model_of(way)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        recorder = Recorder(model, path, optimizer=optimizer, probes={"p": Probe((X, Y), loss_of)}, every=10)
        for _ in range(2):
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
        change(model)
        recorder.close()
        return [int(step) for step in open_run(path)["p"]["step"]]

    def average(model):
        for parameter in model.parameters():
            parameter.data.mul_(0.9)

    def evaluate(model):
        model.eval()
        model(X)

    assert trained(tmp_path / "kept.zarr", evaluate) == [0, 2]
    with pytest.warns(CaptureWarning, match="other weights than the last update left"):
        assert trained(tmp_path / "other.zarr", average) == [0]
    if way == "pruned":
        with pytest.warns(CaptureWarning, match="other weights than the last update left"):
            assert trained(tmp_path / "pruned.zarr", lambda m: pruned(m[0])) == [0]


@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "pruned", "old_spectral_norm"])
def test_an_update_without_the_optimizer_is_refused_and_a_pass_is_none(way, tmp_path):
    model = model_of(way)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1)
    model(X)  # a step of the power iteration, and none of the optimizer, as a GradScaler may have it
    recorder.step()
    for parameter in model[2].parameters():
        parameter.data.mul_(2)
    with pytest.raises(CaptureError, match=r"layer '2' changed at step 1, but the SGD .* did not step"):
        recorder.step()


def test_a_parametrization_that_is_removed_in_mid_run_is_noticed(tmp_path):
    for way, remove in (
        ("weight_norm", lambda m: parametrize.remove_parametrizations(m, "weight")),
        ("pruned", lambda m: prune.remove(m, "weight")),
    ):
        model = model_of(way)
        recorder = Recorder(model, tmp_path / f"{way}.zarr", every=1)
        remove(model[2])
        with pytest.raises(
            CaptureError, match=f"layer '2' is no longer computed by {WAYS[way][1]}, before step 0"
        ):
            recorder.step()


@pytest.mark.filterwarnings("ignore:the state of step . has no gradient and update")
@pytest.mark.parametrize("way", ["weight_norm", "spectral_norm", "pruned"])
def test_a_run_with_computed_weights_is_resumed(way, tmp_path):
    model = model_of(way)
    record(model, tmp_path / "run.zarr", steps=2)
    run, _ = record(model, tmp_path / "run.zarr", steps=1, if_exists="resume")
    assert list(run["state"]["step"].values) == [0, 1, 2, 3]
    for parameter in model.parameters():
        parameter.data.mul_(0.9)
    with pytest.raises(CaptureError, match=r"the weight of layer '0' is not the one that .* holds at step 3"):
        record(model, tmp_path / "run.zarr", steps=1, if_exists="resume")


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf"])
def test_layers_of_biotorch_with_a_computed_weight(rule, tmp_path):
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")

    def build(way=WAYS["spectral_norm"][0]):
        torch.manual_seed(0)
        layers = [
            constructor.Linear(*sizes, layer_config={"type": rule}) for sizes in ((12, 9), (9, 9), (9, 3))
        ]
        way(layers[1])
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Tanh(), layers[2])

    bare = run(build, adam, None, rule="bp")
    recorded = run(build, adam, tmp_path / "run.zarr", rule="bp")
    check_same_bits(bare, recorded)
    layer = open_run(tmp_path / "run.zarr")["probe/2"]
    assert layer.attrs["parametrization"] == "SpectralNorm"
    assert layer.attrs["error_bp_check"] == "passed"


class Turned(nn.Module):
    """The other layer's weight, transposed: a tied autoencoder."""

    def __init__(self, other):
        super().__init__()
        self.others = [other]

    def forward(self, weight):
        return self.others[0].weight.T + 0 * weight


def test_the_gradient_of_a_weight_that_another_is_made_of_is_that_of_both(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6)).double()
    parametrize.register_parametrization(model[2], "weight", Turned(model[0]))
    weight = model[0].weight.detach().clone().requires_grad_()
    h = torch.tanh(X @ weight.T + model[0].bias)
    (expected,) = torch.autograd.grad(loss_of(lambda h: h @ weight + model[2].bias, (h, Y)), weight)
    Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}).close()
    found = open_run(tmp_path / "run.zarr")["p/0/gradient"].values[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


class Siamese(nn.Module):
    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.last = WAYS[way][0](nn.Linear(6, 6).double()), nn.Linear(6, 3).double()

    def forward(self, x):
        return self.last(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_is_called_twice(way, tmp_path):
    model = Siamese(way).eval()
    eye = torch.eye(6).double()
    weight = (model.inner(eye) - model.inner.bias).detach().T.requires_grad_()
    first = X @ weight.T + model.inner.bias
    second = torch.tanh(first) @ weight.T + model.inner.bias
    loss = functional.cross_entropy(model.last(torch.tanh(second)), Y)
    expected = torch.autograd.grad(loss, [first, second, weight])
    Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}).close()
    run = open_run(tmp_path / "run.zarr")
    for array, value in zip(
        ("inner/error", f"{layer_key('inner@1')}/error", "inner/gradient"), expected, strict=True
    ):
        np.testing.assert_allclose(run[f"p/{array}"].values[0], value, rtol=0, atol=1e-12)
