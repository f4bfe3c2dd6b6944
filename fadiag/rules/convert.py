"""Convert the layers of a model to another learning rule, in place."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules.catalog import INTERVENTIONS, RULES
from fadiag.rules.catalog.borrowed_gates import BORROWED_GATES, BorrowedGateLayer
from fadiag.rules.catalog.rank_limited import RANK_LIMITED
from fadiag.rules.example import Example
from fadiag.rules.feedback import LAWS, check_scale
from fadiag.rules.give_feedback import FeedbackChoice, give_feedback
from fadiag.rules.intervene import borrow_gates, limit_rank
from fadiag.rules.layer_choice import LayerChoice, match_layers
from fadiag.rules.layers.kinds import KIND_NAMES, KINDS, kind_of
from fadiag.rules.left_out import check_left_out, listed
from fadiag.rules.rule import ConvertedModule

__all__ = ["convert"]

_Model = TypeVar("_Model", bound=nn.Module)


def convert(
    model: _Model,
    rule: str = "fa",
    seed: int = 0,
    *,
    feedback: str | Mapping[str, Tensor] = "gaussian",
    scale: float = 1.0,
    layers: LayerChoice | Iterable[LayerChoice] | None = None,
    example: Example | None = None,
    rank: int | None = None,
    twin: nn.Module | None = None,
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
        "dfa" and "drtp" send the error of the outputs, or the targets, directly to each layer. "usf", "frsf"
        and "brsf" use feedback with the weight's own signs. "kp" is Kolen-Pollack. "frozen" stops the
        learning of the layers in ``layers``; their backward pass stays exact. Two interventions:
        "rank_limited" is backpropagation with hidden errors of low rank, and "borrowed_gates" is
        backpropagation through the gates of a twin network.
    seed : int
        Seed of the feedback, separate from the seeds of initialization and data.
    feedback : {"gaussian", "uniform", "orthogonal", "permuted"}, or mapping of str to Tensor
        Distribution of B's entries, see `fadiag.rules.draw_feedback`; or the matrix of each converted layer,
        by its name, in the shape and dtype of the weight. "usf" and "brsf" compute B without it.
    scale : float
        Root mean square of B divided by that of the weight.
    layers : str, module, module class, or iterable of them, optional
        Names, globs, modules of the model, or classes. The model's own name is "". By default, every layer of
        a supported type is converted. Other matrices keep an exact backward pass; then `convert` raises or
        warns.
    example : Tensor, or tuple or mapping of arguments, optional
        A batch for the rules that need one; other rules ignore it. One pass of it shows the shapes of the
        layers' inputs and the output layer. It leaves no trace.
    rank : int, optional
        Number of directions that "rank_limited" keeps of each hidden error.
    twin : nn.Module, optional
        Network of the same architecture whose gates "borrowed_gates" uses. Call it on each batch before the
        model.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    InputError
        The rule, the law or a layer is unknown. ``scale`` is not positive. The model has nothing to convert,
        or was converted before. A weight is not initialized yet, all zero or not finite, and so has no scale.
        More than half of the entries of all matrices would keep their exact backward pass, and ``layers`` is
        not given. Rule "frozen" is used without ``layers``. After an error the model is unchanged.

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
    chosen_rule = _look_up(rule, {known.name: known for known in (*RULES, *INTERVENTIONS)}, "rule")
    if isinstance(feedback, str):
        _look_up(feedback, LAWS, "feedback law")
    check_scale(scale)
    if chosen_rule.needs_example and example is None:
        raise InputError(
            f"rule {rule!r} needs a batch that shows how the layers depend on each other; give example=x"
        )
    _check_arguments(rule, rank=rank, twin=twin)
    converted = [name for name, module in model.named_modules() if isinstance(module, ConvertedModule)]
    if chosen_rule.layer is None and chosen_rule.trains:
        if converted:
            raise InputError(
                f"the model learns by another rule already: converted are {_quoted(converted)}; "
                f"build a fresh model for rule {rule!r}"
            )
        return model
    borrows = any(isinstance(module, BorrowedGateLayer) for module in model.modules())
    if borrows or (converted and chosen_rule is BORROWED_GATES):
        raise InputError(
            f"rule 'borrowed_gates' needs exact matrices, so it goes with no other rule; converted are "
            f"{_quoted(converted)}; build a fresh model"
        )
    if layers is None and not chosen_rule.trains:
        raise InputError(
            f"rule {rule!r} needs layers=: with every layer frozen nothing would learn; name those to freeze"
        )
    if chosen_rule is BORROWED_GATES:
        if layers is not None:
            raise InputError(f"rule {rule!r} changes all activation modules and no layers; leave layers= out")
        borrow_gates(model, twin)
        return model
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
    if chosen_rule is RANK_LIMITED:
        assert example is not None
        limit_rank(model, chosen, rank, example)
    elif chosen_rule.trains:
        choice = FeedbackChoice(seed, feedback, scale)
        give_feedback(model, chosen, chosen_rule, choice, example)
    else:
        for module in chosen.values():
            module.requires_grad_(False).zero_grad()
    return model


def _check_arguments(rule: str, **given: object) -> None:
    """Raise InputError if an argument belongs to another rule."""
    for name, owner in (("rank", "rank_limited"), ("twin", "borrowed_gates")):
        if given[name] is not None and rule != owner:
            raise InputError(f"{name}= is for rule {owner!r}, and the rule is {rule}; leave it out")


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
    if isinstance(module, ConvertedModule):
        return InputError(f"layer {name!r} is a {kind}, so it was converted before; build a fresh model")
    return InputError(
        f"layer {name!r} is a {kind}, which convert cannot take; it takes {', '.join(KIND_NAMES)}"
    )


_Value = TypeVar("_Value")


def _look_up(key: str, table: Mapping[str, _Value], what: str) -> _Value:
    if key in table:
        return table[key]
    near = get_close_matches(key, table, n=3, cutoff=0.5)
    known = ", ".join(map(repr, table))
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {known}"
    raise InputError(f"unknown {what} {key!r}; {hint}")


def _quoted(names: Iterable[str]) -> str:
    return listed(map(repr, names), 6)
