"""Turning a model's layers, in place, into layers of a learning rule."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.errors import InputError
from fadiag.rules.feedback import LAWS, draw_feedback, generator_for
from fadiag.rules.layers import FeedbackConv1d, FeedbackConv2d, FeedbackLayer, FeedbackLinear
from fadiag.rules.signs import (
    BatchSignConv1d,
    BatchSignConv2d,
    BatchSignLinear,
    FixedSignConv1d,
    FixedSignConv2d,
    FixedSignLinear,
    UniformSignConv1d,
    UniformSignConv2d,
    UniformSignLinear,
)

__all__ = ["RULES", "convert"]

#: For each rule, the class that takes the place of each of torch's.
RULES: Mapping[str, Mapping[type[nn.Module], type[FeedbackLayer]]] = MappingProxyType(
    {
        "bp": {},
        "fa": {nn.Linear: FeedbackLinear, nn.Conv1d: FeedbackConv1d, nn.Conv2d: FeedbackConv2d},
        "usf": {nn.Linear: UniformSignLinear, nn.Conv1d: UniformSignConv1d, nn.Conv2d: UniformSignConv2d},
        "frsf": {nn.Linear: FixedSignLinear, nn.Conv1d: FixedSignConv1d, nn.Conv2d: FixedSignConv2d},
        "brsf": {nn.Linear: BatchSignLinear, nn.Conv1d: BatchSignConv1d, nn.Conv2d: BatchSignConv2d},
    }
)


_Model = TypeVar("_Model", bound=nn.Module)


def convert(
    model: _Model,
    rule: str = "fa",
    seed: int = 0,
    *,
    feedback: str = "normal",
    layers: Iterable[str] | None = None,
) -> _Model:
    """Make a model learn by another rule: change the class of its linear and convolution layers, in place.

    Modules and parameters stay the same objects: an optimizer made before, hooks and references stay valid.
    Each layer gains ``feedback``, under "fa" a buffer. B is drawn with the scale of the layer's weight at
    this moment: convert after initializing. The generator depends on ``seed`` and the layer's name, torch's
    own is not touched. A module used under two names is converted once; two modules that share one weight
    share its feedback.

    Parameters
    ----------
    model : nn.Module
        Its layers of exactly the type ``nn.Linear``, ``nn.Conv1d`` or ``nn.Conv2d`` are converted, also where
        the model is one itself.
    rule : str
        "bp" leaves the model as it is, so that one line serves a whole study; "fa" is Feedback Alignment;
        "usf", "frsf" and "brsf" have feedback of the weight's own signs, see `fadiag.rules.signs`.
    seed : int
        Of the feedback, apart from the seeds of initialization and data.
    feedback : {"normal", "uniform", "permuted"}
        The law of B's entries, see `fadiag.rules.draw_feedback`.
    layers : iterable of str, optional
        Names of the modules to convert; all by default. The model's own name is "".

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    InputError
        Of an unknown rule, law or layer name; of a model without a layer to convert or converted before; of a
        weight without a scale (all zero, not finite, not yet initialized). The model is then unchanged.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model = convert(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)))
    >>> model[0]
    FeedbackLinear(in_features=4, out_features=3, bias=True, rule='fa')
    >>> model[0].feedback.shape
    torch.Size([3, 4])
    """
    classes = _look_up(rule, RULES, "rule")
    _look_up(feedback, LAWS, "feedback law")
    converted = [name for name, module in model.named_modules() if isinstance(module, FeedbackLayer)]
    if rule == "bp":
        if converted:
            raise InputError(
                f"the model learns by another rule already: {_some(converted)} has feedback; "
                "build a fresh model for rule 'bp'"
            )
        return model
    chosen = _choose(model, classes, layers)
    if not chosen:
        types = ", ".join(f"nn.{kind.__name__}" for kind in classes)
        why = f"{_some(converted)} was converted before" if converted else f"it has no module of type {types}"
        raise InputError(f"nothing to convert in {type(model).__name__}: {why}; build a fresh model")

    # Everything is drawn before anything is changed: an error leaves the model whole.
    drawn: dict[int, Tensor] = {}
    for name, module in chosen.items():
        weight = module.weight
        assert isinstance(weight, Tensor)  # of nn.Linear and nn.Conv
        if is_lazy(weight) or weight.is_meta:
            raise InputError(
                f"layer {name!r} has no weights yet; run one batch or initialize it before converting"
            )
        if id(weight) not in drawn:
            try:
                drawn[id(weight)] = draw_feedback(weight, feedback, generator_for(seed, name))
            except InputError as error:
                raise InputError(f"layer {name!r}: {error}") from None
    for module in chosen.values():
        matrix = drawn[id(module.weight)]
        module.__class__ = classes[type(module)]
        assert isinstance(module, FeedbackLayer)
        module.attach_feedback(matrix)
    return model


def _choose(
    model: nn.Module, classes: Mapping[type[nn.Module], type[FeedbackLayer]], layers: Iterable[str] | None
) -> dict[str, nn.Module]:
    """Return the modules to convert by name, each once."""
    able = {name: module for name, module in model.named_modules() if type(module) in classes}
    if layers is None:
        return able
    return {name: _look_up(name, able, "layer to convert") for name in layers}


_Value = TypeVar("_Value")


def _look_up(key: str, table: Mapping[str, _Value], what: str) -> _Value:
    if key in table:
        return table[key]
    near = get_close_matches(key, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {_some(list(table), 12)}"
    raise InputError(f"unknown {what} {key!r}; {hint}")


def _some(names: list[str], limit: int = 3) -> str:
    shown = ", ".join(map(repr, names[:limit])) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
