"""Compare direct feedback (DFA, DRTP) in several public coding styles with a float64 recursion in numpy."""

import contextlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.analysis import analyze
from fadiag.capture import LayerAdapter, Live, Probe, Recorder, direct_hooks, direct_identity, direct_layers
from fadiag.errors import CaptureError, InputError, MissingSignalError
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

WIDTHS = (6, 8, 7, 3)
SAMPLES = 16
X, Y = labelled(SAMPLES, torch.float64)
ONE_HOT = functional.one_hot(Y, 3).double()


class Sent(torch.autograd.Function):
    """The identity; backward it sends what a function says times F."""

    @staticmethod
    def forward(ctx, x, feedback, error):
        ctx.feedback, ctx.error = feedback, error
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.error() @ ctx.feedback, None, None


class SentLinear(torch.autograd.Function):
    """A linear layer whose input gets the error times F."""

    @staticmethod
    def forward(ctx, x, weight, bias, *sent):
        ctx.save_for_backward(x)
        ctx.feedback, ctx.error = sent
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return ctx.error() @ ctx.feedback, gradient.T @ x, gradient.sum(0), None, None


class Hook(nn.Module):
    """An identity function with a module around it, behind a gate."""

    def __init__(self, feedback, error):
        super().__init__()
        self.fixed_fb_weights = nn.Parameter(feedback, requires_grad=False)
        self.error = error

    def forward(self, x):
        return Sent.apply(x, self.fixed_fb_weights, self.error)


class DFALinear(nn.Linear):
    """A consumer that holds F transposed; without F it is exact."""

    def __init__(self, inputs, outputs, feedback, error):
        super().__init__(inputs, outputs)
        self.register_buffer("back", None if feedback is None else feedback.T.clone())
        self.error = error

    def forward(self, x):
        if self.back is None:
            return super().forward(x)
        return SentLinear.apply(x, self.weight, self.bias, self.back.T, self.error)


class Net(nn.Module):
    """Three layers, tanh, with the feedback of one style; ``rule`` is "dfa" or "drtp"."""

    def __init__(self, style, rule="dfa"):
        super().__init__()
        torch.manual_seed(3)
        self.rule, self.top = rule, {}
        feedbacks = [torch.randn(3, n, dtype=torch.float64) / 2 for n in WIDTHS[1:-1]]
        kinds = [nn.Linear(a, b) for a, b in pairwise(WIDTHS)]
        hooks = [nn.Identity(), nn.Identity()]
        if style == "identity":
            hooks = [Hook(f, self.error) for f in feedbacks]
        elif style == "module":
            held = [None, *feedbacks]
            kinds = [DFALinear(a, b, f, self.error) for (a, b), f in zip(pairwise(WIDTHS), held, strict=True)]
        elif style == "hook":
            for layer, f in zip(kinds[1:], feedbacks, strict=True):
                layer.F = f
                layer.register_full_backward_hook(self.replace)
        self.fc1, self.fc2, self.out = kinds
        self.hook1, self.hook2 = hooks
        self.double()

    def replace(self, module, inputs, outputs):
        return (self.error() @ module.F,)

    def error(self):
        return self.top["delta"] if self.rule == "dfa" else -ONE_HOT / SAMPLES

    def forward(self, x):
        h = self.hook1(torch.tanh(self.fc1(x)))
        h = self.hook2(torch.tanh(self.fc2(h)))
        out = self.out(h)
        if out.requires_grad:
            out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


ADAPTERS = {
    "identity": direct_identity(Hook, feedback="fixed_fb_weights"),
    "module": direct_layers(DFALinear, feedback="back", base=nn.Linear, transposed=True),
    "hook": direct_hooks(nn.Linear, feedback="F"),
}


