"""Test that a probe does not affect the run and reads the same values wherever step() is called."""

import random
import re
from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fadiag.capture import Probe, Recorder, exact_layers
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


class Noisy(nn.Module):
    """Noise from generators of its own, of every kind."""

    def __init__(self):
        super().__init__()
        self.torch_random = torch.Generator().manual_seed(3)
        self.others = {"python": random.Random(3), "numpy": [np.random.default_rng(3)]}
        self.old = np.random.RandomState(3)

    def forward(self, x):
        drawn = self.others["python"].random() + self.others["numpy"][0].random() + self.old.rand()
        return x * drawn + torch.randn(x.shape, generator=self.torch_random)


class Remembers(nn.Module):
    """A hidden state, a counter, a cache and more as plain attributes, bound anew or changed in place."""

    def __init__(self):
        super().__init__()
        self.calls, self.hidden, self.mean = 0, torch.zeros(5), torch.zeros(5)
        self.cache, self.seen, self.state = {}, [], (torch.zeros(5), np.zeros(5))
        self.gone = "soon"

    def forward(self, x):
        x = torch.tanh(x + self.hidden + self.mean + self.state[0]) * (1 + len(self.seen)) / (1 + self.calls)
        self.calls += 1
        self.hidden = x.detach().mean(0)
        self.mean.add_(self.hidden)
        self.state[0].mul_(0.5).add_(self.hidden)
        self.state[1][:] += 1
        self.cache["last"] = self.hidden
        self.seen.append(self.calls)
        self.later = 1
        if hasattr(self, "gone"):
            del self.gone
        return x


class Registers(nn.Module):
    """A buffer, a parameter and a submodule that only the first forward pass makes."""

    def forward(self, x):
        if not hasattr(self, "scale"):
            self.register_buffer("scale", x.detach().std(0))
            self.register_buffer("shift", x.detach().mean(0), persistent=False)
            self.bias = nn.Parameter(torch.zeros(5))
            self.gate = nn.Sigmoid()
        return self.gate((x - self.shift) / self.scale + self.bias)


