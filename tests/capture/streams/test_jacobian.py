"""Compare the cosine of the two backward maps with explicit matrix products."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import fadiag
from fadiag import spectra
from fadiag.capture import Probe, Recorder
from fadiag.errors import InputError

N, SIZES = 7, (6, 9, 8, 4)


def net(seed: int = 0, rule: str = "fa") -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i, o in pairwise(SIZES):
        layers += [nn.Linear(i, o), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).double()
    return fadiag.convert(model, rule=rule, seed=1) if rule != "bp" else model


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def read(model: nn.Module, path: Path, vectors: int) -> dict[str, np.ndarray]:
    torch.manual_seed(5)
    batch = torch.randn(N, SIZES[0], dtype=torch.float64), torch.randint(SIZES[-1], (N,))
    probe = Probe(batch, loss_of, signals=["error", "activation"], jacobian_vectors=vectors)
    with Recorder(model, path, probes={"probe": probe}, state=()):
        pass
    tree = fadiag.open_run(path)["probe"]
    return {
        name: node["jacobian_cosine"][0].values
        for name, node in tree.children.items()
        if "jacobian_cosine" in node
    }


def by_hand(model: nn.Sequential) -> dict[str, np.ndarray]:
    """Return J at h_1 and h_2 of each sample, as products of W (or B) and the gates; its rows are outputs."""
    torch.manual_seed(5)
    x = torch.randn(N, SIZES[0], dtype=torch.float64)
    gate = (model[:3](x) > 0).double().detach().numpy()  # phi' at z_2
    w2, w3 = (model[i].weight.detach().numpy() for i in (2, 4))
    b2, b3 = (model[i].feedback.numpy() for i in (2, 4))
    true = np.stack([w3 * g @ w2 for g in gate]), np.stack([w3] * N)
    own = np.stack([b3 * g @ b2 for g in gate]), np.stack([b3] * N)
    return {name: spectra.matrix_cosine(t, o) for name, t, o in zip(("0", "2"), true, own, strict=True)}


def test_exact_maps_are_the_products_of_matrices(tmp_path: Path) -> None:
    model = net()
    found, expected = read(model, tmp_path / "run.zarr", 4), by_hand(model)
    assert set(found) == {"0", "2"}  # at the output itself the map is the identity under any rule
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12)
        assert np.abs(found[name]).max() < 0.9


def test_random_vectors_estimate_them(tmp_path: Path) -> None:
    """With more vectors than needed the map is exact; with fewer the estimate's error falls as 1/sqrt."""
    model = net()
    expected = by_hand(model)
    errors = []
    for vectors in (1, 3):
        found = read(model, tmp_path / f"{vectors}.zarr", vectors)
        errors.append(np.mean([np.abs(found[name] - expected[name]).mean() for name in expected]))
    assert 0 < errors[1] < errors[0]


def test_equal_feedback_gives_one_and_no_feedback_nothing(tmp_path: Path) -> None:
    model = net()
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.feedback.copy_(layer.weight.detach())
    for values in read(model, tmp_path / "same.zarr", 4).values():
        np.testing.assert_allclose(values, 1.0, atol=1e-12)
    assert read(net(rule="bp"), tmp_path / "bp.zarr", 4) == {}


def test_a_dead_sample_has_no_direction(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model[2].bias.fill_(-1e3)  # no unit of the second layer is open
    found = read(model, tmp_path / "run.zarr", 4)
    assert np.isnan(found["0"]).all()
    assert np.isfinite(found["2"]).all()


def test_the_analysis_gives_the_mean_over_samples_that_have_one(tmp_path: Path) -> None:
    model = net()
    found = read(model, tmp_path / "run.zarr", 4)
    measured = fadiag.analyze(tmp_path / "run.zarr")["probe"]["jacobian_alignment"].squeeze()
    for name, values in found.items():
        np.testing.assert_allclose(measured.sel(layer=name), values.mean(), atol=1e-12)
    with torch.no_grad():
        model[2].bias.fill_(-1e3)
    read(model, tmp_path / "dead.zarr", 4)
    dead = fadiag.analyze(tmp_path / "dead.zarr", metrics=["jacobian_alignment"])["probe"][
        "jacobian_alignment"
    ]
    assert np.isnan(dead.sel(layer="0")).all()
    assert "no sample where both have a direction" in dead.attrs["not_a_number"]


class Checkpointed(nn.Module):
    """A network whose middle is checkpointed: each backward pass runs it forward again."""

    def __init__(self, checkpointed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        h = checkpoint(self.block, h, use_reentrant=False) if self.checkpointed else self.block(h)
        return self.last(h)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_checkpointed_block_changes_nothing(mode: str, tmp_path: Path) -> None:
    """A backward pass through a retained graph runs the block again, in the probe's mode and feedback."""
    found = []
    for checkpointed in (False, True):
        model = fadiag.convert(Checkpointed(checkpointed).double(), rule="fa", seed=1)
        model.first.weight.requires_grad_(False)
        batch = torch.randn(N, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        probe = Probe((batch, torch.arange(N) % 4), loss_of, mode=mode, jacobian_vectors=4, gate_draws=3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        path = tmp_path / f"{checkpointed}.zarr"
        with Recorder(model, path, probes={"probe": probe}, state=()):
            pass
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        found.append(fadiag.open_run(path)["probe"])
    for layer in ("first", "block.0"):
        for name in ("jacobian_cosine", "gate_null_fourth_raw", "error", "error_bp"):
            plain, checkpointed = (tree[layer][name].values for tree in found)
            assert np.isfinite(plain).any()
            np.testing.assert_array_equal(checkpointed, plain)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(InputError, match="jacobian_vectors is -1; give a whole number, at least 0"):
        Probe((), loss_of, jacobian_vectors=-1)