def recorded(net, path, style, *, updates=3, **options):
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    options = {"probes": {"probe": Probe((X, Y), loss_of)}, "adapters": (ADAPTERS[style],)} | options
    with Recorder(net, path, optimizer=optimizer, every=1, live=Live(every=1), **options) as recorder:
        for _ in range(updates):
            optimizer.zero_grad()
            loss_of(net, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


def recursion(weights, biases, feedbacks, rule):
    """Return the errors and modulators of each layer: those of the rule, and backpropagation's."""
    h, before = [X.numpy()], []
    for w, b in zip(weights, biases, strict=True):
        before.append(h[-1] @ w.T + b)
        h.append(np.tanh(before[-1]))
    p = np.exp(before[-1] - before[-1].max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    top = (p - ONE_HOT.numpy()) / SAMPLES
    sent = top if rule == "dfa" else -ONE_HOT.numpy() / SAMPLES
    slopes = [1 - np.tanh(a) ** 2 for a in before[:-1]]
    modulators = [sent @ f for f in feedbacks]
    errors = [m * s for m, s in zip(modulators, slopes, strict=True)]
    true, true_modulators = [top], []
    for w, s in zip(weights[:0:-1], slopes[::-1], strict=True):
        true_modulators.insert(0, true[0] @ w)
        true.insert(0, true_modulators[0] * s)
    return [*errors, top], modulators, true, true_modulators


LAYERS = ("fc1", "fc2", "out")


def numbers(run, path):
    return run[path].values.astype(np.float64)


@pytest.mark.parametrize("rule", ["dfa", "drtp"])
@pytest.mark.parametrize("style", ADAPTERS)
def test_errors_are_those_of_the_rule_and_of_backpropagation(style, rule, tmp_path):
    run = recorded(Net(style, rule), tmp_path / "run.zarr", style)
    feedbacks = [numbers(run, f"static/{name}/feedback") for name in LAYERS[:2]]
    assert [f.shape for f in feedbacks] == [(3, 8), (3, 7)]
    assert run["static/fc1/feedback"].dims == ("output", "consumer_in")
    assert "feedback" not in run["static/out"]
    for step in range(4):
        weights = [numbers(run, f"state/{name}/weight")[step] for name in LAYERS]
        biases = [numbers(run, f"state/{name}/bias")[step] for name in LAYERS]
        errors, modulators, true, true_modulators = recursion(weights, biases, feedbacks, rule)
        for stream in ("probe", "live") if step < 3 else ("probe",):
            for name, error in zip(LAYERS, errors, strict=True):
                np.testing.assert_allclose(run[f"{stream}/{name}/error"][step], error, atol=1e-14)
        for i, name in enumerate(LAYERS):
            np.testing.assert_allclose(run[f"probe/{name}/error_bp"][step], true[i], atol=1e-14)
        for i, name in enumerate(LAYERS[:2]):
            np.testing.assert_allclose(run[f"probe/{name}/modulator"][step], modulators[i], atol=1e-14)
            np.testing.assert_allclose(
                run[f"probe/{name}/modulator_bp"][step], true_modulators[i], atol=1e-14
            )
            assert abs(errors[i] - true[i]).max() > 1e-3
        h = X.numpy()
        np.testing.assert_allclose(run["probe/fc1/gradient"][step], errors[0].T @ h, atol=1e-14)
        np.testing.assert_allclose(run["probe/fc1/gradient_bp"][step], true[0].T @ h, atol=1e-14)
    kinds = {name: run[f"probe/{name}"].attrs["feedback_kind"] for name in LAYERS}
    assert kinds == {"fc1": "direct", "fc2": "direct", "out": "exact"}
    assert run["probe/fc1"].attrs["gate"] == "tanh"


def cosine(a, b):
    return a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("style", ADAPTERS)
def test_all_direct_metrics_of_a_recorded_run(style, tmp_path):
    run = recorded(Net(style), tmp_path / "run.zarr", style)
    state = analyze(tmp_path / "run.zarr")["state"].isel(run=0)
    f1, f2 = (numbers(run, f"static/{name}/feedback") for name in LAYERS[:2])
    start = numbers(run, "static/fc2/weight_init")
    for step in range(4):
        _, w2, w3 = (numbers(run, f"state/{name}/weight")[step] for name in LAYERS)
        change = w2 - start
        matrix = np.linalg.pinv(f2.T) @ change @ np.linalg.pinv(f1)
        residual = 0 if step == 0 else np.linalg.norm(change - f2.T @ matrix @ f1) / np.linalg.norm(change)
        expected = {
            ("path_alignment_direct", "fc1"): cosine(w3 @ w2, f1),
            ("path_alignment_direct", "fc2"): cosine(w3, f2),
            ("weight_feedback_cosine_direct", "fc2"): cosine(w2, f2.T @ f1),
            ("weight_feedback_cosine_direct_output", "out"): cosine(w3, f2),
            ("alignment_matrix_residual", "fc2"): residual,
        }
        for (name, layer), value in expected.items():
            assert float(state[name].sel(layer=layer, step=step)) == pytest.approx(value, abs=1e-12), name
        identity = float(state["alignment_matrix_identity_cosine"].sel(layer="fc2", step=step))
        if 0 < residual <= 0.1:
            assert identity == pytest.approx(cosine(matrix, np.eye(3)), abs=1e-9)
        else:
            assert np.isnan(identity)
    assert not {"path_alignment", "weight_feedback_cosine", "weight_feedback_angle"} & set(state.data_vars)


@pytest.mark.parametrize("style", ADAPTERS)
def test_redrawn_and_other_feedbacks_take_the_place_of_f(style, tmp_path):
    net = Net(style)
    other = torch.randn(3, 8, dtype=torch.float64)
    probe = Probe((X, Y), loss_of, redraws=19, feedbacks={"mine": {"fc1": other}})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Recorder(net, tmp_path / "run.zarr", probes={"probe": probe}, adapters=(ADAPTERS[style],)):
        pass
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    run = open_run(tmp_path / "run.zarr")
    delta = run["probe/out/error"].values[0]
    np.testing.assert_allclose(run["probe/fc1/modulator_mine"].values[0], delta @ other.numpy(), atol=1e-14)
    f2 = numbers(run, "static/fc2/feedback")
    np.testing.assert_allclose(run["probe/fc2/modulator_mine"].values[0], delta @ f2, atol=1e-14)
    null = run["probe/fc1/error_null_cosine"].values[0]
    assert len(np.unique(null)) == 19
    assert np.isnan(run["probe/out/error_null_cosine"].values[0] - 1).sum() == 0


def test_a_probe_leaves_the_training_as_it_is(tmp_path):
    nets = [Net("hook"), Net("hook")]
    recorded(nets[0], tmp_path / "run.zarr", "hook")
    optimizer = torch.optim.SGD(nets[1].parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(nets[1], (X, Y)).backward()
        optimizer.step()
    for one, two in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_run_goes_on_with_its_f_only(tmp_path):
    net = Net("identity")
    recorded(net, tmp_path / "run.zarr", "identity", updates=1)
    run = recorded(net, tmp_path / "run.zarr", "identity", updates=1, resume_from=1)
    assert list(run["probe/step"].values) == [0, 1, 2]
    with torch.no_grad():
        net.hook1.fixed_fb_weights += 1
    with pytest.raises(CaptureError, match="feedback B of layer 'fc1' is not that of"):
        recorded(net, tmp_path / "run.zarr", "identity", resume_from=2)


class Pooled(nn.Module):
    """A convolution, a pool and a flatten below a consumer that holds F: of another size than the layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.top = {}
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.out = DFALinear(4 * 3 * 2, 3, torch.randn(3, 24), lambda: self.top["delta"])
        self.double()

    def forward(self, x):
        image = x.reshape(-1, 1, 6, 1).expand(-1, 1, 6, 4)
        h = functional.max_pool2d(torch.relu(self.conv(image)), 2).flatten(1)
        out = self.out(h)
        out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


def test_feedback_behind_a_pool_has_the_consumers_size(tmp_path):
    run = recorded(Pooled(), tmp_path / "run.zarr", "module")
    f = numbers(run, "static/conv/feedback")
    assert f.shape == (3, 24)
    assert run["static/conv/feedback"].attrs["sender"] == "out"
    modulator = run["probe/conv/modulator"].values[0]
    delta = run["probe/out/error"].values[0]
    # The gradient at the gate's output is F's, spread over the windows of the pool.
    pooled = modulator.reshape(SAMPLES, 4, 3, 2, 2, 2).sum((3, 5))
    np.testing.assert_allclose(pooled.reshape(SAMPLES, 24), delta @ f, atol=1e-14)
    state = analyze(tmp_path / "run.zarr")["state"]
    assert not [name for name in state.data_vars if "direct" in name or "alignment_matrix" in name]
    with pytest.raises(MissingSignalError, match="chain"):
        analyze(tmp_path / "run.zarr", metrics=["path_alignment_direct"])


class PooledUnits(Net):
    """A pool between two linear layers: F credits half as many values as the layer has units."""

    def __init__(self):
        super().__init__("identity")
        self.fc2 = nn.Linear(4, 7).double()
        self.hook1 = Hook(torch.randn(3, 4, dtype=torch.float64), self.error)

    def forward(self, x):
        h = functional.avg_pool1d(torch.tanh(self.fc1(x)), 2)
        h = self.hook2(torch.tanh(self.fc2(self.hook1(h))))
        out = self.out(h)
        if out.requires_grad:
            out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


def test_a_pool_below_a_linear_consumer_leaves_the_weight_metrics_out(tmp_path):
    run = recorded(PooledUnits(), tmp_path / "run.zarr", "identity")
    assert numbers(run, "static/fc1/feedback").shape == (3, 4)
    delta, f = run["probe/out/error"].values[0], numbers(run, "static/fc1/feedback")
    expected = np.repeat(delta @ f, 2, axis=1) / 2
    np.testing.assert_allclose(run["probe/fc1/modulator"].values[0], expected, atol=1e-14)
    results = analyze(tmp_path / "run.zarr")
    assert "weight_feedback_cosine_direct" not in results["state"]


# Refusals.


class Skip(Net):
    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        g = torch.tanh(self.fc2(self.hook1(h)))
        out = self.out(self.hook2(g + h[:, :7]))
        out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


class Over(Net):
    """The skip leaves from the layer with direct feedback."""

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        out = self.out(torch.tanh(self.fc2(self.hook1(h))) + h[:, :7])
        out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.top = {}
        self.table = nn.Embedding(3, 5)
        self.hook = Hook(torch.randn(3, 5), lambda: self.top["delta"])
        self.head = nn.Linear(5, 3, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        out = self.head(self.hook(torch.tanh(self.table(Y))))
        out.register_hook(lambda gradient: self.top.update(delta=gradient))
        return out


def above_a_sum():
    net = Skip("identity")
    net.hook1 = nn.Identity()
    return net


def turned():
    net = Net("identity")
    net.hook1.fixed_fb_weights = nn.Parameter(net.hook1.fixed_fb_weights.T.contiguous(), requires_grad=False)
    return net


REFUSED = {
    "two layers": (above_a_sum(), CaptureError, "'hook2' .* made of the outputs of 'fc1' and 'fc2'"),
    "skip over": (Over("identity"), CaptureError, "'fc1' gets direct .* goes to 'hook1' and 'out'"),
    "tied head": (Tied(), CaptureError, "head 'head' shares its weight with 'table'"),
    "turned": (turned(), InputError, r"here \(3, 8\); is it stored transposed\?.*transposed=True"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_f_says_nothing_of_is_refused_by_name(case, tmp_path):
    net, error, match = REFUSED[case]
    with pytest.raises(error, match=match):
        recorded(net, tmp_path / "run.zarr", "identity")
    assert not (tmp_path / "run.zarr").exists()


@contextlib.contextmanager
def nothing(module, matrix=None):
    yield


def test_an_adapter_whose_using_has_no_effect_is_refused(tmp_path):
    # Case 03: F is read, and the network is backpropagation's.
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    feedback = torch.randn(3, 8)
    given = {
        "types": (nn.Linear,),
        "weight": lambda m: m.weight,
        "feedback": lambda m: feedback if m is net[0] else None,
        "feedback_kind": "direct",
        "using": nothing,
    }
    with pytest.raises(InputError, match="has no exact="):
        LayerAdapter(**given)
    probes = {"probe": Probe((X, Y), loss_of)}
    adapter = LayerAdapter(**given, exact=nothing, credits="output")
    with pytest.raises(InputError, match=r"credits layer '0': using\(module, matrix\) has no effect"):
        Recorder(net, tmp_path / "run.zarr", probes=probes, adapters=(adapter,))


def test_an_adapter_that_reads_another_matrix_is_refused(tmp_path):
    given = ADAPTERS["identity"]
    other = LayerAdapter(
        given.types, None, lambda m: 2 * given.feedback(m), "direct", given.using, exact=given.exact
    )
    with pytest.raises(InputError, match="feedback= must read the matrix that the backward pass uses"):
        recorded(Net("identity"), tmp_path / "run.zarr", "identity", adapters=(other,))


def test_without_a_probe_nobody_knows_what_is_credited(tmp_path):
    with pytest.raises(CaptureError, match=r"'hook1' sends direct feedback.*give probes="):
        recorded(Net("identity"), tmp_path / "run.zarr", "identity", probes={})


def test_a_jacobian_of_direct_feedback_is_refused(tmp_path):
    probes = {"probe": Probe((X, Y), loss_of, jacobian_vectors=3)}
    with pytest.raises(InputError, match=r"jacobian_vectors.*'fc1'.*direct"):
        recorded(Net("identity"), tmp_path / "run.zarr", "identity", probes=probes)


@contextlib.contextmanager
def without_pre_hooks(module):
    kept, module._backward_pre_hooks = module._backward_pre_hooks, {}
    yield
    module._backward_pre_hooks = kept


@contextlib.contextmanager
def with_f(module, matrix):
    kept, module.F = module.F, matrix
    yield
    module.F = kept


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_a_layer_may_hold_the_f_that_credits_its_own_output(tmp_path):
    torch.manual_seed(0)
    top = {}
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    net[0].F = torch.randn(3, 8, dtype=torch.float64)
    net[0].register_full_backward_pre_hook(lambda module, gradients: (top["delta"] @ module.F,))
    net[1].register_full_backward_pre_hook(lambda module, gradients: top.update(delta=gradients[0]))
    adapter = LayerAdapter(
        (nn.Linear,),
        lambda m: m.weight,
        lambda m: getattr(m, "F", None),
        "direct",
        with_f,
        exact=without_pre_hooks,
        credits="output",
    )
    probes = {"probe": Probe((X, Y), loss_of, redraws=3)}
    with Recorder(net, tmp_path / "run.zarr", probes=probes, adapters=(adapter,)):
        pass
    run = open_run(tmp_path / "run.zarr")
    assert run["probe/0"].attrs["feedback_kind"] == "direct"
    delta, weight = run["probe/1/error"].values[0], numbers(run, "static/1/weight_init")
    feedback = numbers(run, "static/0/feedback")
    np.testing.assert_allclose(run["probe/0/error"].values[0], delta @ feedback, atol=1e-14)
    np.testing.assert_allclose(run["probe/0/error_bp"].values[0], delta @ weight, atol=1e-14)
