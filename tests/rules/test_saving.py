"""Converted models can be copied and saved, under every rule and for every kind of layer."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fadiag.rules import RULES, FeedbackConv1d, FeedbackConv2d, FeedbackLayer, FeedbackLinear, convert
from tests.rules.straight import learning

WITH_FEEDBACK = [rule.name for rule in RULES if rule.layer is not None]
PREFIXES = {
    "fa": "Feedback",
    "dfa": "DFA",
    "drtp": "DRTP",
    "usf": "UniformSign",
    "frsf": "FixedSign",
    "brsf": "BatchSign",
    "kp": "KolenPollack",
}


def network(rule: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 3, 3), nn.Flatten(), nn.Linear(69, 3)
    )
    return convert(model, rule, example=torch.zeros(2, 2, 7, 7)).eval()


def saved_whole(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_whole,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("rule", WITH_FEEDBACK)
def test_a_copy_has_the_same_classes_numbers_and_gradients(rule: str, how: str) -> None:
    model, x = network(rule), torch.randn(5, 2, 7, 7)
    other = COPIES[how](model)
    results = []
    for one in (model, other):
        inputs = x.clone().requires_grad_()
        with learning(one, torch.arange(5) % 3):
            one(inputs).square().sum().backward()
        results.append({"input": inputs.grad} | {name: p.grad for name, p in one.named_parameters()})
    assert [type(m) for m in other] == [type(m) for m in model]
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert model.state_dict().keys() == other.state_dict().keys()
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in other.parameters()}


@pytest.mark.parametrize("rule", WITH_FEEDBACK)
def test_the_state_of_one_model_fits_another(rule: str) -> None:
    model, other, x = network(rule), network(rule), torch.randn(5, 2, 7, 7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.mul_(2)
    other.load_state_dict(model.state_dict())
    for one, two in zip(model, other, strict=True):
        if isinstance(one, FeedbackLayer):
            assert torch.equal(one.feedback, two.feedback)
    with torch.no_grad():
        assert torch.equal(model(x), other(x))


def test_a_saved_model_is_read_in_a_process_that_did_not_convert() -> None:
    saved = pickle.dumps(network("kp")).hex()
    code = f"import pickle; print(pickle.loads(bytes.fromhex({saved!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "KolenPollackConv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), rule='kp')" in done.stdout


@pytest.mark.parametrize("rule", WITH_FEEDBACK)
def test_layers_are_torchs_kinds_with_the_rule_in_their_name_and_repr(rule: str) -> None:
    model = network(rule)
    for layer, kind, with_feedback in (
        (model[0], nn.Conv2d, FeedbackConv2d),
        (model[3], nn.Conv1d, FeedbackConv1d),
        (model[5], nn.Linear, FeedbackLinear),
    ):
        assert isinstance(layer, kind)
        assert isinstance(layer, with_feedback)
        assert type(layer).__name__ == PREFIXES[rule] + kind.__name__
        assert layer.rule == rule
        assert repr(layer).endswith(f"rule={rule!r})")
