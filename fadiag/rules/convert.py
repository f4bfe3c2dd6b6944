"""Make the layers of a model learn by another rule, in place."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.errors import InputError
from fadiag.rules.computed_weights import change_class, computed_weight, parametrization_of
from fadiag.rules.feedback import LAWS, draw_feedback, generator_for
from fadiag.rules.layer_choice import LayerChoice, match_layers
from fadiag.rules.layers import (
    CONV1D,
    FeedbackConv1d,
    FeedbackConv2d,
    FeedbackLayer,
    FeedbackLinear,
    FeedbackTransposedLinear,
    is_conv1d,
)
from fadiag.rules.left_out import check_left_out, listed
from fadiag.rules.signs import (
    BatchSignConv1d,
    BatchSignConv2d,
    BatchSignLinear,
    BatchSignTransposedLinear,
    FixedSignConv1d,
    FixedSignConv2d,
    FixedSignLinear,
    FixedSignTransposedLinear,
    UniformSignConv1d,
    UniformSignConv2d,
    UniformSignLinear,
    UniformSignTransposedLinear,
)

__all__ = ["RULES", "convert"]

#: A kind of layer: a class, or the path of a class that fadiag does not import.
_Kind = type[nn.Module] | str
_KINDS: Mapping[_Kind, str] = MappingProxyType(
    {
        nn.Linear: "nn.Linear",
        nn.Conv1d: "nn.Conv1d",
        nn.Conv2d: "nn.Conv2d",
        CONV1D: "transformers' Conv1D",
    }
)


def _by_kind(*classes: type[FeedbackLayer]) -> Mapping[_Kind, type[FeedbackLayer]]:
    return MappingProxyType(dict(zip(_KINDS, classes, strict=True)))


#: For each rule, the class that takes the place of each kind of layer.
RULES: Mapping[str, Mapping[_Kind, type[FeedbackLayer]]] = MappingProxyType(
    {
        "bp": {},
        "fa": _by_kind(FeedbackLinear, FeedbackConv1d, FeedbackConv2d, FeedbackTransposedLinear),
        "usf": _by_kind(UniformSignLinear, UniformSignConv1d, UniformSignConv2d, UniformSignTransposedLinear),
        "frsf": _by_kind(FixedSignLinear, FixedSignConv1d, FixedSignConv2d, FixedSignTransposedLinear),
        "brsf": _by_kind(BatchSignLinear, BatchSignConv1d, BatchSignConv2d, BatchSignTransposedLinear),
    }
)

_Model = TypeVar("_Model", bound=nn.Module)


def convert(
    model: _Model,
    rule: str = "fa",
    seed: int = 0,
    *,
    feedback: str = "normal",
    layers: LayerChoice | Iterable[LayerChoice] | None = None,
) -> _Model:
    """Make a model learn by another rule: change the class of its linear and convolution layers, in place.

    Modules and parameters stay the same objects: an optimizer made before, hooks and references stay valid.
    Each layer gains ``feedback``, the matrix B, which is a buffer under "fa". B has the scale of the layer's
    weight as it is now, so convert after initializing. It depends on ``seed`` and the layer's name; torch's
    own generator is left alone.

    Under weight norm, spectral norm or pruning B has the scale of the weight as computed.

    A module with two names is converted once. Two layers that share one weight share one B. A table that
    shares its weight with the output layer, as GPT-2's does, stays a table: only the output layer sends its
    error through B, and the weight's gradient is still the sum of both.

    Parameters
    ----------
    model : nn.Module
        Its layers of exactly the type ``nn.Linear``, ``nn.Conv1d`` or ``nn.Conv2d``, and ``Conv1D`` of
        transformers, are converted. It may be such a layer itself.
    rule : str
        "bp" leaves the model as it is, so that one line serves a whole study; "fa" is Feedback Alignment;
        "usf", "frsf" and "brsf" have feedback with the weight's own signs, see `fadiag.rules.signs`.
    seed : int
        The seed of the feedback, apart from those of initialization and data.
    feedback : {"normal", "uniform", "permuted"}
        The law of B's entries, see `fadiag.rules.draw_feedback`.
    layers : str, module, module class, or iterable of them, optional
        Names, globs, modules of the model, or classes. The model's own name is "". By default all that can be
        converted; then a module that keeps a matrix with an exact backward pass is an error or a warning.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    InputError
        The rule, the law or a layer is unknown; the model has nothing to convert, or was converted before. A
        weight is not initialized yet, all zero or not finite, and so has no scale. More than half of the
        entries of all matrices would keep their exact backward pass, and ``layers`` is not given. The model
        is then as it was.

    Warns
    -----
    ConvertWarning
        A smaller part of the matrices keeps its exact backward pass. Tables (``nn.Embedding``) and norms do
        not count, since no error goes through their matrices to a layer below.

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
                f"the model learns by another rule already: there is feedback in {_quoted(converted)}; "
                "build a fresh model for rule 'bp'"
            )
        return model
    chosen = _choose(model, classes, layers)
    if not chosen:
        if converted:
            why = f"already converted are {_quoted(converted)}; build a fresh model"
        else:
            why = f"it has no layer of type {', '.join(_KINDS.values())}"
        raise InputError(f"nothing to convert in {type(model).__name__}: {why}")
    if layers is None:
        with_feedback = {model.get_submodule(name) for name in (*converted, *chosen)}
        check_left_out(model, with_feedback, _KINDS.values(), stacklevel=2)

    # Everything is drawn before anything is changed: an error leaves the model whole.
    drawn: dict[int, Tensor] = {}
    for name, module in chosen.items():
        if parametrization_of(module):
            with computed_weight(module):
                weight = module.weight
        else:
            weight = module.weight
        assert isinstance(weight, Tensor)  # each kind of layer has one
        if is_lazy(weight) or weight.is_meta:
            raise InputError(
                f"layer {name!r} has no weights yet; run one batch or initialize it before converting"
            )
        if (key := _weight_id(module)) not in drawn:
            try:
                drawn[key] = draw_feedback(weight, feedback, generator_for(seed, name))
            except InputError as error:
                raise InputError(f"layer {name!r}: {error}") from None
    for module in chosen.values():
        matrix = drawn[_weight_id(module)]
        change_class(module, classes[_kind_of(module)])
        assert isinstance(module, FeedbackLayer)
        module.attach_feedback(matrix)
    return model


