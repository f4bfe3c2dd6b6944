"""Test adapters for embeddings, layers with a custom forward, sign rules, and biotorch's layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from fadiag.analysis import analyze
from fadiag.capture import DEFAULT_ADAPTERS, LayerAdapter, Probe, Recorder, exact_layers
from fadiag.capture.layers.selection import choose_layers, owners_of
from fadiag.errors import CaptureError, InputError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)
TOKENS = torch.randint(11, (16, 5), generator=torch.Generator().manual_seed(2))


def read(model, batch, adapters=(), **options):
    layers = choose_layers(model, (*adapters, *DEFAULT_ADAPTERS), None)
    return {x.name: x.signals for x in Probe(batch, loss_of, **options).read(model, layers)}


class Text(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.table = nn.Embedding(11, 6, **options)
        self.hidden = nn.Linear(6, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, tokens):
        return self.out(torch.tanh(self.hidden(self.table(tokens))).mean(1))


def record(model, path, batch, *, updates=3, lr=0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr)
    probes = {"probe": Probe(batch, loss_of, mode="train")}
    options = {"probes": probes, "every": 1, **options}
    with Recorder(model, path, optimizer=optimizer, **options) as recorder:
        for _ in range(updates):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_embedding_has_its_output_and_error_and_a_dense_gradient(sparse, tmp_path):
    torch.manual_seed(0)
    model = convert(Text(sparse=sparse).double())
    run = record(model, tmp_path / "run.zarr", (TOKENS, Y), lr=0.5)
    probe, state = run["probe/table"], run["state/table"]
    assert probe["error"].dims == ("step", "sample", "position", "out")
    assert probe["gradient"].dims == state["weight"].dims == ("step", "in", "out")
    assert (probe.attrs["in_features"], probe.attrs["out_features"]) == (11, 6)
    assert probe.attrs["feedback_kind"] == "exact"
    # The activation is the table's rows, the gradient the errors summed by token, both in float64.
    tokens, weight, error = TOKENS.numpy(), state["weight"].values, probe["error"].values
    np.testing.assert_array_equal(probe["activation"].values, weight[:, tokens])
    expected = np.zeros_like(weight)
    for step in range(len(weight)):
        np.add.at(expected[step], tokens, error[step])
    assert expected.any()
    np.testing.assert_allclose(probe["gradient"].values, expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(state["gradient"].values[:-1], expected[:-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(state["update"].values[:-1], -0.5 * expected[:-1], rtol=0, atol=1e-15)
    assert abs(probe["error"].values - probe["error_bp"].values).max() > 1e-4
    results = analyze([tmp_path / "run.zarr"])
    ranks = results["probe/error_participation_ratio_raw"].sel(layer="table")
    assert np.isfinite(ranks.values).all()
    assert np.isfinite(results["state/weight_displacement_participation_ratio_raw"].values[..., 1:]).all()


@pytest.mark.parametrize("rule", ["bp", "fa"])
def test_a_table_tied_to_the_output_is_recorded_once_as_the_outputs(rule, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 11, bias=False))
    model[3].weight = model[0].weight
    convert(model, rule)
    path = tmp_path / "run.zarr"
    with Recorder(
        model, path, probes={"probe": Probe((TOKENS[:, 0], Y), loss_of, signals=["gradient", "error"])}
    ):
        pass
    run = open_run(path)
    assert set(run["state"].children) == {"1", "3"}
    assert {name for name in run["probe"].children if "gradient" in run[f"probe/{name}"]} == {"1", "3"}
    assert run["state/3/weight"].dims == run["probe/3/gradient"].dims == ("step", "out", "in")
    np.testing.assert_array_equal(run["state/3/weight"].values[0], model[3].weight.detach())
    # The gradient of both: of the output layer and of the table.
    loss_of(model, (TOKENS[:, 0], Y)).backward()
    np.testing.assert_allclose(run["probe/3/gradient"].values[0], model[0].weight.grad, atol=1e-7)
    if rule == "fa":
        results = analyze([path], metrics=["weight_feedback_cosine"])
        found = results["state/weight_feedback_cosine"].sel(layer="3").values
        expected = functional.cosine_similarity(model[3].weight.flatten(), model[3].feedback.flatten(), 0)
        np.testing.assert_allclose(found.squeeze(), float(expected.detach()), rtol=1e-5)


def test_a_weight_that_two_layers_share_is_recorded_under_the_one_with_feedback():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    assert [layer.name for layer in owners_of(layers).values()] == ["0", "4"]
    convert(model, layers=["2"])
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    assert [layer.name for layer in owners_of(layers).values()] == ["2", "4"]


def test_a_table_of_positions_with_one_row_for_all_cuts_no_samples(tmp_path):
    class Placed(Text):
        def __init__(self):
            super().__init__()
            self.places = nn.Embedding(5, 6)

        def forward(self, tokens):
            places = self.places(torch.arange(5)[None])
            return self.out(torch.tanh(self.hidden(self.table(tokens) + places)).mean(1))

    run = record(Placed(), tmp_path / "run.zarr", (TOKENS, Y))
    assert run["probe/places/error"].shape == (4, 1, 5, 6)
    np.testing.assert_array_equal(run["probe"]["rows_valid"].values, 16)
    by_place = run["probe/table/error"].values.sum(1, keepdims=True)
    np.testing.assert_allclose(run["probe/places/error"].values, by_place, atol=1e-7)


def test_a_probe_leaves_a_renormalized_table_as_it_was():
    torch.manual_seed(0)
    model = Text(max_norm=0.5)
    before = model.table.weight.detach().clone()
    read(model, (TOKENS, Y))
    assert torch.equal(model.table.weight, before)
    assert model.table.weight.norm(dim=1).max() > 0.5


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


class Named(nn.Linear):
    """A subclass that changes nothing of the pass."""


def test_a_layer_with_a_forward_of_its_own_is_refused_or_declared():
    torch.manual_seed(0)
    model = nn.Sequential(Named(6, 8), nn.ReLU(), Halved(8, 8), nn.Tanh(), nn.Linear(8, 3))
    for chosen in (None, ["2"]):
        with pytest.raises(
            CaptureError,
            match=r"layer '2' is a Halved that overrides the forward pass.*exact_layers\(Halved\)",
        ):
            choose_layers(model, DEFAULT_ADAPTERS, chosen)
    assert [x.name for x in choose_layers(model, DEFAULT_ADAPTERS, ["0", "4"])] == ["0", "4"]
    convert(model, layers=["4"])
    found = read(model, (X, Y), adapters=[exact_layers(Halved)])
    assert list(found) == ["0", "2", "4"]
    a = model[2](model[1](model[0](X))).detach().requires_grad_()
    (error,) = torch.autograd.grad(functional.cross_entropy(model[4](torch.tanh(a)), Y), a)
    np.testing.assert_allclose(found["2"]["error"].array, error, atol=1e-8)
    assert abs(found["2"]["error_bp"].array - found["2"]["error"].array).max() > 1e-3
    feedbacks = {"b": {"2": torch.zeros(8, 8)}}
    with pytest.raises(InputError, match=r"a Halved is recorded as a layer with an exact backward.*using="):
        read(model, (X, Y), adapters=[exact_layers(Halved)], feedbacks=feedbacks)


def test_a_matrix_kept_transposed_is_told_by_its_adapter(tmp_path):
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3))

        def forward(self, x):
            return x @ self.weight

    path = tmp_path / "run.zarr"
    run = record(Transposed(), path, (X, Y), adapters=[exact_layers(Transposed, weight_dims=("in", "out"))])
    assert dict(run["probe/(root)"].sizes) == {"step": 4, "sample": 16, "in": 6, "out": 3}
    assert run["static/(root)/weight_init"].dims == ("in", "out")


def test_a_users_own_adapter_is_asked_first():
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    own = LayerAdapter((nn.Linear,), lambda m: m.weight, lambda m: None, "exact", lambda m, matrix: None)
    assert choose_layers(model, (own, *DEFAULT_ADAPTERS), None)[0].adapter is own


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_weights_that_are_not_there_are_refused():
    lazy = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(CaptureError, match=r"layer '0' has no weight yet; run one batch"):
        choose_layers(lazy, DEFAULT_ADAPTERS, None)


def deep(**options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5),
        nn.Linear(8, 3),
    )  # fmt: skip
    return convert(model, **options)


OLD_NORMS = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("norm", OLD_NORMS)
def test_the_true_error_goes_through_the_weight_that_a_hook_makes(norm, tmp_path):
    """What such a module holds before a pass is the weight of the last one, from before the update."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    OLD_NORMS[norm](convert(model)[2])
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    x, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 3
    probe = Probe((x, y), lambda m, batch: functional.cross_entropy(m(batch[0]), batch[1]), mode="eval")
    path = tmp_path / "run.zarr"
    with Recorder(model, path, layers=["0", "4"], optimizer=optimizer, probes={"p": probe}, every=1) as r:
        for _ in range(2):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            r.step()
    model.eval()
    a_1 = functional.linear(x, model[0].weight, model[0].bias).detach().requires_grad_()
    model(x)  # makes the weight of now
    a_2 = functional.linear(a_1.relu(), model[2].weight, model[2].bias)
    out = functional.linear(a_2.relu(), model[4].weight, model[4].bias)
    functional.cross_entropy(out, y).backward()
    found = open_run(path)["p/0/error_bp"][-1]
    np.testing.assert_allclose(found, a_1.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "head", [nn.utils.parametrizations.weight_norm, lambda layer: layer], ids=["normed", "plain"]
)
def test_a_head_that_is_left_out_tells_its_classes(head, tmp_path):
    model = convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    head(model[2])
    probe = Probe(
        (torch.randn(5, 6), torch.arange(5) % 3), lambda m, b: functional.cross_entropy(m(b[0]), b[1])
    )
    with Recorder(model, tmp_path / "run.zarr", layers=["0"], probes={"p": probe}, state=()):
        pass
    assert open_run(tmp_path / "run.zarr")["p/0"].attrs["classes"] == 3


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf"])
def test_the_feedback_of_sign_rules_is_recorded_over_time(rule, tmp_path):
    model, batch, used = deep(rule=rule), (X, Y), []
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    probes = {"probe": Probe(batch, loss_of)}
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, probes=probes, every=1) as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            # What really was used: seen through the layer's own backward pass of the same forward pass.
            used.append(model[3].feedback.detach().clone().numpy())
            optimizer.step()
            recorder.step()
    run = open_run(tmp_path / "run.zarr")
    feedback = run["state/3/feedback"].values
    np.testing.assert_array_equal(feedback[:4], used)
    np.testing.assert_array_equal(np.sign(feedback), np.sign(run["state/3/weight"].values))
    assert (feedback[1] != feedback[0]).any()
    # The analysis takes the B of each step, not the static one.
    W, B = (x.reshape(len(x), -1).astype(float) for x in (run["state/3/weight"].values, feedback))
    cosine = (W * B).sum(1) / np.linalg.norm(W, axis=1) / np.linalg.norm(B, axis=1)
    results = analyze([tmp_path / "run.zarr"], metrics=["weight_feedback_cosine"])
    found = results["state/weight_feedback_cosine"].sel(layer="3")[0].values
    np.testing.assert_allclose(found, cosine, rtol=1e-6)
    assert "feedback" not in record(deep(rule="fa"), tmp_path / "fa.zarr", batch)["state/3"]


