"""Every variable of results is computed again from the store's arrays, by what its attributes say alone."""

import re
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag.analysis import Metric, analyze
from fadiag.capture import Live, Probe, Recorder, direct_hooks
from fadiag.spectra import permuted_cosines
from tests.analysis.formulas import ANGLE, FORMULAS, RANKS, SAMPLES
from tests.analysis.stored import NAN, Place, Store

N, UPDATES = 10, 10
CONV = tuple(f"conv {reduction} {unfolding}" for reduction in ("raw", "factor") for unfolding in "sc")
CASES = ("linear raw", "linear factor", "direct raw", *CONV)
EQUAL = (
    "a draw equals the value within 1e-06 of the scale, the larger of |value| and the median |draw| "
    "(the upper one of an even number)"
)


def scale(draws, value):
    return 1e-6 * max(abs(value), np.sort(abs(draws))[len(draws) // 2])


TYPE_7 = "linear between the two nearest of the sorted draws (Hyndman and Fan 1996, type 7)"
#: What says how draws were summarized -> the summary of draws and the value.
SUMMARIES = {
    f"(1 + #{{draws >= value}}) / (draws + 1); {EQUAL}": lambda d, x: (
        (1 + sum(d >= x - scale(d, x))) / (len(d) + 1)
    ),
    f"(1 + #{{draws <= value}}) / (draws + 1); {EQUAL}": lambda d, x: (
        (1 + sum(d <= x + scale(d, x))) / (len(d) + 1)
    ),
    f"2.5% quantile, {TYPE_7}": lambda d, x: np.quantile(d, 0.025, method="linear"),
    f"97.5% quantile, {TYPE_7}": lambda d, x: np.quantile(d, 0.975, method="linear"),
    "mean of the draws": lambda d, x: d.mean(),
    "number of draws that are not NaN": lambda d, x: len(d),
}
TAILS = {">=": "upper", "<=": "lower"}
CEILINGS = {
    "value >= 0.99 min(rows, columns)": lambda x, shape: x >= 0.99 * min(shape),
    "value >= 0.99 min(rows - 1, columns)": lambda x, shape: x >= 0.99 * min(shape[0] - 1, shape[1]),
}
#: The attribute ``layers`` -> whether a layer has the variable.
LAYERS = {
    "all with feedback_kind 'layerwise', but not the network's first": lambda kind, order: (
        kind(0) == "layerwise" and order > 0
    ),
    "in a chain, all below one with feedback_kind 'layerwise'": lambda kind, _: kind(1) == "layerwise",
    "all with feedback_kind 'direct'": lambda kind, _: kind(0) == "direct",
    "in a chain, all with feedback_kind 'direct' above another such layer": lambda kind, _: (
        kind(0) == kind(-1) == "direct"
    ),
    "in a chain, the last, above one with feedback_kind 'direct'": lambda kind, _: (
        kind(-1) == "direct" and not kind(1)
    ),
}
ORDERS = r"B's entries .*permuted_cosines\(W, B, (\d+), numpy.random.default_rng\((\d+)\)\) draws them"


def draws_of(place):
    """Return the draws of the null that the attributes name."""
    formula = place.attrs["formula"]
    if not place.draws_of:
        count, seed = map(int, re.fullmatch(ORDERS, place.attrs["null"]).groups())
        key = (place.layer, place.step)  # of angle and cosine alike, and of each summary
        if key not in place.store.reordered:
            rng = np.random.default_rng(seed)
            place.store.reordered[key] = permuted_cosines(*place.vectors, count, rng)
        cosines = place.store.reordered[key]
        return {ANGLE: np.degrees(np.arccos(cosines))}.get(formula, cosines)
    first, *fourth = (values.astype(np.float64) for values, _, _ in place.draws_of)
    if first.ndim == 1:  # the statistic itself
        return first
    rank = {**RANKS, SAMPLES: lambda s, fourth: (s**2).sum() ** 2 / fourth}[formula]
    return np.array([rank(*of_draw) for of_draw in zip(first, *fourth, strict=True)])


def summary_of(place, value):
    """Return the variable of a null; NaN where nothing was drawn."""
    attrs = place.attrs
    found = [attrs[key] for key in ("p_formula", "quantile_rule", "summary") if key in attrs]
    assert len(found) == 1
    tails = [tail for sign, tail in TAILS.items() if f"draws {sign}" in found[0]]
    assert tails == ([attrs["tail"]] if "tail" in attrs else [])
    if np.isnan(value) or None in place.draws_of:
        return NAN
    draws = draws_of(place)
    draws = draws[~np.isnan(draws)]
    assert attrs["draws"] == len(draws)
    return SUMMARIES[found[0]](draws, value)


def recomputed(store, stream, layer, step, attrs):
    """Return the value of a variable at one layer and step, by its attributes."""
    formula = FORMULAS[attrs["formula"]]
    at = partial(store.kind, stream, layer), store.order(stream, layer)
    has_layer = "layers" not in attrs or LAYERS[attrs["layers"]](*at)
    place = Place(store, stream, layer, step, attrs)
    if not (place.is_there and has_layer):
        return NAN
    with np.errstate(invalid="ignore"):  # what is 0 / 0 is not a number
        value = float(formula(place))
    if "null" in attrs:
        return float(summary_of(place, value))
    if "ceiling" in attrs:
        return NAN if np.isnan(value) else float(CEILINGS[attrs["ceiling"]](value, place.shape))
    return value


def check(store, stream, variable):
    """Hold a variable against what its attributes make of the store's arrays."""
    attrs = variable.attrs
    assert variable.dtype == np.float64
    found = variable.isel(run=0)
    if attrs["formula"] == "as recorded":
        np.testing.assert_array_equal(found, store.tree[stream][attrs["signals"]])
        return
    if stream == "probe":
        assert attrs["probe_mode"] == store.tree[stream].attrs["mode"]
    for layer in found["layer"].values:
        expected = [recomputed(store, stream, str(layer), step, attrs) for step in found["step"].values]
        np.testing.assert_allclose(
            found.sel(layer=layer), expected, 1e-6, 1e-6, err_msg=f"{variable.name} of {layer}: {attrs}"
        )


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def send(module, inputs, outputs):
    return (module.top["delta"] @ module.F,)


def net_of(kind):
    """Return a net, its adapters, and a batch."""
    torch.manual_seed(3)
    y = torch.randint(4, (N,))
    if kind == "conv":
        layers = [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, stride=2)]
        net = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
        return fadiag.convert(net, seed=0), (), (torch.randn(N, 2, 10, 10), y)
    x = torch.randn(N, 6)
    if kind == "linear":
        net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
        return fadiag.convert(net, seed=0), (), (x, y)
    net = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(3)), nn.Linear(6, 4, bias=False))
    top = {}
    for layer in list(net)[1:]:
        layer.F, layer.top = torch.randn(4, 6), top
        layer.register_full_backward_hook(send)
        nn.init.zeros_(layer.weight)
    net[-1].register_full_backward_pre_hook(lambda module, gradient: top.update(delta=gradient[0]))
    return net, (direct_hooks(nn.Linear, feedback="F"),), (x, y)


