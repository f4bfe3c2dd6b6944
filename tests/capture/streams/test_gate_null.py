"""Test that the gate null replaces B by B R, and only at layers where this is defined."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import DEFAULT_ADAPTERS, Probe, exact_layers
from fadiag.capture.layers.selection import choose_layers, others_of
from fadiag.capture.streams.gate_null import _generator
from fadiag.capture.streams.haar import Rotation, haar_frames
from fadiag.errors import CaptureError
from fadiag.rules import convert
from tests.capture.toy import loss_of, on

N, SEED = 24, 5
X = torch.randn(N, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(4, (N,), generator=torch.Generator().manual_seed(1))


def read(model, *, adapters=(), layers=None, batch=(X, Y), **options):
    options = {"mode": "train", "gate_draws": 2, "seed": SEED, "signals": ["error"], **options}
    known = (*adapters, *DEFAULT_ADAPTERS)
    chosen = choose_layers(model, known, layers)
    batch = on(chosen[0].weight.device, batch)
    found = Probe(batch, loss_of, **options).read(model, chosen, others_of(model, known, chosen))
    return {layer.name: layer for layer in found}


def absent(model, **options):
    return {name: layer.attrs.get("no_gate_null") for name, layer in read(model, **options).items()}


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(32, 9), nn.Linear(9, 9), nn.Linear(9, 4)

    def forward(self, x):
        h = torch.relu(self.first(x))
        return self.last(h + torch.tanh(self.inner(h)))


def image(*layers):
    return nn.Sequential(nn.Unflatten(1, (2, 4, 4)), *layers)


#: A network, the layer, and its consumer.
CASES = {
    "linear": (lambda: nn.Sequential(nn.Linear(32, 9), nn.Linear(9, 12)), "0", "1"),
    "relu": (lambda: nn.Sequential(nn.Linear(32, 9), nn.ReLU(inplace=True), nn.Linear(9, 12)), "0", "2"),
    "norm and dropout": (
        lambda: nn.Sequential(
            nn.Linear(32, 9), nn.BatchNorm1d(9), nn.GELU(), nn.Dropout(0.3), nn.Linear(9, 12)
        ),
        "0",
        "4",
    ),
    "groups behind a pool": (
        lambda: image(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 4, 2, groups=2),
            nn.Flatten(),
        ),
        "1",
        "4",
    ),
    "a skip over the consumer": (Skip, "first", "inner"),
}


def rotated(matrix, groups, frames):
    """Multiply the inputs of a weight, group by group, by the matrix that a draw takes."""
    parts = [
        torch.einsum("oi...,ij->oj...", part, frame.mT)
        for part, frame in zip(matrix.chunk(groups), frames, strict=True)
    ]
    return torch.cat(parts)


@pytest.mark.parametrize("case", CASES)
def test_a_draw_is_a_whole_pass_with_b_r_in_the_place_of_b(case, device):
    build, name, consumer = CASES[case]
    torch.manual_seed(0)
    model = convert(build().double(), seed=1).to(device)
    drawn = read(model)[name].signals
    generator = _generator(SEED, name)
    module = model.get_submodule(consumer)
    groups = getattr(module, "groups", 1)
    units = module.weight.shape[1]
    own = module.feedback.clone()
    for draw in range(2):
        frames = haar_frames(groups, units, units, generator)
        module.feedback = rotated(own, groups, on(device, frames))
        error = read(model, gate_draws=0)[name].signals["error"].array.reshape(N, -1)
        s = np.linalg.svd(error, compute_uv=False)
        np.testing.assert_allclose(
            drawn["gate_null_spectrum_raw"].array[draw], s, rtol=1e-5, atol=1e-7 * s[0]
        )
        fourth = np.square((error**2).sum(1)).sum()
        np.testing.assert_allclose(drawn["gate_null_fourth_raw"].array[draw], fourth, rtol=1e-9)
    fourth = drawn["gate_null_fourth_raw"].array
    assert np.isclose(*fourth, rtol=1e-9) == (case == "linear")  # where nothing lies between, lengths stay


def test_of_the_chosen_samples_the_draws_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 12)).double(), seed=1)
    error = read(model, rows=7)["0"].signals["gate_null_fourth_raw"].array
    module, generator = model[2], _generator(SEED, "0")
    module.feedback = rotated(module.feedback, 1, haar_frames(1, 9, 9, generator))
    part = read(model, gate_draws=0)["0"].signals["error"].array[:7]
    np.testing.assert_allclose(error[0], np.square((part**2).sum(1)).sum(), rtol=1e-9)


def test_several_consumers_are_rotated_each_by_its_own():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(32, 9)
            self.one, self.two = nn.Linear(9, 12), nn.Linear(9, 12)

        def forward(self, x):
            h = torch.tanh(self.first(x))
            return self.one(h) + self.two(h)

    torch.manual_seed(0)
    model = convert(Heads().double(), seed=1)
    drawn = read(model)["first"].signals["gate_null_fourth_raw"].array
    generator = _generator(SEED, "first")
    for module in (model.one, model.two):
        module.feedback = rotated(module.feedback, 1, haar_frames(1, 9, 9, generator))
    error = read(model, gate_draws=0)["first"].signals["error"].array
    np.testing.assert_allclose(drawn[0], np.square((error**2).sum(1)).sum(), rtol=1e-9)


def test_a_consumer_without_a_part_in_the_loss_is_passed_by():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.aside, self.last = nn.Linear(32, 9), nn.Linear(9, 5), nn.Linear(9, 12)

        def forward(self, x):
            h = torch.relu(self.first(x))
            self.seen = self.aside(h)
            return self.last(h)

    torch.manual_seed(0)
    model = convert(Aside().double(), seed=1)
    drawn = read(model)["first"].signals["gate_null_fourth_raw"].array
    model.last.feedback = rotated(model.last.feedback, 1, haar_frames(1, 9, 9, _generator(SEED, "first")))
    error = read(model, gate_draws=0)["first"].signals["error"].array
    np.testing.assert_allclose(drawn[0], np.square((error**2).sum(1)).sum(), rtol=1e-9)


def test_fewer_rows_than_units_keep_their_inner_products():
    gradient = torch.randn(5, 12, 2, dtype=torch.float64)
    one, two = (Rotation.of(gradient, -2, 1, 12) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([one.draw(generator).movedim(1, -1).reshape(10, 12) for _ in range(2000)])
    rows = gradient.movedim(1, -1).reshape(10, 12)
    torch.testing.assert_close(drawn @ drawn.mT, (rows @ rows.T).expand(2000, 10, 10))
    # Every direction is as likely as any other.
    spread = torch.einsum("dri,drj->ij", drawn, drawn) / 2000
    torch.testing.assert_close(
        spread, torch.eye(12) * spread.diagonal().mean(), rtol=0, atol=1.5, check_dtype=False
    )
    assert two.draw(torch.Generator().manual_seed(0)).shape == gradient.shape


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x) / 2


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(32, 9), nn.Linear(9, 9), nn.Linear(9, 4)

    def forward(self, x):
        h = torch.relu(self.first(x))
        return self.last(torch.relu(self.shared(torch.relu(self.shared(h)))))


def test_layers_without_a_gate_null_say_why():
    def two(middle):
        return nn.Sequential(
            nn.Linear(32, middle.in_features), nn.ReLU(), middle, nn.ReLU(), nn.Linear(5, 4)
        ).double()

    assert absent(two(nn.Linear(9, 5))) == {"0": None, "2": None, "4": "no layer reads its output"}
    assert (
        absent(two(nn.Linear(1, 5)))["0"]
        == "a single unit of it goes to its consumer '2', or to each group there"
    )
    unknown = "it is not known what its consumer '2' sends down"
    assert absent(two(Halved(9, 5)), layers=["0", "4"])["0"] == unknown
    assert absent(two(Halved(9, 5)), adapters=[exact_layers(Halved)])["0"] is None
    called = "its consumer 'shared' is called more than once"
    assert absent(Tied().double()) == {
        "first": called,
        "shared": called,
        "shared@1": None,
        "last": "no layer reads its output",
    }
    depthwise = image(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=4), nn.Flatten()).double()
    assert absent(depthwise)["1"].startswith("a single unit of it goes to its consumer '3'")


def test_a_consumer_that_is_not_recorded_is_rotated():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 4)).double(), seed=1)
    alone, whole = (read(model, layers=layers)["0"].signals for layers in (["0"], None))
    for name in ("gate_null_spectrum_raw", "gate_null_fourth_centered"):
        np.testing.assert_array_equal(alone[name].array, whole[name].array)


def test_a_hook_of_the_users_on_the_consumer_is_passed_by():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 4)).double(), seed=1)
    without = read(model)["0"].signals["gate_null_spectrum_raw"].array
    model[2].register_full_backward_hook(lambda module, below, above: None)
    np.testing.assert_allclose(read(model)["0"].signals["gate_null_spectrum_raw"].array, without, rtol=1e-6)


def test_checkpointed_layers_have_a_gate_null():
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            inner = nn.Sequential(*list(self)[:2])
            return self[2](torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=False))

    torch.manual_seed(0)
    layers = [nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 4)]
    plain = convert(nn.Sequential(*layers).double(), seed=1)
    plain, found = (read(model)["0"].signals for model in (plain, Checkpointed(*plain)))
    np.testing.assert_array_equal(
        found["gate_null_spectrum_raw"].array, plain["gate_null_spectrum_raw"].array
    )


class Once(torch.autograd.Function):
    """A rule whose backward pass takes what its forward pass left, and so runs only once."""

    @staticmethod
    def forward(ctx, x):
        ctx.left = [x]
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(ctx.left.pop()) + gradient


class RunsOnce(nn.Module):
    def forward(self, x):
        return Once.apply(x)


@pytest.mark.parametrize("place", [1, 3], ids=["below the consumer", "above it"])
def test_a_rule_that_goes_backward_only_once_is_refused_with_the_way_out(place):
    layers = [nn.Linear(32, 9), nn.ReLU(), nn.Linear(9, 6), nn.Linear(6, 4)]
    layers.insert(place, RunsOnce())
    model = nn.Sequential(*layers).double()
    match = r"layer '[023]': the gate null goes .* raised IndexError: pop from .*; give Probe\(gate_draws=0\)"
    with pytest.raises(CaptureError, match=match):
        read(model)
    found = read(model, gate_draws=0)
    assert found["0"].signals["error"].array.any()
