"""The modulator is the credit that a layer receives before its gate, or is left out with a reason."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.analysis import analyze
from fadiag.capture import LayerAdapter, Live, Probe, Recorder, direct_hooks
from fadiag.errors import CaptureWarning
from fadiag.store import inspect_run, open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16, torch.float64)


class DFAReLU(nn.ReLU):
    """A gate whose hook returns the error times F, after the gate's mask."""

    def __init__(self, top, kind="buffer"):
        super().__init__()
        self.top, F = top, torch.randn(3, 8, dtype=torch.float64)
        self.register_parameter("F", nn.Parameter(F, False)) if kind == "parameter" else None
        self.register_buffer("F", F) if kind == "buffer" else None
        if kind == "attribute":
            self.F = F
        self.register_full_backward_hook(self.back)

    def forward(self, a):
        self.mask = (a.detach() > 0).double()
        return torch.relu(a)

    @staticmethod
    def back(module, given, error):
        return (module.top["error"] @ module.F * module.mask,)


class SentReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, F, top):
        ctx.F, ctx.mask, ctx.top = F, a > 0, top
        return a.relu()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.top["error"] @ ctx.F * ctx.mask, None, None


class FunctionReLU(nn.ReLU):
    """The same by an autograd function in the place of the hook."""

    def __init__(self, top, kind="parameter"):
        super().__init__()
        self.F, self.top = nn.Parameter(torch.randn(3, 8, dtype=torch.float64), False), top
        self.off = False

    def forward(self, a):
        return a.relu() if self.off else SentReLU.apply(a, self.F, self.top)


class Net(nn.Module):
    def __init__(self, gate):
        super().__init__()
        torch.manual_seed(0)
        self.top = {}
        self.fc1, self.fc2, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.act1, self.act2 = gate(self.top), gate(self.top)
        self.double()

    def forward(self, x):
        y = self.out(self.act2(self.fc2(self.act1(self.fc1(x)))))
        if y.requires_grad:
            y.register_hook(lambda error: self.top.update(error=error))
        return y


@contextmanager
def swapped(module, matrix):
    held = module._parameters if "F" in module._parameters else module._buffers
    own, held["F"] = held["F"], matrix
    try:
        yield
    finally:
        held["F"] = own


@contextmanager
def without_hooks(module):
    own, module._backward_hooks = module._backward_hooks, type(module._backward_hooks)()
    try:
        yield
    finally:
        module._backward_hooks = own


@contextmanager
def switched_off(module):
    module.off = True
    try:
        yield
    finally:
        module.off = False


def by_hand(cls, exact):
    return LayerAdapter((cls,), None, lambda m: m.F, "direct", swapped, exact=exact)


