"""Test all convolution geometries, and third-party, compiled and checkpointed models."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fadiag.capture import DEFAULT_ADAPTERS, Live, Probe, Recorder
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.signals.arrays import to_arrays
from fadiag.errors import CaptureError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of, on

N = 8
X, Y = labelled(N, torch.float64)
SIGNALS = ("activation", "modulator", "error_post", "error")


def read(model, batch=(X, Y), loss=loss_of, **options):
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    probe = Probe(on(next(model.parameters()).device, batch), loss, **options)
    return {x.name: x for x in probe.read(model, layers)}


def assert_close(array, tensor, atol):
    np.testing.assert_allclose(array, tensor.cpu(), rtol=0, atol=atol)


def values(found, layer, signal):
    return found[layer].signals[signal].array


def straight(x, module, matrix):
    """The layer with ``matrix`` in its backward pass, by torch's autograd alone (no class of fadiag)."""
    plain = {"FeedbackLinear": nn.Linear, "FeedbackConv1d": nn.Conv1d, "FeedbackConv2d": nn.Conv2d}
    kind = plain.get(type(module).__name__, type(module))

    def apply(x, weight, bias):
        if kind is nn.Linear:
            return functional.linear(x, weight, bias)
        return kind._conv_forward(module, x, weight, bias)

    carrier = apply(x, matrix.detach(), None)
    return apply(x.detach(), module.weight, module.bias) + (carrier - carrier.detach())


CONVOLUTIONS = [
    {"dimensions": 2, "kernel_size": 3, "padding": 1, "groups": 2},
    {"dimensions": 2, "kernel_size": (3, 2), "stride": (2, 1), "dilation": 2, "padding": (2, 1)},
    {"dimensions": 2, "kernel_size": 3, "padding": 2, "padding_mode": "circular", "groups": 4},
    {"dimensions": 2, "kernel_size": 3, "padding": 1, "padding_mode": "reflect", "stride": 2},
    {"dimensions": 2, "kernel_size": 2, "padding": "same"},
    {"dimensions": 2, "kernel_size": 3, "padding": "valid", "bias": False},
    {"dimensions": 1, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"dimensions": 1, "kernel_size": 4, "padding": "same", "padding_mode": "replicate"},
]


@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_of_every_geometry_equal_an_autograd_oracle(options, device):
    options = dict(options)
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[options.pop("dimensions")]
    space = (7,) if kind is nn.Conv1d else (7, 6)
    torch.manual_seed(0)
    body = nn.Sequential(kind(2, 4, 3, padding=1), nn.Tanh(), kind(4, 8, **options), nn.ReLU(inplace=True))
    model = nn.Sequential(*body, nn.Flatten(), nn.LazyLinear(3)).double()
    x, y = torch.randn(N, 2, *space, dtype=torch.float64), Y
    model(x)
    convert(model).to(device)
    x, y = on(device, (x, y))
    found = read(model, (x, y), signals=(*SIGNALS, "error_bp", "modulator_bp", "gradient", "gradient_bp"))
    for suffix in ("", "_bp"):
        first, conv, last = (model[i] for i in (0, 2, 5))
        matrices = [m.weight if suffix else m.feedback for m in (first, conv, last)]
        a1 = straight(x.clone().requires_grad_(), first, matrices[0])
        h1 = a1.tanh()
        a2 = straight(h1, conv, matrices[1])
        h2 = a2.relu()
        loss = functional.cross_entropy(straight(h2.flatten(1), last, matrices[2]), y)
        grads = torch.autograd.grad(loss, [a1, h1, a2, h2, first.weight, conv.weight])
        for name, (error, modulator) in (("0", grads[:2]), ("2", grads[2:4])):
            for signal, expected in (("error", error), ("modulator", modulator)):
                assert expected.any()
                assert_close(values(found, name, signal + suffix), expected, 1e-12)
        for name, expected in (("0", grads[4]), ("2", grads[5])):
            gradient = values(found, name, f"gradient{suffix}")
            assert_close(gradient, expected.flatten(1), 1e-12)
    assert abs(values(found, "0", "error") - values(found, "0", "error_bp")).max() > 1e-5