class Merging(nn.Module):
    """Low-rank weights that eval() adds to W and train() takes out again, which rounds."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 5))
        self.down, self.up = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(5, 2))
        self.merged = False
        self.told = []

    def train(self, mode=True):
        super().train(mode)
        self.told.append(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x):
        y = functional.linear(x, self.weight)
        return y if self.merged else y + x @ self.down.T @ self.up.T


#: The parts are no gates that are known, and no layers to be recorded.
SIGNALS = ("error", "error_bp", "gradient")


def model_with(part):
    torch.manual_seed(0)
    # layers: a part may own matrices of its own.
    return convert(nn.Sequential(nn.Linear(6, 5), part(), nn.Tanh(), nn.Linear(5, 3)), layers=nn.Linear)


STATES = (
    lambda generator: generator.get_state(),
    lambda generator: generator.getstate(),
    lambda generator: generator.bit_generator.state,
)


def held(model):
    """Return all that a model holds, to be compared bit by bit."""

    def plain(value):
        if isinstance(value, (Tensor, np.ndarray)):
            return torch.as_tensor(value).detach().numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        for read in STATES:
            try:
                return plain(read(value))
            except (AttributeError, TypeError):
                pass
        return str(value)

    return {
        name: {key: plain(value) for key, value in vars(module).items() if "hooks" not in key}
        for name, module in model.named_modules()
    } | {"state": plain(model.state_dict())}


def after_training(part, path, *, mode="eval", updates=3):
    model = model_with(part)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = None
    if path is not None:
        probe = Probe((X, Y), loss_of, mode=mode, redraws=2, signals=SIGNALS)
        # The statistics that Registers keeps are detached, so error_bp is not the derivative of the loss.
        options = {"every": 1, "layers": ["0", "3"], "check": "off" if part is Registers else "raise"}
        recorder = Recorder(model, path, optimizer=optimizer, probes={"probe": probe}, **options)
    for _ in range(updates):
        optimizer.zero_grad()
        loss_of(model, (X, Y)).backward()
        optimizer.step()
        if recorder is not None:
            recorder.step()
    if recorder is not None:
        recorder.close()
    return held(model), (torch.rand(1, generator=model[1].torch_random) if part is Noisy else None)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("part", [Noisy, Remembers, Registers])
def test_what_a_pass_leaves_in_its_modules_does_not_reach_the_run(part, mode, tmp_path):
    assert after_training(part, None) == after_training(part, tmp_path / "run.zarr", mode=mode)
    # All passes began with the same: at the output layer, where no feedback comes in, they agree.
    read = open_run(tmp_path / "run.zarr")["probe/3"]
    assert np.array_equal(read["error"].values, read["error_bp"].values)


@pytest.mark.parametrize("part", [Noisy, Remembers, Registers, Merging])
def test_a_reading_puts_back_every_bit(part, tmp_path):
    model = model_with(part)
    before, listed, parameters = held(model), getattr(model[1], "seen", None), list(model.parameters())
    probe = Probe((X, Y), loss_of, signals=SIGNALS)
    # The statistics that Registers keeps are detached, so error_bp is not the derivative of the loss.
    options = {"probes": {"probe": probe}, "state": (), "layers": ["0", "3"], "check": "off"}
    Recorder(model, tmp_path / "run.zarr", **options).close()
    assert held(model) == before
    assert getattr(model[1], "seen", None) is listed
    assert all(one is two for one, two in zip(model.parameters(), parameters, strict=True))


def test_a_layer_that_merges_in_eval_mode_is_read_merged_and_left_by_its_own_train(tmp_path):
    model, told, merged = model_with(Merging), [], []
    model[1].told = Told(told)
    weight = model[1].weight.detach().clone()

    def loss(model, batch):
        merged.append(model[1].merged)
        return loss_of(model, batch)

    probe = Probe((X, Y), loss, signals=["error"])
    Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, state=(), layers=["0", "3"]).close()
    assert merged == [True]
    assert told == [False, True]  # in the pass
    assert torch.equal(model[1].weight, weight)
    assert after_training(Merging, None) == after_training(Merging, tmp_path / "again.zarr")


class Told:
    """A list that the probe does not know."""

    def __init__(self, kept):
        self.append = kept.append

    def __str__(self):
        return ""


def test_a_held_tensor_that_a_pass_writes_through_data_is_put_back(tmp_path):
    class Centered(nn.Linear):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.center = torch.zeros(sizes[1])

        def forward(self, x):
            h = super().forward(x)
            self.center.data.mul_(0.9).add_(h.detach().mean(0))
            return h - self.center

    model = nn.Sequential(nn.Linear(6, 5), Centered(5, 4), nn.Linear(4, 3))
    adapters = (exact_layers(Centered),)
    probes = {"p": Probe((X, Y), loss_of)}
    with Recorder(model, tmp_path / "run.zarr", probes=probes, adapters=adapters, check="off"):
        pass
    assert not model[1].center.any()


def test_a_recording_seeds_no_gpu_that_the_model_is_not_on(tmp_path, monkeypatch):
    seeded = []  # torch.manual_seed seeds every GPU; where CUDA has not started yet, by a note for later
    for module in (torch.cuda, torch.xpu, torch.mtia):
        monkeypatch.setattr(module, "manual_seed_all", seeded.append)
    model = convert(nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.Linear(5, 3)))
    with Recorder(model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of, mode="train")}):
        pass
    assert not seeded
    torch.manual_seed(0)
    assert seeded == [0, 0, 0]


def test_a_forward_pass_that_writes_to_a_parameter_is_told(tmp_path):
    class Clamped(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.bias.clamp_(min=0)
            return super().forward(x)

    model = nn.Sequential(nn.Linear(6, 5), nn.Sequential(Clamped(5, 5)), nn.Linear(5, 3))
    with pytest.raises(
        CaptureError,
        match=r"probe 'probe': a pass changed the parameter '1.0.bias' in place, .*after optimizer.step\(\)",
    ):
        Recorder(model, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of)}, layers=["0", "2"])


def normed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        model[1].running_mean.fill_(0.5)
    return convert(model)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_probe_reads_the_same_in_whatever_mode_step_is_called(mode, frozen, tmp_path):
    model = normed()
    model[1].train(not frozen)
    flags = [module.training for module in model.modules()]

    def halves(model):
        model.eval()
        model[2].train()

    probe = Probe((X, Y), loss_of, mode=mode)
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, state=(), every=1) as recorder:
        recorder.step()
        for change in (nn.Module.eval, halves):
            change(model)
            left = [module.training for module in model.modules()]
            recorder.step()
            assert [module.training for module in model.modules()] == left
        for module, flag in zip(model.modules(), flags, strict=True):
            module.training = flag
    error = open_run(tmp_path / "run.zarr")["probe/0/error"].values
    assert (error == error[0]).all()
    # And it is the mode asked for, the frozen norm's statistics kept in it.
    twin = normed().train(mode == "train")
    twin[1].train(mode == "train" and not frozen)
    found = Recorder(twin, tmp_path / "twin.zarr", probes={"probe": probe}, state=())
    found.close()
    assert np.array_equal(open_run(tmp_path / "twin.zarr")["probe/0/error"].values[0], error[0])


def test_a_norm_frozen_in_mid_run_is_frozen_in_the_readings_from_then_on(tmp_path):
    model = normed()
    probe = Probe((X, Y), loss_of, mode="train")
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, state=(), every=1) as recorder:
        model[1].eval()
        recorder.step()
        model.eval()
    error = open_run(tmp_path / "run.zarr")["probe/0/error"].values
    assert abs(error[1] - error[0]).max() > 1e-3


def test_a_model_that_was_never_in_training_mode_is_put_there_whole(tmp_path):
    errors = []
    for i, model in enumerate((normed(), normed().eval())):
        probe = Probe((X, Y), loss_of, mode="train")
        Recorder(model, tmp_path / f"{i}.zarr", probes={"probe": probe}, state=()).close()
        errors.append(open_run(tmp_path / f"{i}.zarr")["probe/0/error"].values)
    assert np.array_equal(*errors)


@pytest.mark.parametrize(
    "around",
    [
        lambda: torch.autocast("cpu", torch.bfloat16),
        torch.inference_mode,
        torch.no_grad,
    ],
    ids=["autocast", "inference", "no_grad"],
)
@pytest.mark.parametrize("rule", ["fa", "usf"])
@pytest.mark.parametrize("half", [False, True])
def test_a_probe_reads_the_same_in_whatever_context_step_is_called(around, rule, half, tmp_path):
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), rule=rule)

    def loss(model, batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return loss_of(model, batch)

    draws = {"redraws": 2, "gate_draws": 2, "null_every": 1, "jacobian_vectors": 2}
    probe = Probe((X, Y), loss, **draws, reduction="factor")
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": probe}, state=(), every=1) as recorder:
        with around():
            loss_of(model, (X, Y))
            recorder.step()
        with torch.no_grad():
            model[0].weight.mul_(2)
        recorder.step()
        with around():
            loss_of(model, (X, Y))
            with torch.no_grad():
                model[0].weight.mul_(0.5)  # a cast of the double weight may still be kept by the autocast
            recorder.step()
    for layer in ("0", "2"):
        for name, values in open_run(tmp_path / "run.zarr")[f"probe/{layer}"].data_vars.items():
            assert np.array_equal(values[0], values[1], equal_nan=True), name
            assert np.array_equal(values[0], values[3], equal_nan=True), name
            assert values.dims[0] == "step"


@dataclass
class Pair:
    x: Tensor
    y: Tensor


class Bag:
    def __init__(self):
        self.x, self.y, self.notes = X.clone(), [Y], 0


def popping(model, batch):
    y = batch.pop("y")
    return functional.cross_entropy(model(batch["x"]), y)


def halving(model, batch):
    x, (y,) = batch
    return functional.cross_entropy(model(x.mul_(0.5)), y)


def replacing(model, batch):
    batch.x = batch.x * 0.5
    return functional.cross_entropy(model(batch.x), batch.y)


def noting(model, batch):
    batch.notes += 1  # no tensor: not what the passes see
    return functional.cross_entropy(model(batch.x.add_(1)), batch.y[0])


def adding(model, batch):
    batch["h"] = batch["x"]
    return functional.cross_entropy(model(batch["x"]), batch["y"])


@pytest.mark.parametrize(
    ("batch", "loss", "change"),
    [
        (lambda: {"x": X, "y": Y}, popping, "batch['y'] was removed"),
        (lambda: UserDict(x=X, y=Y), popping, "batch['y'] was removed"),
        (lambda: {"x": X, "y": Y}, adding, "batch['h'] was added"),
        (lambda: (X.clone(), [Y]), halving, "batch[0] was changed in place"),
        (lambda: Pair(X, Y), replacing, "batch.x was replaced"),
        (Bag, noting, "batch.x was changed in place"),
    ],
)
def test_a_loss_that_changes_its_batch_is_told(batch, loss, change, tmp_path):
    model = convert(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))
    match = re.escape(f"probe 'train': the loss changes its batch ({change}), so the next pass")
    with pytest.raises(CaptureError, match=rf"{match} .*give Probe a loss that leaves the batch as it is"):
        Recorder(model, tmp_path / "run.zarr", probes={"train": Probe(batch(), loss)})
    assert not (tmp_path / "run.zarr").exists()


def test_a_batch_that_somebody_writes_to_in_mid_run_is_told(tmp_path):
    x = X.clone()
    model = nn.Sequential(nn.Linear(6, 3))
    with Recorder(
        model, tmp_path / "run.zarr", probes={"train": Probe((x, Y), loss_of)}, every=1
    ) as recorder:
        recorder.step()
        x.copy_(X + 1)
        match = r"probe 'train': batch\[0\] was changed in place since the last reading.*give Probe a copy"
        with pytest.warns(CaptureWarning, match=match):
            recorder.step()
        recorder.step()


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        (iter([(X, Y)]), r"batch is a list_iterator, which gives its items only once"),
        (
            {"x": X, "rest": ((X, Y) for _ in range(3))},
            r"batch\['rest'\] is a generator, .*next\(iter\(loader\)\)",
        ),
    ],
)
def test_a_batch_that_can_be_read_only_once_is_refused(batch, match):
    with pytest.raises(InputError, match=match):
        Probe(batch, loss_of)


def failing(kind):
    def loss(model, batch):
        raise kind("nobody home")

    return loss


def failing_backward(model, batch):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("nobody home")

    return Broken.apply(loss_of(model, batch))


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        *(
            (
                failing(kind),
                rf"loss\(model, batch\) raised {kind.__name__}: .*nobody home.*; give Probe a batch",
            )
            for kind in (AttributeError, AssertionError, KeyError, RuntimeError, StopIteration)
        ),
        (failing_backward, r"the backward pass of the loss raised ValueError: nobody home; give Probe"),
    ],
)
def test_an_error_of_a_probe_names_the_probe_and_the_kind(loss, match, tmp_path):
    probes = {"train": Probe((X, Y), loss_of), "test": Probe((X, Y), loss)}
    with pytest.raises(CaptureError, match=rf"^probe 'test': {match}") as caught:
        Recorder(nn.Sequential(nn.Linear(6, 3)), tmp_path / "run.zarr", probes=probes)
    assert "nobody home" in str(caught.value.__cause__)


def short_of_memory(model, batch):
    return loss_of(model, batch) + torch.empty(10**15).sum()


@pytest.mark.parametrize("loss", [short_of_memory, failing(torch.OutOfMemoryError), failing(MemoryError)])
def test_a_lack_of_memory_is_told_as_one(loss, tmp_path):
    probes = {"test": Probe((X, Y), loss)}
    match = (
        r"not enough memory for probe 'test' \(.*(allocate memory|nobody home).*\); give it a smaller batch"
    )
    with pytest.raises(CaptureError, match=match):
        Recorder(nn.Sequential(nn.Linear(6, 3)), tmp_path / "run.zarr", probes=probes)


def test_an_interrupt_inside_a_probe_passes_and_leaves_the_model_as_it_was(tmp_path):
    model = model_with(Remembers)
    before = held(model)

    def loss(model, batch):
        loss_of(model, batch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Recorder(model, tmp_path / "run.zarr", probes={"test": Probe((X, Y), loss)})
    assert held(model) == before
