"""The laws of the feedback and its scale, matrices that are given, and the same laws for direct rules."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.errors import InputError
from fadiag.rules import INTERVENTIONS, LAWS, RULES, convert, draw_feedback, generator_for

X = torch.ones(2, 40)


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5))


def rms(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


@pytest.mark.parametrize("rule", [rule.name for rule in (*RULES, *INTERVENTIONS)])
def test_every_rule_refuses_a_scale_that_is_not_positive(rule: str) -> None:
    options = {"frozen": {"layers": ["0"]}, "rank_limited": {"rank": 1}, "borrowed_gates": {"twin": mlp()}}
    with pytest.raises(InputError, match="the feedback's scale is -3; give a positive, finite number"):
        convert(mlp(), rule, scale=-3, example=X, **options.get(rule, {}))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_the_scale_is_apart_from_the_weights_and_changes_nothing_else(law: str, scale: float) -> None:
    one, other = convert(mlp(), feedback=law), convert(mlp(), feedback=law, scale=scale)
    for at in (0, 2):
        torch.testing.assert_close(other[at].feedback, scale * one[at].feedback)
        assert other[at].scale == scale
    assert rms(one[0].feedback) == pytest.approx(rms(one[0].weight), rel=0.1)


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf", "kp"])
def test_every_rule_takes_the_scale(rule: str) -> None:
    found = []
    for scale in (1.0, 3.0):
        layer = convert(mlp(), rule, scale=scale)[0]
        torch.manual_seed(1)
        layer(X.requires_grad_())
        found.append(layer.feedback.detach())
    torch.testing.assert_close(found[1], 3 * found[0])


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (8, 3, 2, 2), (4, 3, 5, 5)], ids=str)
def test_orthogonal_feedback_has_equal_singular_values_and_the_weights_scale(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    drawn = draw_feedback(weight, "orthogonal", generator_for(0, "x"))
    values = np.linalg.svd(drawn.reshape(shape[0], -1).numpy(), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
    assert rms(drawn) == pytest.approx(rms(weight), rel=1e-12)


def test_orthogonal_directions_are_haar() -> None:
    # The mean of a Haar matrix is zero, and its entries have variance 1/n: a QR without the signs of R fails.
    weight, generator = torch.ones(3, 3, dtype=torch.float64), generator_for(0, "x")
    draws = torch.stack([draw_feedback(weight, "orthogonal", generator) for _ in range(2000)]) / 3**0.5
    assert float(draws.mean(0).abs().max()) < 4 * (1 / 3 / 2000) ** 0.5
    traces = draws.diagonal(dim1=1, dim2=2).sum(1)
    assert float(traces.square().mean()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("law", LAWS)
def test_direct_rules_have_the_same_laws_in_the_shape_of_their_input(law: str) -> None:
    model = convert(mlp(), "dfa", feedback=law, scale=2.0, example=X)
    for layer, inputs in ((model[0], 40), (model[2], 30)):
        assert layer.feedback.shape == (5, inputs)
        assert rms(layer.feedback) == pytest.approx(2 * rms(layer.weight), rel=0.25)
        if law == "permuted":
            assert set(layer.feedback.flatten().tolist()) <= set((2 * layer.weight).flatten().tolist())


def test_a_permuted_f_with_more_entries_than_the_weight_takes_each_about_equally_often() -> None:
    weight = torch.arange(1.0, 7).reshape(2, 3)
    drawn = draw_feedback(weight, "permuted", generator_for(0, "x"), shape=torch.Size([5, 4]))
    counts = torch.unique(drawn, return_counts=True)[1]
    assert counts.sum() == 20
    assert set(counts.tolist()) == {3, 4}


@pytest.mark.parametrize("rule", ["fa", "kp", "dfa"])
def test_given_matrices_are_used_as_they_are(rule: str) -> None:
    shapes = {"0": (5, 40), "2": (5, 30)} if rule == "dfa" else {"0": (30, 40), "2": (5, 30)}
    given = {name: torch.randn(shape) for name, shape in shapes.items()}
    model = convert(mlp(), rule, feedback=given, example=X)
    for name, matrix in given.items():
        assert torch.equal(model[int(name)].feedback, matrix)
        assert model[int(name)].feedback.data_ptr() != matrix.data_ptr()


GIVEN = {"0": torch.ones(30, 40), "2": torch.ones(5, 30)}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"feedback": {"0": GIVEN["0"]}},
            r"the given feedback lacks '2'; give one matrix for each .*: '0', '2'",
        ),
        ({"feedback": {**GIVEN, "fc": GIVEN["0"]}}, "the given feedback names 'fc'; give one"),
        ({"feedback": {"2": GIVEN["2"], "b": X}}, "the given feedback lacks '0' and names 'b'; give"),
        (
            {"feedback": {**GIVEN, "2": GIVEN["0"]}},
            r"layer '2' is torch.float32 of shape \(30, 40\); give torch.float32 of shape \(5, 30\)",
        ),
        (
            {"feedback": {**GIVEN, "2": GIVEN["2"].double()}},
            "is torch.float64 of shape .*; give torch.float32",
        ),
        ({"feedback": {**GIVEN, "2": GIVEN["2"] / 0}}, "given for layer '2' is not finite"),
        ({"feedback": GIVEN, "scale": 2.0}, "scale is 2 and the feedback is given; multiply the matrices"),
        ({"feedback": GIVEN, "rule": "usf"}, "rule 'usf' computes its feedback from the weight"),
        ({"feedback": GIVEN, "rule": "brsf"}, "rule 'brsf' computes its feedback from the weight"),
        ({"scale": 0.0}, "the feedback's scale is 0; give a positive"),
        ({"scale": float("nan")}, "the feedback's scale is nan; give a positive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_and_the_model_left_whole(
    options: dict[str, object], match: str
) -> None:
    model = mlp()
    with pytest.raises(InputError, match=match):
        convert(model, **options)
    assert type(model[0]) is nn.Linear
    assert not list(model.buffers())