def test_what_batch_norm_forces_holds_on_a_store(tmp_path, device):
    """definitions.md, closed form 6, under FA and from nothing but what was recorded."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9, eps=1e-30), nn.ReLU(), nn.Linear(9, 3))
    model = convert(body.double()).to(device)
    optimizer, batch = torch.optim.SGD(model.parameters(), 0.5), on(device, (X, Y))
    probes = {"probe": Probe(batch, loss_of, mode="train")}
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, probes=probes, every=1) as recorder:
        for _ in range(20):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    run = open_run(tmp_path / "run.zarr")
    state, probe = run["state/0"], run["probe/0"]
    W, G, b = state["weight"].values, probe["gradient"].values, state["bias"].values
    a = np.einsum("ni,toi->tno", X.numpy(), W) + b[:, None]
    a_hat = (a - a.mean(1, keepdims=True)) / a.std(1, keepdims=True)
    for signal in ("error", "error_bp"):
        error = probe[signal].values
        assert abs(error).max() > 1e-3
        np.testing.assert_allclose(error.mean(1), 0, rtol=0, atol=1e-15)
        np.testing.assert_allclose((a_hat * error).sum(1), 0, rtol=0, atol=1e-14)
    np.testing.assert_allclose((W * G).sum(2), 0, rtol=0, atol=1e-14)
    assert abs(state["update"].values[:-1].sum(0)).max() > 1e-2


# Foreign models.


def tokens():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(20, (4, 5), generator=generator)


def causal(model, batch):
    return model(input_ids=batch, labels=batch, use_cache=False).loss


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def test_a_pre_norm_transformer_is_recorded_and_its_training_unchanged(tmp_path, device):
    def run(path):
        model, batch = convert(llama()).to(device), tokens().to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        recorder = None
        if path is not None:
            recorder = Recorder(model, path, optimizer=optimizer, every=1, live=Live(every=1),
                                probes={"probe": Probe(batch, causal, mode="train", redraws=1)})  # fmt: skip
        for _ in range(2):
            optimizer.zero_grad()
            causal(model, batch).backward()
            optimizer.step()
            if recorder is not None:
                recorder.step()
        if recorder is not None:
            recorder.close()
        return model

    bare, recorded = run(None), run(tmp_path / "run.zarr")
    for name, tensor in bare.state_dict().items():
        assert torch.equal(tensor, recorded.state_dict()[name]), name
    store = open_run(tmp_path / "run.zarr")
    names = [name for name, m in recorded.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    assert len(names) == 16
    assert set(store["probe"].children) == set(store["live"].children) == set(names)
    for name in names:
        for signal in (f"probe/{name}/{s}" for s in ("error", "error_bp", "modulator", "gradient")):
            assert store[signal].values.any(), signal
        assert store[f"live/{name}/error"].values.any()
        assert store[f"state/{name}/update"].values[0].any()
    assert store["probe/model.layers.0.mlp.gate_proj"].attrs["gate"] == "silu"


def test_the_errors_of_a_transformer_are_those_of_the_same_model_without_recording(device):
    """A probe of the plain model against torch.autograd.grad at hooked outputs, in float64."""
    model, batch = llama().double().to(device), tokens().to(device)
    found = read(model, batch, causal, mode="eval")
    outputs = {}
    handles = [
        m.register_forward_hook(lambda m, i, o, name=name: outputs.__setitem__(name, o))
        for name, m in model.named_modules()
        if name in found
    ]
    loss = causal(model.eval(), batch)
    errors = torch.autograd.grad(loss, list(outputs.values()))
    for handle in handles:
        handle.remove()
    assert set(outputs) == set(found)
    for name, error in zip(outputs, errors, strict=True):
        assert_close(values(found, name, "error"), error, 1e-12)


class Odd(nn.Module):
    """Somebody's model: shared weights, a layer called twice, in-place operations, several outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = self.first.weight
        self.twice = nn.Linear(6, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.heads = nn.ModuleDict({"main": nn.Linear(6, 3), "side": nn.Linear(6, 2)})

    def forward(self, x):
        h = self.first(x).mul_(2).relu_() + 1
        skip = h.clone()
        h = functional.gelu(self.again(h))
        h = self.twice(torch.tanh_(self.twice(h)))
        h += skip
        h.sub_(1).clamp_(min=-1)
        h = self.frozen(h).sigmoid_()
        return {"main": self.heads["main"](h), "side": [self.heads["side"](h), h]}


def odd_loss(model, batch):
    output = model(batch[0])
    return functional.cross_entropy(output["main"], batch[1]) + output["side"][0].square().mean()


def test_a_model_with_shared_weights_and_in_place_operations_is_read_right(device):
    torch.manual_seed(0)
    model, (x, y) = convert(Odd().double(), seed=1).to(device), on(device, (X, Y))
    found = read(model, loss=odd_loss)
    assert list(found) == ["first", "again", "twice", "twice@1", "frozen", "heads.main", "heads.side"]
    for suffix in ("", "_bp"):

        def layer(x, name, suffix=suffix):
            module = model.get_submodule(name)
            return straight(x, module, module.weight if suffix else module.feedback)

        a = {}
        a["first"] = layer(x.clone().requires_grad_(), "first")
        skip = (2 * a["first"]).relu() + 1
        a["again"] = layer(skip, "again")
        a["twice"] = layer(functional.gelu(a["again"]), "twice")
        a["twice@1"] = layer(a["twice"].tanh(), "twice")
        a["frozen"] = layer((a["twice@1"] + skip - 1).clamp(min=-1), "frozen")
        h = a["frozen"].sigmoid()
        a["heads.main"], a["heads.side"] = layer(h, "heads.main"), layer(h, "heads.side")
        loss = functional.cross_entropy(a["heads.main"], y) + a["heads.side"].square().mean()
        *errors, shared = torch.autograd.grad(loss, [*a.values(), model.first.weight])
        for name, error in zip(a, errors, strict=True):
            assert error.any()
            assert_close(values(found, name, f"error{suffix}"), error, 1e-12)
        assert_close(values(found, "first", f"gradient{suffix}"), shared, 1e-12)
    assert [name for name in found if "gradient" in found[name].signals] == [
        "first", "twice", "frozen", "heads.main", "heads.side",
    ]  # fmt: skip
    assert not model.frozen.weight.requires_grad


def test_that_model_is_recorded_without_changing_a_bit(tmp_path, device):
    def run(path):
        torch.manual_seed(0)
        model, batch = convert(Odd().double(), seed=1).to(device), on(device, (X, Y))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
        options = {"probes": {"probe": Probe(batch, odd_loss)}, "every": 1, "live": Live(every=1)}
        recorder = None if path is None else Recorder(model, path, optimizer=optimizer, **options)
        for _ in range(3):
            optimizer.zero_grad()
            odd_loss(model, batch).backward()
            optimizer.step()
            if recorder is not None:
                recorder.step()
        if recorder is not None:
            recorder.close()
        return model.state_dict()

    bare, recorded = run(None), run(tmp_path / "run.zarr")
    for name, tensor in bare.items():
        assert torch.equal(tensor, recorded[name]), name
    store = open_run(tmp_path / "run.zarr")
    assert set(store["state"].children) == {"first", "twice", "frozen", "heads.main", "heads.side"}
    assert "update" in store["state/frozen"]
    assert not store["state/frozen/update"].values[:-1].any()
    for name in store["live"].children:
        np.testing.assert_allclose(
            store[f"live/{name}/error"].values, store[f"probe/{name}/error"].values[:-1], rtol=0, atol=1e-15
        )


def test_checkpointed_blocks_are_recorded_once_and_with_the_same_numbers(tmp_path, device):
    class Deep(nn.Module):
        def __init__(self, saving):
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.ReLU(inplace=True)) for _ in range(3)
            )
            self.out = nn.Linear(6, 3)
            self.saving = saving

        def forward(self, x):
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.saving else block(x)
            return self.out(x)

    runs = []
    for saving in (False, True):
        torch.manual_seed(0)
        model, batch = convert(Deep(saving).double()).to(device), on(device, (X, Y))
        probe, path = Probe(batch, loss_of, mode="train", redraws=1), tmp_path / f"{saving}.zarr"
        with Recorder(model, path, probes={"probe": probe}, live=Live(every=1)) as recorder:
            torch.manual_seed(7)
            loss_of(model, batch).backward()
            recorder.step()
        runs.append(open_run(path))
    plain, saved = runs
    for stream, signals in (
        ("probe", (*SIGNALS, "error_bp")),
        ("live", ("activation", "modulator", "error")),
    ):
        assert list(plain[stream].children) == list(saved[stream].children)
        assert len(plain[stream].children) == 4
        for name in plain[stream].children:
            for signal in signals:
                array = saved[f"{stream}/{name}/{signal}"].values
                assert array.any()
                np.testing.assert_array_equal(array, plain[f"{stream}/{name}/{signal}"].values)


