"""Test the check of error_bp against differences of the loss: correct rules pass, wrong errors fail."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import DEFAULT_ADAPTERS, LayerAdapter, Probe, Recorder
from fadiag.capture.checks.error_check import _FULL, _HALF, check_errors
from fadiag.capture.checks.finite_differences import Figures
from fadiag.capture.layers.selection import choose_layers, others_of
from fadiag.capture.passes.isolation import TrainingFlags
from fadiag.capture.passes.passes import Passes
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.resnet import resnet18
from tests.capture.toy import labelled, loss_of, on

X, Y = labelled(32)
#: Those that need no gate: what is behind a function of one's own is not known.
UNGATED = ["error", "error_bp", "gradient", "gradient_bp"]
IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def checked(model, loss=loss_of, batch=(X, Y), *, mode="train", spoil=None, wrong=False, only=None):
    """Check the exact errors of a model (its own, if ``wrong``), each changed by ``spoil``."""
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    others = others_of(model, DEFAULT_ADAPTERS, layers)
    batch = on(layers[0].weight.device, batch)
    passes = Passes(model, layers, others, batch, loss, mode=mode, seed=0, flags=TrainingFlags(model))
    calls = passes.run({} if wrong else passes.truth(), ["error"], hooks="none").calls
    calls = [call for call in calls if only in (None, call.name)]
    for call in calls:
        if spoil is not None:
            call.values["error"] = spoil(call.name, call.values["error"])
    return {call.name: found for call, found in check_errors(passes, calls)}


def verdicts(*args, **options):
    return {name: found.verdict for name, found in checked(*args, **options).items()}


def mlp(*, last=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(inplace=True), nn.Dropout(0.3),
        nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, last),
    )  # fmt: skip


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(128, 3),
    )  # fmt: skip


class Thrice(nn.Module):
    """A layer called three times, with an in-place gate behind each call."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        for _ in range(3):
            h = torch.relu_(self.again(h)) + h
        return self.last(h)


def half(model, batch):
    with torch.autocast(batch[0].device.type, torch.bfloat16):
        return loss_of(model, batch)


def scaled(model, batch):
    return 65536 * loss_of(model, batch)


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "frsf", "brsf"])
def test_the_exact_pass_of_every_rule_passes(rule, device):
    for build, batch in ((mlp, (X, Y)), (cnn, (IMAGES, Y[:16]))):
        model = build() if rule == "bp" else convert(build(), rule=rule)
        found = checked(model.to(device), batch=batch)
        assert len(found) == 3
        for check in found.values():
            assert check.verdict == "passed"
            assert abs(check.along - 1) < 0.02
            assert check.random < 0.15


@pytest.mark.parametrize("loss", [loss_of, scaled, half], ids=["plain", "x65536", "autocast"])
@pytest.mark.parametrize("build", [mlp, cnn, Thrice])
def test_what_is_right_passes(build, loss, device):
    batch = (IMAGES, Y[:16]) if build is cnn else (X, Y)
    found = verdicts(convert(build()).to(device), loss, batch)
    assert set(found.values()) == {"passed"}
    assert len(found) == (5 if build is Thrice else 3)


@pytest.mark.parametrize("loss", [loss_of, scaled, half], ids=["plain", "x65536", "autocast"])
def test_the_errors_of_fa_fail_where_they_are_called_exact(loss, device):
    found = verdicts(convert(mlp()).to(device), loss, wrong=True)
    assert found["6"] == "passed"  # no feedback comes in there
    assert found["0"] == found["4"] == "failed"


def test_one_of_three_calls_that_is_wrong_is_found(device):
    model = Thrice().to(device)
    found = verdicts(model, spoil=lambda name, error: 2 * error if name == "again@1" else error)
    assert found.pop("again@1") == "failed"
    assert found == dict.fromkeys(("last", "again@2", "again", "first"), "passed")


@pytest.mark.parametrize("kind", ["half of the samples", "rank 1"])
def test_a_projection_of_the_truth_fails_along_random_directions_only(kind, device):
    def spoil(name, error):
        if name != "4":
            return error
        if kind == "rank 1":
            left, values, right = torch.linalg.svd(error, full_matrices=False)
            return values[0] * torch.outer(left[:, 0], right[0])
        return error * (torch.arange(len(error), device=error.device) % 2)[:, None]

    found = checked(mlp().to(device), mode="eval", spoil=spoil)
    assert (found["4"].verdict, found["0"].verdict, found["6"].verdict) == ("failed", "passed", "passed")
    assert abs(found["4"].along - 1) < 0.05
    assert found["4"].random > 0.25