def record(path, case):
    """Record every signal and every null of a run whose last batch is short."""
    kind, reduction, *unfolding = case.split()
    how = {"reduction": reduction, "unfolding": "channels" if unfolding == ["c"] else "samples"}
    net, adapters, (x, y) = net_of(kind)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.5)
    signals = ("activation", "modulator", "error_post", "error", "error_bp", "modulator_bp")
    probe = Probe(
        (x, y),
        loss_of,
        signals=(*signals, "gradient", "gradient_bp", "input"),
        redraws=19,
        gate_draws=19,
        null_every=(0, UPDATES),
        jacobian_vectors=0 if kind == "direct" else 4,
        every=(0, 1, UPDATES),
        **how,
    )
    with Recorder(
        net,
        path,
        optimizer=optimizer,
        probes={"probe": probe},
        live=Live((*signals[:4], "input"), every=(1, UPDATES - 1), **how),
        every=(0, 1, UPDATES) if kind == "conv" else 1,
        adapters=adapters,
        state=None if kind != "conv" else ("weight", "gradient", "update"),
    ) as recorder:
        for step in range(UPDATES):
            rows = N - 3 if step == UPDATES - 1 else N
            optimizer.zero_grad()
            loss = loss_of(net, (x[:rows], y[:rows]))
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss.item())
    return path, how["unfolding"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a function that gives the store and the results of a case."""

    @cache
    def measure(case):
        path, unfolding = record(tmp_path_factory.mktemp("runs") / "run.zarr", case)
        return Store(path), analyze(path, unfolding=unfolding)

    return measure


#: `make test` has each reduction and each unfolding of a convolution once.
SLOW = ("conv raw c", "conv factor s")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES]
)
def test_every_variable_follows_from_its_attributes(measured, case):
    store, results = measured(case)
    checked = 0
    for stream, node in results.children.items():
        for variable in node.to_dataset().data_vars.values():
            check(store, stream, variable)
            checked += 1
    assert checked > 200


def test_a_variable_that_nobody_knows_fails(make_run):
    own = Metric(
        "largest", ("probe",), ("error",), lambda view: view.spectrum("error")[:, 0], "", "max s", ""
    )
    largest = analyze(make_run(0), metrics=[own])["probe/largest"]
    with pytest.raises(KeyError, match="max s"):
        check(None, "live", largest)


@pytest.mark.parametrize(
    ("variable", "attribute", "other"),
    [
        ("error_stable_rank_raw", "centered", 1),
        ("error_stable_rank_centered", "signals", "error_bp"),
        ("error_stable_rank_raw_null_p", "draws_of", "gate_null_spectrum_raw"),
        ("error_stable_rank_raw_null_low", "quantile_rule", f"97.5% quantile, {TYPE_7}"),
        ("error_overlap", "k", 1),
    ],
)
def test_a_wrong_attribute_fails(measured, variable, attribute, other):
    store, results = measured("linear raw")
    found = results["probe"][variable]
    assert found.attrs[attribute] != other
    with pytest.raises(AssertionError, match=variable):
        check(store, "probe", found.assign_attrs({attribute: other}))
