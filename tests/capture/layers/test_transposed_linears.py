"""Test transformers' Conv1D, a linear layer with an (in, out) weight, with and without FA, and in GPT-2."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.analysis import analyze
from fadiag.capture import Probe, Recorder
from fadiag.rules import RULES, FeedbackLayer, convert, targets
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of
from tests.rules.straight import DIRECT

transformers = pytest.importorskip("transformers")
Conv1D = transformers.pytorch_utils.Conv1D

X, Y = labelled(16, torch.float64)
TOKENS = torch.randint(20, (4, 5), generator=torch.Generator().manual_seed(2))


def mlp(rule="bp", layers=None):
    torch.manual_seed(0)
    model = nn.Sequential(Conv1D(8, 6), nn.ReLU(), Conv1D(8, 8), nn.Tanh(), Conv1D(3, 8)).double()
    for i in (0, 2, 4):
        nn.init.normal_(model[i].weight, std=0.4)
    return convert(model, rule, layers=layers, example=X)


def gpt2():
    torch.manual_seed(0)
    # A ReLU, since the default gate of GPT-2 is a formula of several operations.
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        activation_function="relu", initializer_range=0.3, loss_type="ForCausalLM",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).double()


def record(model, path, batch=(X, Y), loss=loss_of, **options):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = {"probe": Probe(batch, loss, **options)}
    with Recorder(model, path, probes=probes, optimizer=optimizer, every=1) as recorder:
        loss(model, batch).backward()
        optimizer.step()
        recorder.step()
    return open_run(path)


def causal(model, batch):
    return model(input_ids=batch, labels=batch).loss


def loss_of_targets(model, batch):
    with targets(model, batch[1]):
        return loss_of(model, batch)


@pytest.mark.parametrize("rule", [rule.name for rule in RULES if rule.trains])
def test_signals_are_those_of_a_linear_layer_with_the_matrices_turned(rule, tmp_path):
    """The twin has nn.Linear in each Conv1D's place, with W^T and B^T; F is as it is."""
    model = mlp(rule)
    twin = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    is_direct = rule in DIRECT
    convert(twin, rule if rule == "bp" or is_direct else "fa", example=X)
    with torch.no_grad():
        for i in (0, 2, 4):
            twin[i].weight.copy_(model[i].weight.t())
            twin[i].bias.copy_(model[i].bias)
            if rule != "bp":
                twin[i].feedback.copy_(model[i].feedback if is_direct else model[i].feedback.t())
    loss = loss_of_targets if rule == "drtp" else loss_of
    options = {
        "mode": "eval",
        "loss": loss,
        "signals": ["activation", "error", "error_bp", "gradient", "gradient_bp"],
    }
    found = record(model.eval(), tmp_path / "run.zarr", **options)
    expected = record(twin.eval(), tmp_path / "twin.zarr", **options)
    for name in ("0", "2", "4"):
        layer = found[f"probe/{name}"]
        kind = "layerwise" if rule != "bp" and not is_direct else "direct"
        assert layer.attrs["feedback_kind"] == (
            "exact" if rule == "bp" or (is_direct and name == "4") else kind
        )
        assert (layer.attrs["in_features"], layer.attrs["out_features"]) == tuple(
            model[int(name)].weight.shape
        )
        for signal in options["signals"]:
            one, other = layer[signal], expected[f"probe/{name}/{signal}"]
            values = one.values.swapaxes(1, 2) if "gradient" in signal else one.values
            assert one.dims == (("step", "in", "out") if "gradient" in signal else other.dims)
            # The first record: after it the feedback of a sign rule follows the weight, the twin's does not.
            np.testing.assert_allclose(values[0], other.values[0], rtol=0, atol=1e-12)
    errors = [found[f"probe/0/{s}"].values[0] for s in ("error", "error_bp")]
    assert (abs(errors[0] - errors[1]).max() > 1e-3) == (rule != "bp")


def test_a_plain_one_takes_another_feedback(tmp_path):
    B = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = mlp()
    run = record(model, tmp_path / "run.zarr", feedbacks={"mine": {"2": B}})
    assert type(model[2]) is Conv1D
    fed = mlp("fa", layers=["2"])
    fed[2].feedback.copy_(B)
    expected = record(fed, tmp_path / "fed.zarr")["probe/0/error"].values[0]
    np.testing.assert_allclose(run["probe/0/error_mine"].values[0], expected, rtol=0, atol=1e-12)
    assert abs(expected - run["probe/0/error"].values[0]).max() > 1e-3


def test_gpt2_is_recorded_whole(tmp_path):
    model = convert(gpt2())
    names = [name for name, module in model.named_modules() if isinstance(module, FeedbackLayer)]
    assert len(names) == 9
    run = record(model, tmp_path / "run.zarr", TOKENS, causal, mode="eval")
    true = record(gpt2(), tmp_path / "true.zarr", TOKENS, causal, mode="eval")
    tables = ["transformer.wte", "transformer.wpe"]
    assert set(run["probe"].children) == set(true["probe"].children) == {*names, *tables}
    for name in (*names, *tables):
        found, exact = (r[f"probe/{name}/error_bp"].values[0] for r in (run, true))
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12)
        assert exact.any()
        if name != "lm_head":
            assert abs(run[f"probe/{name}/error"].values[0] - exact).max() > 1e-3 * abs(exact).max()
    cosines = analyze([tmp_path / "run.zarr"])["state/weight_feedback_cosine"]
    for name in names:
        layer = model.get_submodule(name)
        start, feedback = (run[f"static/{name}/{s}"].values.ravel() for s in ("weight_init", "feedback"))
        np.testing.assert_array_equal(feedback, layer.feedback.numpy().ravel())
        expected = start @ feedback / np.linalg.norm(start) / np.linalg.norm(feedback)
        np.testing.assert_allclose(cosines.sel(layer=name).values.squeeze()[0], expected, rtol=1e-6)
    # The tied weight is recorded once, as the output layer's, with the gradient of both.
    assert "weight" not in run["state"].get("transformer.wte", {})
    twin = convert(gpt2())
    assert twin.lm_head.weight is twin.transformer.wte.weight
    causal(twin, TOKENS).backward()
    for name in names:
        found, expected = run[f"state/{name}/gradient"].values[0], twin.get_submodule(name).weight.grad
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