def _kind_of(module: nn.Module) -> _Kind:
    return CONV1D if is_conv1d(module) else type_before_parametrizations(module)


def _weight_id(module: nn.Module) -> int:
    """Return a number that modules with a shared weight have in common."""
    return id(module if parametrization_of(module) else module.weight)


def _choose(
    model: nn.Module,
    classes: Mapping[_Kind, type[FeedbackLayer]],
    layers: LayerChoice | Iterable[LayerChoice] | None,
) -> dict[str, nn.Module]:
    """Return the modules to convert by name, each once."""
    modules = dict(model.named_modules())
    able = {name: module for name, module in modules.items() if _kind_of(module) in classes}
    return (
        able
        if layers is None
        else {name: able[name] for name in match_layers(layers, modules, able, _refusal)}
    )


def _refusal(name: str, module: nn.Module) -> InputError:
    """Return the error for a module that was asked for by name and cannot be converted."""
    kind = type(module).__name__
    if isinstance(module, FeedbackLayer):
        return InputError(f"layer {name!r} is a {kind}, so it was converted before; build a fresh model")
    return InputError(
        f"layer {name!r} is a {kind}, which convert cannot take; it takes {', '.join(_KINDS.values())}"
    )


_Value = TypeVar("_Value")


def _look_up(key: str, table: Mapping[str, _Value], what: str) -> _Value:
    if key in table:
        return table[key]
    near = get_close_matches(key, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {_quoted(table)}"
    raise InputError(f"unknown {what} {key!r}; {hint}")


def _quoted(names: Iterable[str]) -> str:
    return listed(map(repr, names), 6)