def record(net, path, *, updates=1, **options):
    """Record, and return the store and the texts of all warnings."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    options = {"probes": {"probe": Probe((X, Y), loss_of, gate_draws=3)}} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder(net, path, optimizer=optimizer, every=1, live=Live(every=1), **options) as recorder:
            for _ in range(updates):
                optimizer.zero_grad()
                loss_of(net, (X, Y)).backward()
                optimizer.step()
                recorder.step()
    return open_run(path), [str(warning.message) for warning in caught]


CASES = {
    "hooks": (DFAReLU, direct_hooks(DFAReLU, feedback="F")),
    "hooks, F a parameter": (
        lambda top: DFAReLU(top, "parameter"),
        direct_hooks(DFAReLU, feedback="F"),
    ),
    "hooks, F an attribute": (
        lambda top: DFAReLU(top, "attribute"),
        direct_hooks(DFAReLU, feedback="F"),
    ),
    "own adapter": (DFAReLU, by_hand(DFAReLU, without_hooks)),
    "function": (FunctionReLU, by_hand(FunctionReLU, switched_off)),
}


@pytest.mark.parametrize("case", CASES)
def test_direct_feedback_behind_the_gate_has_no_modulator(case, tmp_path):
    gate, adapter = CASES[case]
    net = Net(gate)
    weights = [p.detach().clone() for p in (net.fc1.weight, net.fc1.bias)]
    run, said = record(net, tmp_path / "run.zarr", adapters=(adapter,))
    for stream in ("probe", "live"):
        for name in ("fc1", "fc2"):
            held = run[f"{stream}/{name}"]
            assert "modulator" not in held
            assert "error_post" not in held
            assert "replaces the gradient" in held.attrs["no_modulator"]
            assert held.attrs["feedback_kind"] == "direct"
        assert "no_modulator" not in run[f"{stream}/out"].attrs
        assert len([text for text in said if "no modulator" in text and stream in text]) == 1
    assert "gate_null_spectrum_raw" not in run["probe/fc1"]
    # What is recorded is right: error = e F mask, error_bp and the gate's output.
    a = X @ weights[0].T + weights[1]
    e, F = run["probe/out/error"][0].values, net.act1.F.detach().numpy()
    expected = e @ F * (a.numpy() > 0)
    np.testing.assert_allclose(run["probe/fc1/error"][0], expected, atol=1e-15)
    np.testing.assert_allclose(run["probe/fc1/activation"][0], a.relu(), atol=1e-15)
    assert run["probe/fc1"].attrs["error_bp_check"] == "passed"
    assert "modulator_bp" in run["probe/fc1"]
    table = inspect_run(tmp_path / "run.zarr").layer_table()
    assert "no modulator of fc1, fc2: a backward hook or function" in table
    results = analyze(tmp_path / "run.zarr")["probe"]
    assert np.isnan(results["modulator_cosine"].sel(layer=["fc1", "fc2"])).all()
    assert "replaces the gradient" in results["modulator_cosine"].attrs["not_a_number"]


def test_hooks_on_plain_gates_without_an_adapter_are_a_hook(tmp_path):
    net = Net(lambda top: nn.ReLU())
    net.F = torch.randn(3, 8, dtype=torch.float64)
    masks = {}
    for gate in (net.act1, net.act2):
        gate.register_forward_hook(lambda m, given, h: masks.update({m: (h.detach() > 0).double()}))
        gate.register_full_backward_hook(lambda m, given, got: (net.top["error"] @ net.F * masks[m],))
    probes = {"probe": Probe((X, Y), loss_of, redraws=3)}
    run, said = record(net, tmp_path / "run.zarr", probes=probes)
    kinds = {name: run[f"probe/{name}"].attrs["feedback_kind"] for name in ("fc1", "fc2", "out")}
    assert kinds == {"fc1": "hook", "fc2": "hook", "out": "exact"}
    assert "modulator" not in run["probe/fc1"]
    assert run["live/fc1"].attrs["feedback_kind"] == "hook"
    (undrawn,) = [text for text in said if "redraws" in text]
    assert "redraws=3 draws nothing, since no adapter knows a feedback to redraw" in undrawn
    assert "'act1' and 'act2'" in undrawn or "'act1', 'act2'" in undrawn


@pytest.mark.parametrize("middle", ["gate", "layer", "norm"])
def test_hooks_that_only_look_keep_the_modulator(middle, tmp_path):
    def net():
        torch.manual_seed(0)
        modules = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3)
        return nn.Sequential(*modules).double()

    plain, _ = record(net(), tmp_path / "plain.zarr")
    hooked = net()
    module = hooked[{"layer": 0, "norm": 1, "gate": 2}[middle]]
    module.register_full_backward_hook(lambda module, given, got: None)
    module.register_full_backward_pre_hook(lambda module, got: None)
    run, said = record(hooked, tmp_path / "run.zarr")
    assert not [text for text in said if "modulator" in text]
    for signal in ("probe/0/modulator", "probe/0/error_post", "live/0/modulator"):
        assert run[signal].values.any()
        np.testing.assert_array_equal(run[signal], plain[signal])


def test_a_pre_hook_on_a_gate_gives_the_credit_itself(tmp_path):
    net = Net(lambda top: nn.ReLU())
    net.F = torch.randn(3, 8, dtype=torch.float64)
    for gate in (net.act1, net.act2):
        gate.register_full_backward_pre_hook(lambda m, got: (net.top["error"] @ net.F,))
    run, _ = record(net, tmp_path / "run.zarr")
    expected = run["probe/out/error"][0].values @ net.F.numpy()
    np.testing.assert_allclose(run["probe/fc1/modulator"][0], expected, atol=1e-15)


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_a_gate_that_owns_a_matrix_is_a_gate(kind, tmp_path):
    net = Net(lambda top: DFAReLU(top, kind))
    weights = [p.detach().clone() for p in (net.fc1.weight, net.fc1.bias)]
    run, said = record(net, tmp_path / "run.zarr")
    held = run["probe/fc1"]
    assert held.attrs["gate"] == "DFAReLU"
    assert "modulator" not in held
    np.testing.assert_allclose(held["activation"][0], (X @ weights[0].T + weights[1]).relu(), atol=1e-15)
    assert not [text for text in said if "not recorded, since no adapter knows" in text]


def test_a_warning_is_given_at_attach(tmp_path):
    probes = {"probe": Probe((X, Y), loss_of)}
    with pytest.warns(CaptureWarning, match=r"no modulator, error_post and gate null of 'fc1', 'fc2' in"):
        Recorder(
            Net(DFAReLU),
            tmp_path / "run.zarr",
            probes=probes,
            adapters=(direct_hooks(DFAReLU, feedback="F"),),
        ).close()
