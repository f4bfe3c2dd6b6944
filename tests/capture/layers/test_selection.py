"""Test unknown layers, layers that are never called, layers with hooks, and transposed kernels."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import Live, Probe, Recorder, exact_layers
from fadiag.capture.layers.selection import choose_layers
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

N = 8
X, Y = labelled(N, torch.float64)
B = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)
    ).double()  # fmt: skip


def record(model, path, batch=(X, Y), **options):
    """Record step 0, and one step of training where something is heard live."""
    probe = {
        key: options.pop(key)
        for key in ("signals", "feedbacks", "jacobian_vectors", "gate_draws")
        if key in options
    }
    probes = {"probe": Probe(batch, loss_of, **probe)}
    with Recorder(model, path, probes=probes, **options) as recorder:
        if "live" in options:
            loss_of(model, batch).backward()
            recorder.step()
    return open_run(path)


# Backward hooks.


@pytest.mark.parametrize("kind", ["hook", "pre-hook"])
def test_the_true_pass_is_that_of_backpropagation_whatever_backward_hooks_do(kind, tmp_path):
    true = record(mlp(), tmp_path / "true.zarr")
    model = mlp()
    if kind == "hook":
        model[2].register_full_backward_hook(lambda module, taken, given: (given[0] @ B,))
    else:
        model[2].register_full_backward_pre_hook(lambda module, given: (given[0] @ B,))
    hooks = [dict(m._backward_hooks) | dict(m._backward_pre_hooks) for m in model]
    feedbacks = {"same": {"2": model[2].weight.detach()}}
    run = record(model, tmp_path / "run.zarr", feedbacks=feedbacks, jacobian_vectors=3)
    assert hooks == [dict(m._backward_hooks) | dict(m._backward_pre_hooks) for m in model]
    for name in ("0", "2", "4"):
        for suffix in ("_bp", "_same"):
            found, expected = (
                r[f"probe/{name}/{s}"].values for r, s in ((run, "error" + suffix), (true, "error"))
            )
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    error = run["probe/0/error"].values
    assert abs(error - true["probe/0/error"].values).max() > 1e-3
    if kind == "hook":
        a = model[0](X)
        expected = (run["probe/2/error"].values[0] @ B.numpy()) * (a.detach().numpy() > 0)
        np.testing.assert_allclose(error[0], expected, rtol=0, atol=1e-15)
    assert run["probe/2"].attrs["feedback_kind"] == "hook"
    assert run["state/2"].attrs["feedback_kind"] == "hook"
    assert run["probe/0"].attrs["feedback_kind"] == "exact"
    assert (run["probe/0/jacobian_cosine"].values < 0.999).any()


def test_the_feedback_of_a_layer_with_a_hook_that_only_looks_stays_known(tmp_path):
    model = convert(mlp())
    seen = []
    model[2].register_full_backward_hook(lambda module, taken, given: seen.append(len(given)))
    run = record(model, tmp_path / "run.zarr")
    assert run["probe/2"].attrs["feedback_kind"] == "layerwise"
    assert seen
    assert abs(run["probe/0/error"].values - run["probe/0/error_bp"].values).max() > 1e-4


# Modules that no adapter knows.


class Aligned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, feedback):
        ctx.save_for_backward(x, feedback)
        return x @ weight.T

    @staticmethod
    def backward(ctx, error):
        x, feedback = ctx.saved_tensors
        return error @ feedback, error.T @ x, None


class HomeMade(nn.Module):
    def __init__(self, taken, given):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(given, taken))
        self.register_buffer("feedback", torch.randn(given, taken))

    def forward(self, x):
        return Aligned.apply(x, self.weight, self.feedback)


def with_home_made():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), HomeMade(5, 3)).double()


def test_a_module_that_no_adapter_knows_is_told_of_and_counted_as_the_last_layer(tmp_path):
    match = r"not recorded, since no adapter knows them: '2' \(HomeMade\)\. .*assumes .*exact: .*exact_layers"
    with pytest.warns(CaptureWarning, match=match) as caught:
        run = record(with_home_made(), tmp_path / "run.zarr", check="off")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert run_info(tmp_path / "run.zarr").manifest["left_out"] == {"2": "HomeMade"}
    for stream in ("probe", "state"):
        attrs = run[f"{stream}/0"].attrs
        assert (attrs["classes"], attrs["layers_in_model"], attrs["order"]) == (3, 2, 0)
    # Said to be left out: no warning, and what needs the last layer says so.
    record(with_home_made(), tmp_path / "chosen.zarr", layers=["0"], check="off")
    model, path = convert(with_home_made(), layers=["0"]), tmp_path / "jacobian.zarr"
    match = r"jacobian_vectors needs the error of the model's last layer, '2', .*add it to .* with an adap"
    with pytest.raises(CaptureError, match=match):
        record(model, path, layers=["0"], jacobian_vectors=2)
    model, path = convert(with_home_made(), layers=["0"]), tmp_path / "gate.zarr"
    run = record(model, path, layers=["0"], gate_draws=1, check="off")
    assert run["probe/0"].attrs["no_gate_null"] == "it is not known what its consumer '2' sends down"


def test_only_modules_with_a_matrix_of_their_own_are_told_of(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()
            self.norm = nn.LayerNorm((N, 6)).double()
            self.prompts = nn.ParameterList([torch.zeros(2, 3)])
            self.place = nn.Parameter(torch.zeros(N, 6))
            self.gate = nn.PReLU(3).double()

        def forward(self, x):
            return self.gate(self.inner(self.norm(x) + self.place))

    record(Odd(), tmp_path / "run.zarr")
    model = Odd()
    model.rnn, model.pairs = nn.LSTM(3, 3), nn.Bilinear(3, 3, 3)
    model.bags = nn.EmbeddingBag(3, 3)
    with pytest.warns(
        CaptureWarning, match=r"'rnn' \(LSTM\), 'pairs' \(Bilinear\), 'bags' \(EmbeddingBag\)\."
    ):
        Recorder(model, tmp_path / "more.zarr").close()


# Kernels.


class Volumes(nn.Module):
    """Conv3d and a transposed convolution, written once more as functions of float64 autograd below."""

    def __init__(self, groups):
        super().__init__()
        self.wide = nn.Conv3d(1, 4, 2)
        self.back = nn.ConvTranspose3d(4, 6, 2, stride=2, groups=groups)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.back(self.wide(x).relu()).tanh().mean((2, 3, 4)))


@pytest.mark.parametrize("groups", [1, 2])
def test_volumes_and_transposed_convolutions_equal_an_autograd_oracle(groups, tmp_path):
    torch.manual_seed(0)
    model = convert(Volumes(groups).double(), layers="out")
    x = torch.randn(N, 1, 3, 4, 3, dtype=torch.float64)
    run = record(model, tmp_path / "run.zarr", (x, Y))
    wide, back, out = model.wide, model.back, model.out
    a1 = functional.conv3d(x, wide.weight, wide.bias)
    a2 = functional.conv_transpose3d(a1.relu(), back.weight, back.bias, stride=2, groups=groups)
    pooled = a2.tanh().mean((2, 3, 4))
    loss = functional.cross_entropy(functional.linear(pooled, out.weight, out.bias), Y)
    errors = torch.autograd.grad(loss, [a1, a2, wide.weight, back.weight], retain_graph=True)
    for name, error in zip(("wide", "back"), errors, strict=False):
        assert run[f"probe/{name}/error_bp"].dims == ("step", "sample", "channel", "depth", "height", "width")
        np.testing.assert_allclose(run[f"probe/{name}/error_bp"].values[0], error, rtol=0, atol=1e-15)
        assert abs(run[f"probe/{name}/error"].values[0] - error.numpy()).max() > 1e-5
    # Row o of the matrix is what output o takes from its group's inputs, entry by entry.
    kernel, gradient = back.weight.detach().numpy(), errors[3].numpy()
    ins, outs = 4 // groups, 6 // groups
    for array, whole in (("static/back/weight_init", kernel), ("probe/back/gradient_bp", gradient)):
        rows = [whole[(o // outs) * ins : (o // outs + 1) * ins, o % outs].ravel() for o in range(6)]
        assert run[array].dims[-2:] == ("out", "in")
        np.testing.assert_allclose(run[array].values.reshape(6, -1), rows, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(run["static/back/bias_init"].values, back.bias.detach())
    attrs = run["probe/back"].attrs
    assert (attrs["out_features"], attrs["in_features"], attrs["feedback_kind"]) == (6, ins * 8, "exact")
    assert run["state/back/weight"].dims == ("step", "out", "in")
    feedbacks = {"b": {"wide": torch.zeros_like(wide.weight)}}
    with pytest.raises(InputError, match=r"a Conv3d is recorded as a layer with an exact backward pass"):
        record(model, tmp_path / "other.zarr", (x, Y), feedbacks=feedbacks)


def test_an_adapter_that_takes_a_kernel_the_wrong_way_round_is_told():
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 3))
    match = (
        "layer '0' is a ConvTranspose2d whose weight (3, 5, 3, 3) has 3 outputs by its adapter's "
        "weight_dims=('out', 'in'), and its bias 5; is it stored transposed? Then give "
        "exact_layers(ConvTranspose2d, weight_dims=('in', 'out'))"
    )
    with pytest.raises(InputError, match=re.escape(match)):
        choose_layers(model, [exact_layers(nn.ConvTranspose2d)], None)
    square = nn.Sequential(nn.ConvTranspose2d(3, 3, 3, bias=False))
    with pytest.raises(InputError, match=r"weight_dims=\('out', 'in'\); is it stored"):
        choose_layers(square, [exact_layers(nn.ConvTranspose2d)], None)
    turned = exact_layers(nn.ConvTranspose2d, weight_dims=("in", "out"))
    assert choose_layers(model, [turned], None)[0].outputs == 5


def test_a_transposed_convolution_with_a_forward_of_its_own_is_refused():
    class Own(nn.ConvTranspose1d):
        def forward(self, x):
            return super().forward(x) / 2

    with pytest.raises(CaptureError, match=r"layer '0' is a Own that overrides the forward pass"):
        Recorder(nn.Sequential(Own(2, 2, 3)), "never.zarr")


def test_a_table_kept_transposed_has_its_bias_along_the_outputs(tmp_path):
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3))

        def forward(self, x):
            return x.float() @ self.weight + self.bias

    adapters = [exact_layers(Transposed, weight_dims=("in", "out"))]
    run = record(nn.Sequential(Transposed()), tmp_path / "run.zarr", adapters=adapters)
    assert dict(run["static/0"].sizes) == {"in": 6, "out": 3}


# Layers without signals.


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)
        self.detached = nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x) + self.detached(x).detach()


def test_layers_without_signals_are_refused_by_name_and_told_of_otherwise(tmp_path):
    model = Partly().double()
    for name, why in (("unused", "is never called in"), ("detached", r"receives no error in")):
        for chosen in ([name, "used"], [model.used, model.get_submodule(name)]):
            match = (
                rf"layer '{name}' was asked for by name and {why} the pass of probe 'probe'.*leave it out of"
            )
            with pytest.raises(CaptureError, match=match):
                record(model, tmp_path / "run.zarr", layers=chosen)
    assert not (tmp_path / "run.zarr").exists()
    match = (
        r"in the pass of probe 'probe': 'unused' is never called \(outside of no_grad\), "
        r"'detached' receives no error \(its output"
    )
    for i, chosen in enumerate((None, ["*"], [nn.Linear])):
        with pytest.warns(CaptureWarning, match=match):
            record(model, tmp_path / f"{i}.zarr", layers=chosen)
    # Nothing of the backward pass was asked for, so nothing is missed.
    record(model, tmp_path / "forward.zarr", layers=["used", "detached"], signals="activation")


def test_layers_without_live_signals_are_told_of_at_the_end(tmp_path):
    options = {"live": Live(["activation", "error"], every=1), "signals": ["activation"]}
    named = {"layers": ["used", "detached"], **options}
    match = r"layer 'detached' was asked for by name and receives no error in the training's own passes"
    with pytest.raises(CaptureError, match=match):
        record(Partly().double(), tmp_path / "run.zarr", **named)
    assert open_run(tmp_path / "run.zarr").attrs["status"] == "complete"
    with pytest.warns(CaptureWarning) as caught:
        record(Partly().double(), tmp_path / "all.zarr", **options)
    assert "own passes (live): 'unused' is never called (outside of no_grad)" in str(caught[-1].message)


# What is handed over.


def test_layers_may_be_modules_of_the_model(tmp_path):
    model = mlp()
    for i, chosen in enumerate((model[2], [model[2]], [model[2], "2"])):
        assert list(record(model, tmp_path / f"{i}.zarr", layers=chosen)["probe"].children) == ["2"]
    for chosen, match in (
        ([nn.Linear(1, 1)], "layers holds a Linear that is no module of the model"),
        ([model[1]], "layer '1' is a ReLU, for which there is no adapter"),
        ([3], "layers holds 3, a int; give names, globs, modules or their classes"),
    ):
        with pytest.raises(InputError, match=match):
            record(model, tmp_path / "run.zarr", layers=chosen)


def test_arguments_are_taken_as_they_are_meant_or_told(tmp_path):
    model, probe = mlp(), Probe((X, Y), loss_of, signals="error")
    for probes, kind in ((probe, "Probe"), ([probe], "list")):
        with pytest.raises(InputError, match=rf"probes is a {kind}; give them by name, probes=\{{'probe': P"):
            Recorder(model, tmp_path / "run.zarr", probes=probes)
    counts = {name: np.int64(2) for name in ("redraws", "gate_draws", "jacobian_vectors", "seed", "rows")}
    probe = Probe((X, Y), loss_of, signals="error", every=np.arange(0, 10, 5), **counts)
    options = {"state": "weight", "live": Live("error", every=np.int64(2)), "steps": np.int64(3)}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    path = tmp_path / "run.zarr"
    with Recorder(
        model, path, probes={"p": probe}, every=np.int32(3), optimizer=optimizer, **options
    ) as recorder:
        for _ in range(6):
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    run = open_run(path)
    assert [list(run[s]["step"].values) for s in ("p", "state", "live")] == [[0, 5, 6], [0, 3, 6], [0, 2, 4]]
    assert "error" in run["p/0"]
    assert "activation" not in run["p/0"]
    assert list(run["state/0"].data_vars) == ["weight"]
    for bad in (
        {"redraws": True},
        {"redraws": np.bool_(True)},
        {"rows": True},
        {"seed": "a"},
        {"every": True},
    ):
        what = next(iter(bad))
        with pytest.raises(InputError, match=f"{what} is "):
            Probe((X, Y), loss_of, **bad)
    with pytest.raises(InputError, match=r"step .*True.* is listed"):
        Probe((X, Y), loss_of, every=[np.bool_(True)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrappers_are_taken_off_however_they_are_nested(tmp_path):
    model = mlp()
    compiled = torch.compile(model, backend="eager")
    for i, wrapped in enumerate(
        (
            nn.DataParallel(compiled),
            torch.compile(nn.DataParallel(model)),
            nn.DataParallel(nn.DataParallel(compiled)),
        )
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", CaptureWarning)
            Recorder(wrapped, tmp_path / f"{i}.zarr").close()
        assert list(open_run(tmp_path / f"{i}.zarr")["state"].children) == ["0", "2", "4"]
