"""Our own DFA and DRTP, recorded: against float64 numpy, on an MLP, a CNN and a net with 3-D input."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fadiag.analysis import analyze
from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.layers.own_layers import own_direct_layers
from fadiag.rules import convert, targets
from fadiag.store import open_run
from fadiag.testing import check_adapter

N, CLASSES = 12, 3
Y = torch.arange(N) % CLASSES


def mlp():
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, CLASSES)
    )


def cnn():
    """A pool between the convolution and its consumer."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Tanh(),
        nn.Linear(5, CLASSES),
    )


def three_d():
    """Linear layers over positions, and a mean over them before the last."""
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(),
        nn.Linear(8, 4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(20, CLASSES),
    )


NETS = {"mlp": (mlp, (6,)), "cnn": (cnn, (2, 4, 4)), "three_d": (three_d, (5, 6))}


def batch_of(net):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, *NETS[net][1], generator=generator, dtype=torch.float64), Y


def network(net, rule):
    torch.manual_seed(0)
    return convert(NETS[net][0]().double(), rule, seed=3, example=batch_of(net)[0])


def loss_of(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def loss_with_targets(model, batch):
    with targets(model, batch[1]):
        return loss_of(model, batch)


LOSSES = {"dfa": loss_of, "drtp": loss_with_targets}


def record(model, net, rule, path, **options):
    probe = Probe(batch_of(net), LOSSES[rule], redraws=19, gate_draws=5)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    options = {"optimizer": optimizer, "probes": {"probe": probe}, "every": 1} | options
    with Recorder(model, path, live=Live(every=1), **options) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            LOSSES[rule](model, batch_of(net)).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


def numbers(run, path):
    return run[path].values.astype(np.float64)


def relu(a, gradient):
    return gradient.reshape(a.shape) * (a > 0)


def tanh(a, gradient):
    return gradient.reshape(a.shape) * (1 - np.tanh(a) ** 2)


def max_pool(a, gradient):
    """Send the gradient of a 2 x 2 max-pool to the largest entry of each window."""
    n, c, rows, columns = a.shape
    windows = a.reshape(n, c, rows // 2, 2, columns // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4)
    sent = np.zeros_like(windows)
    sent[np.arange(len(windows)), windows.argmax(1)] = gradient.ravel()
    return sent.reshape(n, c, rows // 2, columns // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(a.shape)


#: For each net: its layers, and how the credit at the input of each consumer reaches the layer below.
PATHS = {
    "mlp": (("0", "2", "4"), (relu, tanh)),
    "cnn": (("0", "4", "6"), (lambda a, g: relu(a, max_pool(np.maximum(a, 0), g)), tanh)),
    "three_d": (("0", "2", "5"), (relu, tanh)),
}


@pytest.mark.parametrize("rule", ["dfa", "drtp"])
@pytest.mark.parametrize("net", NETS)
def test_errors_are_the_rules_in_numpy_and_error_bp_is_backpropagations(net, rule, tmp_path):
    model = network(net, rule)
    shown = []
    handles = [
        layer.register_forward_hook(lambda m, i, o: shown.append(o.detach().numpy().copy()))
        for layer in model
        if hasattr(layer, "feedback")
    ]
    with torch.no_grad():
        logits = model(batch_of(net)[0]).numpy()
    for handle in handles:
        handle.remove()
    true = nn.Sequential(*NETS[net][0]()).double()
    true.load_state_dict({k: v for k, v in model.state_dict().items() if "feedback" not in k})
    run = record(model, net, rule, tmp_path / "run.zarr")
    names, paths = PATHS[net]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    one_hot = np.eye(CLASSES)[Y.numpy()]
    top = (p - one_hot) / N
    sent = top if rule == "dfa" else -one_hot / N
    np.testing.assert_allclose(run[f"probe/{names[-1]}/error"].values[0], top, atol=1e-14)
    for name, path, a in zip(names, paths, shown, strict=False):
        f = numbers(run, f"static/{name}/feedback")
        expected = path(a, sent @ f)
        for stream in ("probe", "live"):
            got = run[f"{stream}/{name}/error"].values[0]
            np.testing.assert_allclose(got, expected, atol=1e-14)
        assert run[f"probe/{name}"].attrs["feedback_kind"] == "direct"
        assert run[f"probe/{name}"].attrs["error_bp_check"] == "passed"
        assert "sends direct feedback to it" in run[f"probe/{name}"].attrs["no_gate_null"]
    # Backpropagation, by torch's own layers.
    true[1] = nn.ReLU()
    outputs: list[torch.Tensor] = []
    for name in names:
        true[int(name)].register_forward_hook(lambda m, i, o: outputs.append(o.requires_grad_()))
    loss = loss_of(true, batch_of(net))
    errors = torch.autograd.grad(loss, outputs)
    for name, error in zip(names, errors, strict=True):
        np.testing.assert_allclose(run[f"probe/{name}/error_bp"].values[0], error, atol=1e-14)
    assert abs(run[f"probe/{names[0]}/error"].values[0] - errors[0].numpy()).max() > 1e-3
    null = run[f"probe/{names[0]}/error_null_cosine"].values[0]
    assert len(np.unique(null)) == 19
    assert "path_alignment" not in analyze(tmp_path / "run.zarr")["state"]


@pytest.mark.parametrize("rule", ["dfa", "drtp"])
def test_recording_changes_nothing(rule, tmp_path):
    model = network("mlp", rule)
    other = copy.deepcopy(model)
    record(model, "mlp", rule, tmp_path / "run.zarr")
    optimizer = torch.optim.SGD(other.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        LOSSES[rule](other, batch_of("mlp")).backward()
        optimizer.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_adapter_passes_its_check():
    layer = convert(nn.Linear(6, CLASSES), "dfa", example=torch.ones(N, 6))
    check_adapter(own_direct_layers, layer, torch.randn(N, 6))
    model = network("mlp", "drtp").float()
    with targets(model, Y):
        check_adapter(own_direct_layers, model[2], torch.randn(N, 8))


class Residual(nn.Module):
    """h1 goes to fc2 and around it, so F is no layer's whole credit."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 8)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x):
        h1 = self.fc1(x).relu()
        return self.out((h1 + self.fc3(self.fc2(h1).relu())).relu())


def test_across_a_skip_each_layer_keeps_the_feedback_of_its_own_input(tmp_path):
    batch = (torch.randn(N, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), Y)
    torch.manual_seed(0)
    model = convert(Residual().double(), "dfa", seed=3, example=batch[0])
    probe = Probe(batch, loss_of, redraws=2, gate_draws=2)
    Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, every=1).close()
    run = open_run(tmp_path / "run.zarr").load()

    # By hand: the skip is exact, and each layer's input gets the outputs' error times its F.
    with torch.no_grad():
        h1 = model.fc1(batch[0]).relu()
        h2 = model.fc2(h1).relu()
        a3 = model.fc3(h2)
        top = (h1 + a3).relu()
        delta = (model.out(top).softmax(1) - torch.eye(CLASSES, dtype=torch.float64)[Y]) / N
        joined = delta @ model.out.feedback * (top > 0)
        expected = {
            "out": delta,
            "fc3": joined,
            "fc2": delta @ model.fc3.feedback * (h2 > 0),
            "fc1": (delta @ model.fc2.feedback + joined) * (h1 > 0),
        }
    for name, error in expected.items():
        np.testing.assert_allclose(run[f"probe/{name}/error"][0], error.numpy(), atol=1e-15)
        assert run[f"probe/{name}"].attrs["error_bp_check"] == "passed"
        drawn = run[f"probe/{name}/error_null_cosine"][0].values
        assert (drawn == 1).all() if name == "out" else drawn[0] != drawn[1]
        assert (
            run[f"probe/{name}"]
            .attrs.get("no_gate_null", "")
            .endswith(
                {"out": "no layer reads its output", "fc3": "its consumer 'out' sends direct feedback"}.get(
                    name, "sends direct feedback"
                )
            )
        )
    for name in ("fc2", "fc3", "out"):
        place = run[f"static/{name}"]
        assert np.array_equal(place["feedback"], getattr(model, name).feedback)
        assert run[f"probe/{name}"].attrs["feedback_kind"] == "direct_input"
        assert place["feedback"].attrs["sender"] == name
    assert run["probe/fc1"].attrs["feedback_kind"] == "exact"
    # A chain's metrics of direct feedback do not apply.
    measured = analyze(tmp_path / "run.zarr")["probe"]
    assert not [name for name in measured.data_vars if "direct" in name]
