"""Compare models with declared pass-through or gate operations with a manual autograd computation."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureWarning, InputError
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16, torch.float64)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def new_gelu(x):
    return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * torch.pow(x, 3))))


def in_place_swish(x):
    return x.clone().mul_(torch.sigmoid(x))


def halves(x):
    return torch.cat(list(x.chunk(2, 1)), 1) * 1.0


class NewGELU(nn.Module):
    def forward(self, x):
        return new_gelu(x)


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(torch.sigmoid(x.detach()))


class Net(nn.Module):
    """Two layers; gate and pass are functions or modules."""

    def __init__(self, gate, passing=None):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 8).double(), nn.Linear(8, 3).double()
        self.gate, self.passing = gate, passing or (lambda h: h)

    def forward(self, x):
        return self.b(self.passing(self.gate(self.a(x))))

    def by_hand(self):
        """The activation, the modulator and the error_post of the layer a, by autograd."""
        a = self.a(X).detach()
        z = a.clone().requires_grad_()
        h = self.gate(z.clone())
        h.retain_grad()
        functional.cross_entropy(self.b(self.passing(h)), Y).backward()
        return {"activation": h.detach(), "modulator": h.grad, "error_post": z.grad, "error": z.grad}


CASES = {
    "identity function": (torch.tanh, Identity.apply, {"passes": (Identity.apply,)}, "tanh"),
    "its class": (torch.relu, Identity.apply, {"passes": (Identity,)}, "relu"),
    "function as gate": (Square.apply, None, {"gates": (Square,)}, "Square"),
    "module as gate": (NewGELU(), None, {"gates": (NewGELU,)}, "NewGELU"),
    "module in place": (InPlace(), None, {"gates": (InPlace,)}, "InPlace"),
    "python function": (new_gelu, None, {"gates": (new_gelu,)}, "new_gelu"),
    "python function in place": (in_place_swish, None, {"gates": [in_place_swish]}, "in_place_swish"),
    "torch's function": (torch.sinh, None, {"gates": (torch.sinh,)}, "sinh"),
    "module and function": (
        NewGELU(),
        Identity.apply,
        {"gates": (NewGELU,), "passes": (Identity.apply,)},
        "NewGELU",
    ),
    "python function that passes": (torch.tanh, halves, {"passes": (halves,)}, "tanh"),
}


@pytest.mark.parametrize("case", CASES)
def test_signals_of_a_declared_layer_are_autograds(case, tmp_path):
    gate, passing, options, name = CASES[case]
    net = Net(gate, passing)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    expected = net.by_hand()
    optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CaptureWarning)
        live = Live(signals=("activation", "modulator", "error_post", "error"))
        with Recorder(
            net,
            tmp_path / "run.zarr",
            optimizer=optimizer,
            check="off",  # InPlace detaches its factor, so its backward pass is not the loss's derivative
            probes={"p": Probe((X, Y), loss_of)},
            live=live,
            **options,
        ) as recorder:
            loss_of(net, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    run = open_run(tmp_path / "run.zarr")
    for stream in ("p", "live"):
        assert run[f"{stream}/a"].attrs["gate"] == name
        for signal, value in expected.items():
            torch.testing.assert_close(
                torch.from_numpy(run[f"{stream}/a/{signal}"].values[0]), value, rtol=1e-12, atol=1e-15
            )


def test_the_warning_of_an_unknown_gate_names_this_way_out(tmp_path):
    probes = {"p": Probe((X, Y), loss_of)}
    with pytest.warns(CaptureWarning, match=r"Recorder\(passes=\.\.\., gates=\.\.\.\)"):
        Recorder(Net(torch.tanh, Identity.apply), tmp_path / "run.zarr", probes=probes).close()
    assert "activation" not in open_run(tmp_path / "run.zarr")["p/a"]


def test_two_calls_of_a_declared_function_are_two_gates(tmp_path):
    net = nn.Sequential(Net(new_gelu), Net(new_gelu))
    net[0].b = nn.Linear(8, 6).double()
    with Recorder(net, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}, gates=(new_gelu,)):
        pass
    run = open_run(tmp_path / "run.zarr")["p"]
    assert [run[name].attrs["gate"] for name in ("0.a", "0.b", "1.a", "1.b")] == [
        "new_gelu",
        "",
        "new_gelu",
        "",
    ]
    inner = net[0](X)
    expected = new_gelu(net[1].a(inner)).detach()
    torch.testing.assert_close(torch.from_numpy(run["1.a/activation"].values[0]), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gates": (nn.GELU,)}, "no such module"),
        ({"gates": ("relu",)}, "'relu'; give autograd functions"),
        ({"gates": NewGELU}, r"give a tuple, gates=\(NewGELU,\)"),
        ({"gates": (NewGELU,), "passes": (NewGELU,)}, "in passes and in gates"),
        ({"gates": (Net,)}, "has a recorded layer inside"),
    ],
)
def test_entries_that_mean_nothing_are_refused(options, match, tmp_path):
    with pytest.raises(InputError, match=match):
        Recorder(Net(NewGELU()), tmp_path / "run.zarr", **options)
    assert not (tmp_path / "run.zarr").exists()