def test_a_rule_that_draws_at_each_pass_sees_the_same_masks_in_both_passes():
    torch.manual_seed(1)
    model = deep(rule="brsf")
    found = read(model, (X, Y), mode="train", signals=("modulator", "modulator_bp"))
    for layer in ("0", "3"):
        dropped = [found[layer][s].array == 0 for s in ("modulator", "modulator_bp")]
        assert 0.3 < dropped[0].mean() < 0.7
        np.testing.assert_array_equal(*dropped)


# biotorch: `pip install --no-deps biotorch` (its dependencies include torchvision).


def biotorch_model(rule, kind):
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")
    torch.manual_seed(0)
    config = {"type": rule}
    if kind == "conv":
        body = [nn.Unflatten(1, (2, 3, 4)), constructor.Conv2d(2, 4, 3, padding=1, layer_config=dict(config)),
                nn.ReLU(), constructor.Conv2d(4, 4, 3, stride=2, groups=2, layer_config=dict(config)),
                nn.Tanh(), nn.Flatten(), constructor.Linear(4, 3, layer_config=dict(config))]  # fmt: skip
    else:
        body = [constructor.Linear(24, 9, layer_config=dict(config)), nn.ReLU(), nn.Dropout(0.4),
                constructor.Linear(9, 8, layer_config=dict(config)), nn.Tanh(), nn.Dropout(0.4),
                constructor.Linear(8, 3, layer_config=dict(config))]  # fmt: skip
    return nn.Sequential(*body).double()


