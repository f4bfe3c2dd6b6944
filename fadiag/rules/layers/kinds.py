"""Map each kind of layer that `convert` supports to its class under each rule."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.rules.layers.conv import FeedbackConv1d, FeedbackConv2d
from fadiag.rules.layers.linear import FeedbackLinear, FeedbackTransposedLinear, TransposedLinear
from fadiag.rules.rule import ConvertedModule, FeedbackLayer, Rule

__all__ = ["KINDS", "KIND_NAMES", "Kind", "combined", "is_conv1d", "kind_of", "layer_classes"]

#: A kind of layer: a class of torch, or the path of a class that fadiag does not import.
Kind = type[nn.Module] | str

#: The linear layer of transformers with weight (in, out). It is recognized by its path and never imported.
_CONV1D = "transformers.pytorch_utils.Conv1D"

#: The class with feedback that replaces each kind of layer.
KINDS: Mapping[Kind, type[FeedbackLayer]] = MappingProxyType(
    {
        nn.Linear: FeedbackLinear,
        nn.Conv1d: FeedbackConv1d,
        nn.Conv2d: FeedbackConv2d,
        _CONV1D: FeedbackTransposedLinear,
    }
)
#: The class with an exact backward pass that replaces each kind of layer.
_EXACT: Mapping[Kind, type[nn.Module]] = {
    nn.Linear: nn.Linear,
    nn.Conv1d: nn.Conv1d,
    nn.Conv2d: nn.Conv2d,
    _CONV1D: TransposedLinear,
}
#: Names of the kinds in error messages.
KIND_NAMES = ("nn.Linear", "nn.Conv1d", "nn.Conv2d", "transformers' Conv1D")


def is_conv1d(module: nn.Module) -> bool:
    """Return whether a module is transformers' ``Conv1D``, a linear layer with weight (in, out)."""
    kind = type_before_parametrizations(module)
    return f"{kind.__module__}.{kind.__qualname__}" == _CONV1D


def kind_of(module: nn.Module) -> Kind:
    """Return the kind of a module; it may be missing in `KINDS`."""
    return _CONV1D if is_conv1d(module) else type_before_parametrizations(module)


def layer_classes(rule: Rule, home: str) -> dict[Kind, type[ConvertedModule]]:
    """Make the class of each kind of layer under a rule; none if the backward pass stays exact.

    Parameters
    ----------
    rule : Rule
    home : str
        Name of the module that holds the classes under their names, so that layers can be pickled.

    Examples
    --------
    >>> class HalvedLayer(FeedbackLayer):
    ...     def feedback_of_pass(self):
    ...         return super().feedback_of_pass() / 2
    >>> classes = layer_classes(Rule("halved", HalvedLayer), "mine")
    >>> classes[nn.Conv2d].__name__, classes[nn.Conv2d].rule
    ('HalvedConv2d', 'halved')
    """
    if rule.layer is None:
        return {}
    if rule.layer is FeedbackLayer:
        return dict(KINDS)
    kinds = KINDS if issubclass(rule.layer, FeedbackLayer) else _EXACT
    return {kind: combined(rule.layer, plain, rule.name, home) for kind, plain in kinds.items()}


def combined(
    behavior: type[ConvertedModule], plain: type[nn.Module], rule: str, home: str
) -> type[ConvertedModule]:
    """Return a class with the behavior of a rule and the parameters and forward pass of ``plain``.

    Examples
    --------
    >>> class HalvedLayer(FeedbackLayer):
    ...     def feedback_of_pass(self):
    ...         return super().feedback_of_pass() / 2
    >>> combined(HalvedLayer, FeedbackLinear, "halved", "mine").__name__
    'HalvedLinear'
    """
    name = behavior.__name__.removesuffix("Layer") + plain.__name__.removeprefix("Feedback")
    of = f"``nn.{plain.__name__}``"
    if issubclass(plain, FeedbackLayer):
        of = (plain.__doc__ or "").partition(" under ")[0]
    contents: dict[str, Any] = {
        "__doc__": f"{of} under the rule {rule!r}. Made by `fadiag.convert`.",
        "__module__": home,
        "__qualname__": name,
        "rule": rule,
    }
    return type(name, (behavior, plain), contents)