def test_detached_samples_fail(device):
    class Detaches(nn.Sequential):
        def forward(self, x):
            h = torch.relu(self[0](x))
            return self[1](torch.cat([h[:16].detach(), h[16:]]))

    torch.manual_seed(0)
    found = verdicts(Detaches(nn.Linear(6, 20), nn.Linear(20, 3)).to(device))
    assert found == {"1": "passed", "0": "failed"}


def test_resnet18_passes_and_one_wrong_layer_of_21_fails(device):
    model, batch = resnet18().to(device), (IMAGES, Y[:16])
    counted = []

    def loss(model, batch):
        counted.append(1)
        return loss_of(model, batch)

    found = checked(model, loss, batch)
    assert len(found) == 21
    assert {check.verdict for check in found.values()} == {"passed"}
    # One pass with the errors, two that are equal, and 10 for each of three groups.
    assert len(counted) == 1 + 2 + 3 * 10
    wrong = verdicts(model, batch=batch, spoil=lambda name, e: e.flip(0) if name == "6.conv1" else e)
    assert [name for name, verdict in wrong.items() if verdict != "passed"] == ["6.conv1"]
    assert wrong["6.conv1"] == "failed"


def test_an_output_layer_of_zeros_is_checked_once_it_is_none(tmp_path, device):
    def zeroed():
        model = convert(mlp())
        nn.init.zeros_(model[6].weight)
        nn.init.zeros_(model[6].bias)
        return model.to(device)

    assert verdicts(zeroed()) == {"6": "passed", "4": "zero", "0": "zero"}
    model = zeroed()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    batch = on(device, (X, Y))
    probes = {"probe": Probe(batch, loss_of)}
    with Recorder(model, tmp_path / "run.zarr", probes=probes, every=1, state=()) as recorder:
        assert recorder.current_step == 0
        loss_of(model, batch).backward()
        optimizer.step()
        recorder.step()
    run = open_run(tmp_path / "run.zarr")
    assert run["probe/0"].attrs["error_bp_check"] == "passed"
    assert run["probe/6"].attrs["error_bp_check"] == "passed"
    assert not run["probe/0/error_bp"].values[0].any()


def test_an_error_of_zero_where_the_loss_changes_fails_at_once():
    found = verdicts(mlp(), mode="eval", spoil=lambda name, e: torch.zeros_like(e) if name == "0" else e)
    assert found == {"6": "passed", "4": "passed", "0": "failed"}


def test_a_loss_that_differs_between_equal_passes_is_inconclusive(tmp_path):
    count = iter(range(10**6))

    def loss(model, batch):
        return loss_of(model, batch) + 1e-3 * next(count)

    assert set(verdicts(mlp(), loss).values()) == {"inconclusive"}
    with pytest.warns(
        CaptureWarning, match=r"the check cannot decide .* at '6', '4', '0': equal passes give"
    ) as told:
        Recorder(mlp(), tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss)}).close()
    assert len(told) == 1
    assert open_run(tmp_path / "run.zarr")["probe/0"].attrs["error_bp_check"] == "inconclusive"


def test_an_error_too_small_for_the_rounding_of_the_loss_is_inconclusive_and_never_fails():
    def loss(model, batch):
        return 1e7 + loss_of(model, batch)

    assert set(verdicts(mlp(), loss).values()) == {"inconclusive"}


@pytest.mark.parametrize(
    ("along", "random", "passes", "along_fails", "random_fails"),
    [
        (1.0499, 0.2499, True, False, False),
        (0.9501, 0.0, True, False, False),
        (1.0501, 0.0, False, True, False),
        (0.9499, 0.0, False, True, False),
        (1.0, 0.2501, False, False, True),
        (float("nan"), 0.0, False, False, False),
    ],
)
def test_the_limits_in_full_precision(along, random, passes, along_fails, random_fails):
    found = Figures(along, random, 0.0, 0.0)
    assert _FULL.pass_(found) is passes
    assert (_FULL.along_is_wrong(found), _FULL.random_is_wrong(found)) == (along_fails, random_fails)


@pytest.mark.parametrize(
    ("along", "random", "passes", "fails"),
    [(1.099, 0.2, True, False), (1.101, 0.2, False, False), (1.0, 0.26, False, False),
     (0.51, 3.0, False, False), (1.99, 0.0, False, False), (0.49, 0.0, False, True),
     (2.01, 0.0, False, True)],
)  # fmt: skip
def test_the_limits_in_half_precision(along, random, passes, fails):
    found = Figures(along, random, 0.0, 0.0)
    assert _HALF.pass_(found) is passes
    assert (_HALF.along_is_wrong(found) or _HALF.random_is_wrong(found)) is fails


