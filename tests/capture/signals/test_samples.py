"""Test layers that see other samples than the batch: experts, siamese networks, position tables."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag import spectra
from fadiag.analysis import analyze
from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureWarning
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


class Experts(nn.Module):
    """Two experts; ``first`` samples go to one, the rest to the other."""

    def __init__(self, copies=1, *, always=False):
        super().__init__()
        self.e = nn.ModuleList(nn.Linear(6, 5) for _ in range(2))
        self.out = nn.Linear(5, 3)
        self.copies, self.always = copies, always
        self.first = 0

    def forward(self, x):
        h = x.new_zeros(len(x), 5)
        parts = (slice(self.first), slice(self.first, None))
        for expert, part in zip(self.e, parts, strict=True):
            if self.always or len(x[part]):
                seen = x[part].repeat(self.copies, 1)
                h[part] = functional.relu(expert(seen)).unflatten(0, (self.copies, -1)).mean(0)
        return self.out(h)


def recorded(path, counts, model=None, **options):
    """Record a probe in which expert 0 sees ``counts`` samples, step by step; return its activations."""
    torch.manual_seed(0)
    model, seen = Experts() if model is None else model, []
    model.first = counts[0]
    probe = Probe((X, Y), loss_of, **options)
    with Recorder(model, path, probes={"p": probe}, every=1, state=()) as recorder:
        for now, then in zip(counts, [*counts[1:], None], strict=True):
            seen.append(model.e[0](X[:now]).relu().detach().numpy())
            if then is not None:
                model.first = then
                recorder.step()
    return seen


def test_an_expert_that_sees_more_samples_later_is_recorded_whole(tmp_path):
    counts = [5, 6, 3, 16, 9]
    seen = recorded(tmp_path / "raw.zarr", counts)
    recorded(tmp_path / "factor.zarr", counts, reduction="factor")
    for kind in ("raw", "factor"):
        run = open_run(tmp_path / f"{kind}.zarr")
        assert list(run["p"]["rows_valid"].values) == [16] * 5
        assert list(run["p/e.0/rows"].values) == counts
        # The other one was not called at step 3.
        np.testing.assert_array_equal(run["p/e.1/rows"].values, [11, 10, 13, np.nan, 7])
        assert "rows" not in run["p/out"]
        found = analyze(tmp_path / f"{kind}.zarr")["p"].isel(run=0)
        for step, x in enumerate(seen):
            values = found.isel(step=step)
            for name, exact in (
                ("effective_rank_raw", spectra.effective_rank(x)),
                ("effective_rank_centered", spectra.effective_rank(x - x.mean(0))),
                ("effective_samples", spectra.effective_samples(x)),
            ):
                assert float(values[f"activation_{name}"].sel(layer="e.0")) == pytest.approx(exact, rel=1e-5)
        ranks = found["error_effective_rank_raw"]
        assert ranks.sel(layer="e.1").isnull().values.tolist() == [False, False, False, True, False]
        assert ranks.notnull().sel(layer=["e.0", "out"]).all()
    activation = open_run(tmp_path / "raw.zarr")["p/e.0/activation"]
    assert activation.attrs["nan_count"] == 0
    for values, x in zip(activation.values, seen, strict=True):
        np.testing.assert_allclose(values[: len(x)], x, rtol=1e-6)
        assert np.isnan(values[len(x) :]).all()


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_an_expert_without_samples_has_no_values(tmp_path, reduction):
    recorded(tmp_path / "run.zarr", [3, 0, 3], Experts(always=True), reduction=reduction)
    assert list(open_run(tmp_path / "run.zarr")["p/e.0/rows"].values) == [3, 0, 3]
    found = analyze(tmp_path / "run.zarr")["p"].isel(run=0).sel(layer="e.0")
    for name in ("activation_effective_rank_raw", "error_cosine_valid", "error_participation_ratio_centered"):
        assert found[name].isnull().values.tolist() == [False, True, False]


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_samples_beyond_the_capacity_of_a_layer_are_left_out_with_a_warning(tmp_path, reduction):
    model = Experts(copies=4)  # each sample comes four times
    with pytest.warns(
        CaptureWarning, match=r"layer 'e.0' has 24 samples in one step, and room for the 20 of"
    ):
        recorded(tmp_path / "run.zarr", [5, 6, 4], model, reduction=reduction)
    run = open_run(tmp_path / "run.zarr")
    assert list(run["p/e.0/rows"].values) == [20, 20, 16]
    analyze(tmp_path / "run.zarr")


class Routed(nn.Module):
    """Each sample goes to the expert that its first feature names; the experts may be the last layers."""

    def __init__(self, *, head=False):
        super().__init__()
        self.e = nn.ModuleList(nn.Linear(6, 3) for _ in range(3))
        self.head = nn.Linear(3, 3) if head else nn.Identity()

    def forward(self, x):
        y = x.new_zeros(len(x), 3)
        for i, expert in enumerate(self.e):
            own = (x[:, 0] == i).nonzero()[:, 0]
            if len(own):
                y = y.index_add(0, own, functional.relu(expert(x[own])))
        return self.head(y)


def routed(counts):
    """A batch of which each expert gets its count."""
    x = torch.randn(sum(counts), 6)
    x[:, 0] = torch.repeat_interleave(torch.arange(3), torch.tensor(counts)).float()
    return x, torch.randint(3, (len(x),))


#: One sample at first, the last layer's share, an expert first called in a short batch, one called once.
SHARES = [(11, 0, 1), (4, 0, 8), (2, 3, 1), (5, 7, 0), (0, 9, 3)]


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("reduction", ["raw", "factor"])
@pytest.mark.filterwarnings("error")
@pytest.mark.filterwarnings("ignore:layers without signals")
def test_every_sample_of_every_expert_is_recorded(tmp_path, head, reduction):
    torch.manual_seed(0)
    model, path = Routed(head=head), tmp_path / "run.zarr"
    seen = []
    with Recorder(model, path, live=Live(every=1, reduction=reduction), state=()) as recorder:
        for counts in SHARES:
            batch = routed(counts)
            loss_of(model, batch).backward()
            own = [batch[0][batch[0][:, 0] == i] for i in range(3)]
            seen.append([expert(x).relu().detach().numpy() for expert, x in zip(model.e, own, strict=True)])
            recorder.step()
    live, ranks = open_run(path)["live"], analyze(path)["live"]["activation_effective_rank_raw"].isel(run=0)
    assert live["rows_valid"].values.tolist() == [sum(counts) for counts in SHARES]
    for i in range(3):
        rows = live[f"e.{i}/rows"].values
        np.testing.assert_array_equal(np.nan_to_num(rows), [counts[i] for counts in SHARES])
        for step, layers in enumerate(seen):
            if len(layers[i]):
                found = float(ranks.sel(layer=f"e.{i}").isel(step=step))
                assert found == pytest.approx(spectra.effective_rank(layers[i]), rel=1e-5)
                if reduction == "raw":
                    stored = live[f"e.{i}/activation"].values[step]
                    np.testing.assert_allclose(stored[: len(layers[i])], layers[i], rtol=1e-5, atol=1e-6)


class Heads(nn.Module):
    """A trunk and a head for each task; a batch is of one task or of both."""

    def __init__(self, kind):
        super().__init__()
        self.trunk, self.kind = nn.Linear(6, 5), kind
        self.heads = nn.ModuleDict({task: nn.Linear(5, 3) for task in "ab"})

    def forward(self, x):
        h = functional.relu(self.trunk(x))
        own = {"a": x[:, 0] > 0, "b": x[:, 0] <= 0}
        found = {task: head(h[own[task]]) for task, head in self.heads.items() if own[task].any()}
        return found if self.kind is dict else list(found.values())


@pytest.mark.parametrize("kind", [dict, list])
def test_the_head_of_a_task_that_comes_later_is_recorded(tmp_path, kind):
    model, path = Heads(kind), tmp_path / "run.zarr"
    only_a = X.abs()
    both = only_a.clone()
    both[:6, 0] *= -1
    batches = [only_a, both[:6], both]

    with Recorder(model, path, live=Live(every=1), state=()) as recorder:
        for batch in batches:
            found = model(batch)
            sum(y.square().mean() for y in (found.values() if kind is dict else found)).backward()
            recorder.step()
    live = open_run(path)["live"]
    assert live["rows_valid"].values.tolist() == [16, 6, 16]
    for task, expected in (("a", [16, 0, 10]), ("b", [0, 6, 6])):
        filled = live[f"heads.{task}/error"].notnull().all("out").sum("sample")
        assert filled.values.tolist() == expected


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.place, self.out = nn.Embedding(9, 5), nn.Embedding(9, 5), nn.Linear(5, 9)

    def forward(self, x):
        return self.out(self.token(x) + self.place(torch.arange(x.shape[1])))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(10, 3)

    def forward(self, x):
        h = functional.relu(self.body(torch.cat([x, x.flip(1)])))
        return self.head(torch.cat(h.chunk(2), dim=1))


@pytest.mark.parametrize("kind", ["positions", "pair"])
@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_short_batches_of_layers_with_rows_of_their_own(tmp_path, kind, reduction):
    torch.manual_seed(0)
    if kind == "positions":
        tokens = torch.randint(9, (4, 7))
        model, batch = Positions(), (tokens, tokens.roll(1, 1))
        names, rows = ("place", "token", "out"), ([7, 7, 7], [4, 2, 4], [4, 2, 4])
    else:
        model, batch = Pair(), (X[:4], Y[:4])
        names, rows = ("body", "head"), ([8, 4, 8], [4, 2, 4])

    def loss(model, batch):
        return functional.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten())

    path = tmp_path / "run.zarr"
    with Recorder(model, path, live=Live(every=1, reduction=reduction), state=()) as recorder:
        for n in (4, 2, 4):
            loss(model, [part[:n] for part in batch]).backward()
            recorder.step()
    run = open_run(path)
    assert list(run["live"]["rows_valid"].values) == [4, 2, 4]
    for name, expected in zip(names, rows, strict=True):
        layer = run[f"live/{name}"]
        assert ("rows" in layer) == (expected != [4, 2, 4])
        if "rows" in layer:
            assert list(layer["rows"].values) == expected
        if reduction == "raw":
            filled = (~np.isnan(layer["error"].values)).all(axis=tuple(range(2, layer["error"].ndim)))
            assert list(filled.sum(1)) == expected
    found = analyze(path)["live"]
    assert found["error_effective_rank_raw"].notnull().all()
    assert found.attrs["kind"] == "live"
    assert int(found["error_effective_rank_raw"].attrs["samples"]) == 4
