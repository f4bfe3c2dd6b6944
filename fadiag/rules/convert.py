"""Convert the layers of a model to another learning rule, in place."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.errors import InputError
from fadiag.rules.catalog import LAYER_CLASSES, RULES
from fadiag.rules.computed_weights import change_class, computed_weight, parametrization_of
from fadiag.rules.feedback import LAWS, draw_feedback, generator_for
from fadiag.rules.layer_choice import LayerChoice, match_layers
from fadiag.rules.layers.kinds import KIND_NAMES, KINDS, kind_of
from fadiag.rules.left_out import check_left_out, listed
from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["convert"]

_Model = TypeVar("_Model", bound=nn.Module)


def convert(
    model: _Model,
    rule: str = "fa",
    seed: int = 0,
    *,
    feedback: str = "normal",
    layers: LayerChoice | Iterable[LayerChoice] | None = None,
) -> _Model:
    """Convert a model to another learning rule, by changing the class of its linear and convolution layers.

    The model is changed in place. Modules and parameters stay the same objects, so hooks and references stay
    valid. Each layer gains ``feedback``, the matrix B. B has the scale of the layer's current weight, so
    convert after initialization. B depends only on ``seed`` and the layer's name, and torch's own generator
    is not used. Under "kp", B is a parameter: build the optimizer after converting. Under other rules, an
    existing optimizer stays valid.

    With weight norm, spectral norm or pruning, B has the scale of the computed weight.

    A module with two names is converted once. Two layers that share one weight share one B. An embedding
    that shares its weight with the output layer, as in GPT-2, is not converted. Only the output layer sends
    its error through B, and the weight's gradient is still the sum of both.

    Parameters
    ----------
    model : nn.Module
        Model whose layers of exactly the type ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or transformers'
        ``Conv1D`` are converted. It may be such a layer itself.
    rule : str
        "bp" does not change the model, so one line of code serves a whole study. "fa" is Feedback Alignment.
        "usf", "frsf" and "brsf" use feedback with the weight's own signs. "kp" is Kolen-Pollack. "frozen"
        stops the learning of the layers in ``layers``; their backward pass stays exact.
    seed : int
        Seed of the feedback, separate from the seeds of initialization and data.
    feedback : {"normal", "uniform", "permuted"}
        Distribution of B's entries, see `fadiag.rules.draw_feedback`.
    layers : str, module, module class, or iterable of them, optional
        Names, globs, modules of the model, or classes. The model's own name is "". By default, every layer of
        a supported type is converted. Other matrices keep an exact backward pass; then `convert` raises or
        warns.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    InputError
        The rule, the law or a layer is unknown. The model has nothing to convert, or was converted before. A
        weight is not initialized yet, all zero or not finite, and so has no scale. More than half of the
        entries of all matrices would keep their exact backward pass, and ``layers`` is not given. Rule
        "frozen" is used without ``layers``. After an error the model is unchanged.

    Warns
    -----
    ConvertWarning
        A smaller part of the matrices keeps its exact backward pass. Embeddings and norms do not count, since
        no error goes through their matrices to a layer below.

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
    chosen_rule = _look_up(rule, {known.name: known for known in RULES}, "rule")
    _look_up(feedback, LAWS, "feedback law")
    converted = [name for name, module in model.named_modules() if isinstance(module, FeedbackLayer)]
    if chosen_rule.layer is None and chosen_rule.trains:
        if converted:
            raise InputError(
                f"the model learns by another rule already: there is feedback in {_quoted(converted)}; "
                f"build a fresh model for rule {rule!r}"
            )
        return model
    if layers is None and not chosen_rule.trains:
        raise InputError(
            f"rule {rule!r} needs layers=: with every layer frozen nothing would learn; name those to freeze"
        )
    chosen = _choose(model, layers)
    if not chosen:
        if converted:
            why = f"already converted are {_quoted(converted)}; build a fresh model"
        else:
            why = f"it has no layer of type {', '.join(KIND_NAMES)}"
        raise InputError(f"nothing to convert in {type(model).__name__}: {why}")
    if layers is None:
        with_feedback = {model.get_submodule(name) for name in (*converted, *chosen)}
        check_left_out(model, with_feedback, KIND_NAMES, stacklevel=2)
    if chosen_rule.trains:
        _give_feedback(chosen, chosen_rule, feedback, seed)
    else:
        for module in chosen.values():
            module.requires_grad_(False).zero_grad()
    return model


def _give_feedback(chosen: Mapping[str, nn.Module], rule: Rule, law: str, seed: int) -> None:
    """Change the class of the chosen modules and give each its B."""
    learned = rule.layer is not None and rule.layer.feedback_is_learned
    # Draw everything before changing anything, so an error leaves the model unchanged.
    drawn: dict[int, Tensor] = {}
    for name, module in chosen.items():
        weight = _weight_of(name, module, computed=not learned)
        if (key := _weight_id(module)) not in drawn:
            try:
                matrix = draw_feedback(weight, law, generator_for(seed, name))
            except InputError as error:
                raise InputError(f"layer {name!r}: {error}") from None
            drawn[key] = nn.Parameter(matrix, weight.requires_grad) if learned else matrix
    for module in chosen.values():
        matrix = drawn[_weight_id(module)]
        change_class(module, LAYER_CLASSES[rule.name][kind_of(module)])
        assert isinstance(module, FeedbackLayer)
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


def _choose(model: nn.Module, layers: LayerChoice | Iterable[LayerChoice] | None) -> dict[str, nn.Module]:
    """Return the modules to convert, by name, each once."""
    modules = dict(model.named_modules())
    able = {name: module for name, module in modules.items() if kind_of(module) in KINDS}
    return (
        able
        if layers is None
        else {name: able[name] for name in match_layers(layers, modules, able, _refusal)}
    )


def _refusal(name: str, module: nn.Module) -> InputError:
    """Return the error for a module that is named in ``layers`` and cannot be converted."""
    kind = type(module).__name__
    if isinstance(module, FeedbackLayer):
        return InputError(f"layer {name!r} is a {kind}, so it was converted before; build a fresh model")
    return InputError(
        f"layer {name!r} is a {kind}, which convert cannot take; it takes {', '.join(KIND_NAMES)}"
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
