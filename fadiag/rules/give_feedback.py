"""Draw or take the feedback of chosen layers, and change their classes to those of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.errors import InputError
from fadiag.rules.catalog import LAYER_CLASSES
from fadiag.rules.catalog.direct import DirectLayer, PassState
from fadiag.rules.computed_weights import change_class, computed_weight, parametrization_of
from fadiag.rules.example import Example, check_direct, uses_of
from fadiag.rules.feedback import draw_feedback, generator_for
from fadiag.rules.layers.kinds import kind_of
from fadiag.rules.left_out import listed
from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["FeedbackChoice", "give_feedback"]


@dataclass(frozen=True)
class FeedbackChoice:
    """How the matrices of a model are made: by a law, or given by the name of the layer."""

    seed: int
    law: str | Mapping[str, Tensor]
    scale: float = 1.0

    def check(self, rule: Rule, layers: Mapping[str, nn.Module]) -> None:
        """Raise InputError if the rule cannot use this choice for these layers."""
        if isinstance(self.law, str):
            return
        if rule.layer is not None and not rule.layer.feedback_is_drawn:
            raise InputError(
                f"rule {rule.name!r} computes its feedback from the weight, so it can take no given "
                "matrices; leave feedback= out"
            )
        if self.scale != 1:
            raise InputError(
                f"scale is {self.scale:g} and the feedback is given; multiply the matrices, and leave scale= "
                "out"
            )
        missing, surplus = layers.keys() - self.law.keys(), self.law.keys() - layers.keys()
        if missing or surplus:
            wrong = f"lacks {listed(map(repr, sorted(missing)))}" if missing else ""
            wrong += " and " if missing and surplus else ""
            wrong += f"names {listed(map(repr, sorted(surplus)))}" if surplus else ""
            raise InputError(
                f"the given feedback {wrong}; give one matrix for each converted layer: "
                f"{listed(map(repr, layers), 6)}"
            )

    @property
    def name(self) -> str:
        """The name of the law, or "given"."""
        return self.law if isinstance(self.law, str) else "given"

    def matrix(self, name: str, weight: Tensor, shape: torch.Size) -> Tensor:
        """Return the matrix of a layer."""
        if isinstance(self.law, str):
            generator = generator_for(self.seed, name)
            try:
                return draw_feedback(weight, self.law, generator, scale=self.scale, shape=shape)
            except InputError as error:
                raise InputError(f"layer {name!r}: {error}") from None
        given = self.law[name]
        if given.shape != shape or given.dtype != weight.dtype:
            raise InputError(
                f"the feedback given for layer {name!r} is {given.dtype} of shape {tuple(given.shape)}; give "
                f"{weight.dtype} of shape {tuple(shape)}"
            )
        if not given.isfinite().all():
            raise InputError(f"the feedback given for layer {name!r} is not finite; give finite numbers")
        return given.detach().clone().to(weight.device)


def give_feedback(
    model: nn.Module,
    chosen: Mapping[str, nn.Module],
    rule: Rule,
    choice: FeedbackChoice,
    example: Example | None,
) -> None:
    """Change the class of the chosen modules and give each its matrix.

    Everything is drawn before anything changes, so an error leaves the model unchanged.

    Raises
    ------
    InputError
        A weight has no values or no scale, the choice does not fit, or the example does not show what a
        direct rule needs.
    """
    choice.check(rule, chosen)
    if rule.layer is not None and issubclass(rule.layer, DirectLayer):
        _give_direct(model, chosen, rule, choice, example)
    else:
        _give_layerwise(chosen, rule, choice)


def _give_layerwise(chosen: Mapping[str, nn.Module], rule: Rule, choice: FeedbackChoice) -> None:
    assert rule.layer is not None
    learned = issubclass(rule.layer, FeedbackLayer) and rule.layer.feedback_is_learned
    drawn: dict[int, Tensor] = {}
    for name, module in chosen.items():
        weight = _weight_of(name, module, computed=not learned)
        if (key := _weight_id(module)) not in drawn:
            matrix = choice.matrix(name, weight, weight.shape)
            drawn[key] = nn.Parameter(matrix, weight.requires_grad) if learned else matrix
    for module in chosen.values():
        matrix = drawn[_weight_id(module)]
        _attach(module, rule, matrix, choice)


def _give_direct(
    model: nn.Module,
    chosen: Mapping[str, nn.Module],
    rule: Rule,
    choice: FeedbackChoice,
    example: Example | None,
) -> None:
    assert example is not None  # convert checks it
    weights = {name: _weight_of(name, module, computed=True) for name, module in chosen.items()}
    uses = uses_of(model, chosen, example)
    outputs = check_direct(uses)
    matrices = {
        name: choice.matrix(name, weights[name], torch.Size([outputs, *use.input_shape[1:]]))
        for name, use in uses.items()
    }
    state = PassState()
    for name, use in uses.items():
        module = chosen[name]
        _attach(module, rule, matrices[name], choice)
        assert isinstance(module, DirectLayer)
        module.link(state, name, is_first=use.is_first, is_output=use.is_output)


def _attach(module: nn.Module, rule: Rule, matrix: Tensor, choice: FeedbackChoice) -> None:
    change_class(module, LAYER_CLASSES[rule.name][kind_of(module)])
    assert isinstance(module, FeedbackLayer)
    module.law, module.scale = choice.name, choice.scale
    module.attach_feedback(matrix)


def _weight_of(name: str, module: nn.Module, *, computed: bool) -> Tensor:
    """Return a module's weight; without ``computed``, raise if it is computed from other parameters."""
    if maker := parametrization_of(module):
        if not computed:
            raise InputError(
                f"layer {name!r} computes its weight by {maker}, and a learned B needs a weight that the "
                f"optimizer updates itself; remove {maker}, or leave the layer out by layers="
            )
        with computed_weight(module):
            weight = module.weight
    else:
        weight = module.weight
    assert isinstance(weight, Tensor)  # each kind of layer has one
    if is_lazy(weight) or weight.is_meta:
        raise InputError(
            f"layer {name!r} has no weights yet; run one batch or initialize it before converting"
        )
    return weight


def _weight_id(module: nn.Module) -> int:
    """Return a number that is equal for modules that share a weight."""
    return id(module if parametrization_of(module) else module.weight)