def bio_batch():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(12, 24, generator=generator, dtype=torch.float64), Y[:12]


def twin_of(module, matrix):
    """torch's own layer of the same geometry and numbers, under fadiag's FA with ``matrix``."""
    if isinstance(module, nn.Linear):
        twin = nn.Linear(module.in_features, module.out_features)
    elif isinstance(module, nn.Conv2d):
        geometry = {"stride": module.stride, "padding": module.padding, "groups": module.groups}
        twin = nn.Conv2d(module.in_channels, module.out_channels, module.kernel_size, **geometry)
    else:
        return module
    convert(twin.double()).load_state_dict({"weight": module.weight, "bias": module.bias, "feedback": matrix})
    return twin


def in_use(module):
    if not hasattr(module, "weight_backward"):
        return None
    sign, given = module.weight.sign(), module.weight_backward
    return {"fa": given, "usf": module.scaling_factor * sign, "frsf": given.abs() * sign}[module.type]


RULES = ["fa", "usf", "brsf", "frsf"]


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("rule", RULES)
def test_biotorch_errors_are_its_own_and_those_of_the_weights(rule, kind):
    model, batch = biotorch_model(rule, kind), bio_batch()
    mode = "eval" if rule == "brsf" else "train"  # its draws would shift the twin's dropout masks
    with torch.no_grad():
        for module in model:
            if hasattr(module, "weight_backward"):
                module.weight.add_(torch.randn_like(module.weight) / 5)  # uSF's parameter is stale now
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    found = read(model, batch, mode=mode)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    # What brSF draws is seen by the next test.
    for suffix in ("_bp",) if rule == "brsf" else ("", "_bp"):
        twin = nn.Sequential(
            *(twin_of(m, getattr(m, "weight", None) if suffix else in_use(m)) for m in model)
        )
        expected = read(twin, batch, mode=mode)
        assert list(expected) == list(found)
        for name, layer in expected.items():
            for signal in ("error", "modulator", "gradient"):
                assert layer[signal].array.any()
                np.testing.assert_allclose(
                    found[name][signal + suffix].array, layer[signal].array, rtol=0, atol=1e-12
                )
    first = next(iter(found.values()))
    assert abs(first["error"].array - first["error_bp"].array).max() > 1e-4