# Compiled models. The eager backend is dynamo without a compiler: its hooks and guards are the real ones.


def small():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double())


def whole(model):
    return torch.compile(model, backend="eager")


def in_place(model):
    model.compile(backend="eager")
    return model


def in_part(model):
    model[2] = torch.compile(model[2], backend="eager")
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("compiled", [whole, in_place, in_part])
def test_a_compiled_model_is_probed_and_goes_on_compiled(compiled, tmp_path, device):
    model, batch = compiled(small().to(device)), on(device, (X, Y))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(batch[0])  # compiled before the recorder comes
    twin = small().to(device)
    expected = []
    for _ in range(3):
        expected.append(list(read(twin).values()))
        loss = loss_of(twin, batch)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter.sub_(0.1 * gradient)
    closure = Probe(batch, lambda _, batch: loss_of(model, batch))
    probes = {"probe": Probe(batch, loss_of), "closure": closure}
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, probes=probes, every=1) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            recorder.step()
    run = open_run(tmp_path / "run.zarr")
    for stream in probes:
        for i, name in enumerate(run[stream].children):
            for signal in ("error", "error_bp", "gradient"):
                found = run[f"{stream}/{name}/{signal}"].values
                true = [layers[i].signals[signal].array for layers in expected]
                np.testing.assert_allclose(found, true, rtol=0, atol=1e-15)
    inner = getattr(model, "_orig_mod", model)
    assert not any(m._forward_hooks for m in inner.modules())
    if compiled is in_place:
        assert model._compiled_call_impl is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("compiled", [whole, in_place, in_part])