@pytest.mark.parametrize(
    ("along", "verdict"), [(1.049, "passed"), (0.951, "passed"), (1.051, "failed"), (0.949, "failed")]
)
def test_planted_errors_at_the_limits(along, verdict):
    # A smooth net in float64, so that nothing but the planted factor moves the figure.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)).double()
    found = checked(model, batch=(X.double(), Y), spoil=lambda name, e: e / along, only="0")
    assert found["0"].verdict == verdict
    assert abs(found["0"].along - along) < 5e-4


# What a recorder does of it.


class Inject(torch.autograd.Function):
    """Identity forward; the credit is the output error times a fixed matrix."""

    @staticmethod
    def forward(ctx, h, holder):
        ctx.holder = holder
        return h.view_as(h)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.holder["error"] @ ctx.holder["matrix"], None


class Direct(nn.Module):
    """Case 01: direct feedback by an identity function behind the gate."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 32), nn.Linear(32, 3)
        self.holder = {"matrix": torch.randn(3, 32)}

    def forward(self, x):
        y = self.b(Inject.apply(torch.tanh(self.a(x)), self.holder))
        if y.requires_grad:
            y.register_hook(lambda g: self.holder.__setitem__("error", g))
        return y


class Wrapped(nn.Module):
    """Owns a matrix, wraps a layer that is known, and puts its own error under it by a tensor hook."""

    def __init__(self, taken, given):
        super().__init__()
        self.inner = nn.Linear(taken, given)
        self.feedback = nn.Parameter(torch.randn(given, taken), requires_grad=False)

    def forward(self, x):
        below = x.detach().requires_grad_(x.requires_grad)
        y = self.inner(below)
        if x.requires_grad:
            y = y + Carried.apply(x, y.detach(), self.feedback)
        return y


class Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, feedback):
        ctx.save_for_backward(feedback)
        return torch.zeros_like(y)

    @staticmethod
    def backward(ctx, error):
        return error @ ctx.saved_tensors[0], None, None


def wrapped():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), Wrapped(20, 3))


def record(model, path, *, updates=0, probe=None, **options):
    probes = {"p": probe or Probe((X, Y), loss_of, signals=UNGATED)}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(model, path, probes=probes, state=(), **options) as recorder:
        for _ in range(updates):
            optimizer.zero_grad()
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


@pytest.mark.parametrize(("build", "layer"), [(Direct, "a"), (wrapped, "0")])
@pytest.mark.parametrize(
    "asked", [{"signals": UNGATED}, {"signals": ["gradient_bp"]}, {"signals": ["error"], "redraws": 1}]
)
def test_a_rule_that_is_not_seen_raises_before_anything_is_written(build, layer, asked, tmp_path):
    model = build()
    if "redraws" in asked:  # which need a feedback
        convert(model, layers=["b"] if build is Direct else ["2.inner"])
    path = tmp_path / "run.zarr"
    match = (
        rf"probe 'p': error_bp of layer '{layer}' is not the derivative .* changes by -?0\.\d+ of what .*"
        "LayerAdapter.*layers=.*'warn'.*'off'"
    )
    with pytest.raises(CaptureError, match=match):
        record(model, path, probe=Probe((X, Y), loss_of, **asked))
    assert not path.exists()


def test_a_probe_that_says_nothing_of_backpropagation_is_not_checked(tmp_path):
    run = record(Direct(), tmp_path / "run.zarr", probe=Probe((X, Y), loss_of, signals=["error", "gradient"]))
    assert "error_bp_check" not in run["p/a"].attrs


def test_warn_leaves_out_what_is_wrong_and_says_so(tmp_path):
    with pytest.warns(CaptureWarning, match=r"error_bp of layer 'a' is not the derivative.*Left out") as told:
        run = record(Direct(), tmp_path / "run.zarr", updates=2, check="warn", every=1)
    assert len([w for w in told if "error_bp" in str(w.message)]) == 1
    assert not {"error_bp", "modulator_bp", "gradient_bp"} & set(run["p/a"].variables)
    assert {"error", "gradient"} <= set(run["p/a"].variables)
    assert run["p/a"].attrs["error_bp_check"] == "failed"
    assert run["p/a"].attrs["feedback_kind"] == "unknown"
    assert abs(run["p/a"].attrs["error_bp_check_along"]) < 0.5
    assert run["p/b"].attrs["error_bp_check"] == "passed"
    assert run["p/b"].attrs["feedback_kind"] == "exact"
    assert "error_bp" in run["p/b"]


def test_off_checks_nothing(tmp_path):
    run = record(Direct(), tmp_path / "run.zarr", check="off")
    assert run["p/a"].attrs["error_bp_check"] == "off"
    assert "error_bp" in run["p/a"]
    with pytest.raises(InputError, match="check is 'no'; it is 'raise', 'warn' or 'off'"):
        record(Direct(), tmp_path / "other.zarr", check="no")


def test_a_later_check_only_warns_and_leaves_out_from_then_on(tmp_path):
    class Turns(nn.Module):
        """Exact until it is told otherwise."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.cut = nn.Linear(6, 20), nn.Linear(20, 3), False

        def forward(self, x):
            h = torch.tanh(self.a(x))
            if self.cut:
                h.register_hook(lambda gradient: gradient.flip(0))
            return self.b(h)

    torch.manual_seed(0)
    for check_every, fails in ((1, True), (None, False)):
        model, path = Turns(), tmp_path / f"{fails}.zarr"
        probe = Probe((X, Y), loss_of, signals=UNGATED, check_every=check_every)
        with Recorder(model, path, probes={"p": probe}, every=1, state=()) as recorder:
            recorder.step()
            model.cut = True
            if fails:
                with pytest.warns(CaptureWarning, match="error_bp of layer 'a' is not the derivative"):
                    recorder.step()
            else:
                recorder.step()
        run = open_run(path)
        assert run["p/a"].attrs["error_bp_check"] == ("failed" if fails else "passed")
        assert run["p/a"].attrs["feedback_kind"] == ("unknown" if fails else "exact")
        error_bp = run["p/a/error_bp"].values
        assert np.isfinite(error_bp[:2]).all()
        assert np.isnan(error_bp[2:]).all() == fails
    # A resumed run is checked where it goes on.
    model.cut = True
    with pytest.raises(CaptureError, match="error_bp of layer 'a'"):
        Recorder(model, tmp_path / "False.zarr", probes={"p": probe}, every=1, state=(), resume_from=2)


