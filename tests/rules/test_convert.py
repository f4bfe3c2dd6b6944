"""Conversion in place: identity kept, seeds, laws, shared weights, errors."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fadiag import FadiagError
from fadiag.errors import ConvertWarning, InputError
from fadiag.rules import LAWS, FeedbackConv1d, FeedbackConv2d, FeedbackLinear, convert


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def test_modules_parameters_and_hooks_stay_the_same_objects() -> None:
    model = mlp()
    modules, parameters = list(model.modules()), list(model.parameters())
    seen: list[torch.Size] = []
    model[2].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    assert convert(model) is model
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    model(torch.randn(2, 6))
    assert seen == [torch.Size([2, 4])]


def test_the_root_itself_and_every_kind_are_converted() -> None:
    assert type(convert(nn.Linear(2, 2))) is FeedbackLinear
    model = convert(nn.Sequential(nn.Conv1d(2, 2, 2), nn.Conv2d(2, 2, 2)))
    assert [type(m) for m in model] == [FeedbackConv1d, FeedbackConv2d]


def test_subclasses_are_left_alone() -> None:
    class Mine(nn.Linear):
        pass

    with pytest.warns(ConvertWarning, match=r"keeps its exact backward pass: '0' \(Mine\), with 50 %"):
        model = convert(nn.Sequential(Mine(2, 2), nn.Linear(2, 2)))
    assert [type(m) for m in model] == [Mine, FeedbackLinear]


def test_torchs_generator_is_not_touched() -> None:
    model = mlp()
    state = torch.get_rng_state()
    convert(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_feedback_depends_on_seed_and_name_only() -> None:
    small = convert(nn.ModuleDict({"a": nn.Linear(4, 4)}), seed=5)
    torch.manual_seed(9)
    large = nn.ModuleDict({"z": nn.Linear(4, 4), "a": nn.Linear(4, 4)})
    large["a"].weight.data = small["a"].weight.data.clone()
    convert(large, seed=5)
    assert torch.equal(small["a"].feedback, large["a"].feedback)
    assert not torch.equal(large["z"].feedback, large["a"].feedback)
    other = nn.ModuleDict({"a": copy.deepcopy(nn.Linear(4, 4))})
    assert not torch.equal(convert(other, seed=6)["a"].feedback, small["a"].feedback)


@pytest.mark.parametrize(("law", "kurtosis"), [("gaussian", 3.0), ("uniform", 1.8)])
def test_law_has_the_weights_scale_and_its_own_shape(law: str, kurtosis: float, device: torch.device) -> None:
    layer = convert(nn.Linear(300, 400).to(device), feedback=law).cpu()
    b = layer.feedback.double().numpy().ravel()
    scale = float(layer.weight.detach().square().mean().sqrt())
    # d = 120,000 entries: the relative sd of the scale is below 0.3 %, that of the kurtosis below 0.015.
    assert np.sqrt(np.mean(b**2)) == pytest.approx(scale, rel=0.01)
    assert np.mean(b**4) / np.mean(b**2) ** 2 == pytest.approx(kurtosis, abs=0.06)
    cosine = (
        b @ layer.weight.detach().double().numpy().ravel() / (np.linalg.norm(b) * layer.weight.norm().item())
    )
    assert abs(cosine) < 5 / np.sqrt(b.size)


def test_permuted_law_is_the_weights_own_entries(device: torch.device) -> None:
    layer = convert(nn.Linear(6, 5).to(device), feedback="permuted")
    assert torch.equal(layer.feedback.flatten().sort()[0], layer.weight.detach().flatten().sort()[0])
    assert not torch.equal(layer.feedback, layer.weight)


def test_feedback_is_the_same_on_every_device(device: torch.device) -> None:
    for law in LAWS:
        one, other = convert(mlp(), feedback=law), convert(mlp().to(device), feedback=law)
        assert all(
            torch.equal(a.feedback, b.feedback.cpu()) for a, b in zip(one[::2], other[::2], strict=True)
        )


def test_float64_and_float32_models_get_the_same_feedback(device: torch.device) -> None:
    one = nn.Linear(6, 5).to(device)
    two = copy.deepcopy(one).double()
    torch.testing.assert_close(convert(one).feedback.double(), convert(two).feedback, rtol=1e-6, atol=0)


def test_feedback_is_in_the_state_dict_and_moves_with_the_model(device: torch.device) -> None:
    model = convert(mlp()).to(device)
    assert {name for name in model.state_dict() if "feedback" in name} == {f"{i}.feedback" for i in (0, 2, 4)}
    other = convert(mlp(), seed=7)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[0].feedback, model[0].feedback.cpu())
    assert model[0].feedback.device.type == device.type
    assert model.double()[0].feedback.dtype == torch.float64
    assert "0.feedback" not in dict(model.named_parameters())


def test_shared_modules_are_converted_once_and_shared_weights_share_feedback() -> None:
    shared = nn.Linear(4, 4)
    model = convert(nn.Sequential(shared, nn.ReLU(), shared))
    assert model[0] is model[2]
    assert type(model[0]) is FeedbackLinear
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = one.weight
    tied = convert(nn.Sequential(one, two))
    assert tied[0].feedback is tied[1].feedback


def test_layers_choose() -> None:
    model = convert(mlp(), layers=["2"])
    assert [type(m) for m in model if isinstance(m, nn.Linear)] == [nn.Linear, FeedbackLinear, nn.Linear]


def test_bp_leaves_the_model_as_it_is() -> None:
    model = mlp()
    assert convert(model, rule="bp") is model
    assert type(model[0]) is nn.Linear


def test_errors_name_the_thing_and_the_way_out() -> None:
    with pytest.raises(InputError, match=r"unknown rule 'faa'; did you mean 'fa'"):
        convert(mlp(), rule="faa")
    with pytest.raises(
        InputError,
        match=r"unknown rule 'xyz'; there are 'bp', 'fa', 'dfa', 'drtp', 'usf', 'frsf', 'brsf', 'kp'",
    ):
        convert(mlp(), rule="xyz")
    with pytest.raises(InputError, match=r"unknown feedback law 'gauss'; did you mean 'gaussian'"):
        convert(mlp(), feedback="gauss")
    with pytest.raises(InputError, match=r"unknown layer 'fc'; there are '0', '2', '4'"):
        convert(mlp(), layers=["fc"])
    with pytest.raises(FadiagError, match=r"nothing to convert in ReLU: it has no layer of type nn.Linear"):
        convert(nn.ReLU())
    with pytest.raises(
        InputError,
        match=r"nothing to convert in Sequential: already converted are '0', '2', '4'; build a fresh",
    ):
        convert(convert(mlp()))
    with pytest.raises(
        InputError, match=r"another rule already: there is feedback in '0', '2', '4'; build a fresh model"
    ):
        convert(convert(mlp()), rule="bp")
    with pytest.raises(InputError, match=r"rule 'frozen' needs layers=: .*; name those to freeze"):
        convert(mlp(), rule="frozen")
    with pytest.raises(InputError, match=r"layer '' has no weights yet"):
        convert(nn.Linear(3, 2, device="meta"))


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_a_weight_without_a_scale_is_refused_and_the_model_left_whole(value: float, shown: str) -> None:
    model = mlp()
    with torch.no_grad():
        model[4].weight.fill_(value)
    with pytest.raises(InputError, match=rf"layer '4': the weight's root mean square is {shown}"):
        convert(model)
    assert type(model[0]) is nn.Linear
    assert not list(model.buffers())


def test_an_optimizer_made_before_trains_the_converted_model(device: torch.device) -> None:
    model = mlp().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    convert(model)
    model(torch.randn(8, 6, device=device)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("law", [*LAWS])
@pytest.mark.parametrize("elsewhere", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf", "kp"])
def test_the_default_device_changes_no_feedback(
    rule: str, elsewhere: str, law: str, device: torch.device
) -> None:
    if elsewhere == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found, x = [], torch.randn(2, 6).to(device)
    for default in (torch.device("cpu"), torch.device(elsewhere)):
        model = mlp().to(device)
        with default:
            convert(model, rule=rule, feedback=law)
            torch.manual_seed(1)
            model(x).square().sum().backward()
        layers = [model[i] for i in (0, 2, 4)]
        assert all(layer.feedback.device == layer.weight.device for layer in layers)
        found.append([tensor for layer in layers for tensor in (layer.feedback, layer.weight.grad)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