def test_live_on_a_compiled_model_is_refused(compiled, tmp_path):
    with pytest.raises(CaptureError, match=r"compiled model cannot be recorded.*train the model uncompiled"):
        Recorder(compiled(small()), tmp_path / "run.zarr", live=Live())
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("steps", [[0, 1], [1]])
@pytest.mark.parametrize("compiled", [whole, in_place])
def test_live_signals_of_a_model_compiled_later_are_right_or_it_is_told(compiled, steps, tmp_path, device):
    model, batch = small().to(device), on(device, (X, Y))
    # Whether the hooks fire depends on what dynamo has compiled before. They are never wrong without a word.
    try:
        with Recorder(model, tmp_path / "run.zarr", live=Live(["error"], every=steps)) as recorder:
            model = compiled(model)
            for _ in range(2):
                loss_of(model, batch).backward()
                recorder.step()
    except CaptureError as told:
        assert "saw no backward pass" in str(told)  # noqa: PT017
        return
    run = open_run(tmp_path / "run.zarr")
    for name, layer in read(small().to(device)).items():
        errors = run[f"live/{name}/error"].values
        assert len(errors) == len(steps)
        for error in errors:
            np.testing.assert_array_equal(error, layer.signals["error"].array)


# On any device.


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_signals_on_any_device_are_those_on_the_cpu(kind, device):
    found = []
    for place in ("cpu", device):
        torch.manual_seed(0)
        if kind == "mlp":
            body = [nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(inplace=True), nn.Linear(9, 3)]
        else:
            body = [nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
                    nn.Linear(24, 3)]  # fmt: skip
        model = convert(nn.Sequential(*body).double()).to(place)
        found.append(read(model, mode="train", redraws=2, gate_draws=2))
    for name, layer in found[0].items():
        for signal, value in layer.signals.items():
            np.testing.assert_allclose(values(found[1], name, signal), value.array, rtol=1e-6, atol=1e-10)


def test_arrays_from_any_device_are_whole_when_they_are_given(device):
    tensors = [torch.randn(64, 1000 + n).to(device).T for n in range(20)]
    products = [tensor @ tensor.T for tensor in tensors]  # a GPU is at them when the copies are asked for
    for product, array in zip(products, to_arrays(products), strict=True):
        np.testing.assert_array_equal(array, product.cpu().numpy())


def test_recording_changes_no_bit_on_any_device(tmp_path, device):
    def run(path):
        torch.manual_seed(0)  # of all devices
        model = convert(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3)))
        model, batch = model.to(device), on(device, (X.float(), Y))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        options = {"probes": {"probe": Probe(batch, loss_of, mode="train", redraws=1)}, "live": Live(every=1)}
        recorder = None if path is None else Recorder(model, path, optimizer=optimizer, every=1, **options)
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            if recorder is not None:
                recorder.step()
        if recorder is not None:
            recorder.close()
        return dict(model.state_dict()) | {"rng": torch.rand(3, device=device)}

    bare, recorded = run(None), run(tmp_path / "run.zarr")
    for name, tensor in bare.items():
        assert torch.equal(tensor, recorded[name]), name
    assert open_run(tmp_path / "run.zarr")["live/0/error"].values.any()