def test_an_adapter_that_knows_the_rule_makes_the_check_pass(tmp_path):
    model = wrapped()

    @contextmanager
    def put(module, matrix):
        kept, module.feedback = module.feedback, nn.Parameter(matrix.detach(), requires_grad=False)
        try:
            yield
        finally:
            module.feedback = kept

    adapter = LayerAdapter(
        (Wrapped,),
        lambda m: m.inner.weight,
        lambda m: m.feedback,
        "layerwise",
        put,
        bias=lambda m: m.inner.bias,
    )
    run = record(model, tmp_path / "run.zarr", adapters=(adapter,), layers=["0", "2"])
    assert run["p/0"].attrs["error_bp_check"] == "passed"
    assert run["p/2"].attrs["feedback_kind"] == "layerwise"


@pytest.mark.parametrize("seed", range(4))
def test_units_at_their_kink_do_not_fail(seed):
    """Behind dead units and a bias of 0 the next inputs are exactly 0, where a ReLU has no derivative."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for layer in model[::2]:
            layer.bias.zero_()
        x = X.clone()
        x[:8] = 0.0  # all inputs of the first gate are 0 for these samples, and so are all behind it
    found = verdicts(model, batch=(x, Y))
    assert set(found.values()) <= {"passed", "inconclusive"}
    assert found["4"] == "passed"
    fa = convert(model, rule="fa", seed=seed)
    assert "failed" in verdicts(fa, batch=(x, Y), wrong=True).values()


def test_a_layer_of_zeros_before_a_gate_does_not_fail():
    model = mlp()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.zero_()
    model[5] = nn.ReLU()
    assert verdicts(model)["4"] in ("zero", "inconclusive")


def test_a_deep_model_is_checked_in_part_at_each_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("fadiag.capture.checks.probe_checks._MOST_CALLS", 3)
    said = (
        r"checked at 3 of 5 calls of layers, since .* of 2 calls says .* Probe\(check_every=\.\.\.\) checks"
    )

    def checks(name, steps):
        probe = Probe((X, Y), loss_of, check_every=1)
        with pytest.warns(CaptureWarning, match=said):
            recorder = Recorder(Thrice(), tmp_path / name, probes={"p": probe}, every=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CaptureWarning)
            for step in range(1, steps):
                recorder.step(step=step)
        recorder.close()
        layers = open_run(tmp_path / name)["p"].children.values()
        return [layer.attrs["error_bp_check"] for layer in sorted(layers, key=lambda x: x.attrs["order"])]

    assert checks("once.zarr", 1) == ["passed", "unchecked", "passed", "unchecked", "passed"]
    assert checks("twice.zarr", 2) == ["passed"] * 5
    assert checks("again.zarr", 4) == ["passed"] * 5