@pytest.mark.parametrize("rule", RULES)
def test_biotorch_runs_are_recorded_without_changing_a_bit(rule, tmp_path):
    def run(path):
        model, batch, used = biotorch_model(rule, "linear"), bio_batch(), []
        optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 0.3)
        probe = Probe(batch, loss_of, mode="train", redraws=2, null_every=1)
        recorder = None
        if path is not None:
            recorder = Recorder(model, path, optimizer=optimizer, probes={"probe": probe}, every=1)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            matrix = model[3].weight_backward if rule == "brsf" else in_use(model[3])
            used.append(matrix.detach().clone().numpy())
            optimizer.step()
            if recorder is not None:
                recorder.step()
        if recorder is not None:
            recorder.close()
        return dict(model.state_dict()) | {"rng": torch.get_rng_state()}, used

    bare, recorded = run(None), run(tmp_path / "run.zarr")
    for name, tensor in bare[0].items():
        assert torch.equal(tensor, recorded[0][name]), name
    store = open_run(tmp_path / "run.zarr")
    assert store["probe/3/error"].values.any()
    assert np.isfinite(store["probe/0/error_null_cosine"].values).all()
    if rule == "fa":
        np.testing.assert_array_equal(store["static/3/feedback"].values, recorded[1][0])
    else:
        feedback = store["state/3/feedback"].values
        np.testing.assert_array_equal(feedback[:3], recorded[1])
        if rule != "brsf":  # after the last update no pass was made, and B follows W all the same
            np.testing.assert_array_equal(np.sign(feedback), np.sign(store["state/3/weight"].values))
    # Both passes see one dropout mask (uSF's equal magnitudes make zeros of their own beside it).
    modulator, true = (store[f"probe/3/{s}"].values for s in ("modulator", "modulator_bp"))
    assert 0.2 < (true == 0).mean() < 0.6
    assert not modulator[true == 0].any()


def test_biotorch_constraining_its_weights_is_refused():
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")
    options = {"constrain_weights": True, "gradient_clip": False, "init": "xavier"}
    layer = constructor.Linear(6, 3, layer_config={"type": "fa", "options": options})
    with pytest.raises(CaptureError, match=r"biotorch Linear has constrain_weights=True.*turn it off"):
        read(nn.Sequential(layer), (X, Y))


@pytest.mark.parametrize("rule", ["fa", "dfa", "frsf"])
@pytest.mark.parametrize("law", ["gaussian", "orthogonal"])
def test_redrawn_feedback_of_fadiags_layers_keeps_its_law(rule, law):
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))
    convert(model, rule, feedback=law, example=torch.ones(2, 2, 4, 4))
    for layer in choose_layers(model, DEFAULT_ADAPTERS, None):
        module = layer.module
        drawn = layer.adapter.redrawn(module, torch.Generator().manual_seed(1))
        assert drawn.shape == module.feedback.shape
        assert not torch.equal(drawn, module.feedback)
        own, new = (np.linalg.svd(m.flatten(1).numpy(), compute_uv=False) for m in (module.feedback, drawn))
        if law == "orthogonal" and rule != "frsf":
            np.testing.assert_allclose(new, own, rtol=1e-5)
        else:
            assert torch.equal(drawn.flatten().sort()[0], module.feedback.flatten().sort()[0])
