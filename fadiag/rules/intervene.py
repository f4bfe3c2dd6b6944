"""Put the interventions into a model: rank-limited backpropagation, and another network's gates."""

from collections.abc import Mapping

from torch import nn

from fadiag.errors import InputError
from fadiag.rules.catalog import GATE_CLASSES, LAYER_CLASSES
from fadiag.rules.catalog.borrowed_gates import BorrowedGateLayer, lend_gates
from fadiag.rules.catalog.rank_limited import RankLimitedLayer
from fadiag.rules.computed_weights import change_class
from fadiag.rules.example import Example, uses_of
from fadiag.rules.layers.gates import OTHER_GATES
from fadiag.rules.layers.kinds import kind_of
from fadiag.rules.left_out import listed

__all__ = ["borrow_gates", "limit_rank"]


def limit_rank(model: nn.Module, chosen: Mapping[str, nn.Module], rank: int | None, example: Example) -> None:
    """Project the errors of the chosen layers, except the output layer, on ``rank`` directions.

    Raises
    ------
    InputError
        The rank is no positive integer, or a layer is not called in the pass of the example.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise InputError(f"rank is {rank!r}; give the number of directions, 1 or more")
    for name, use in uses_of(model, chosen, example).items():
        module = chosen[name]
        change_class(module, LAYER_CLASSES["rank_limited"][kind_of(module)])
        assert isinstance(module, RankLimitedLayer)
        module.rank = 0 if use.is_output else rank


def borrow_gates(model: nn.Module, twin: nn.Module | None) -> None:
    """Make the gates of a model use the derivatives at the twin's pre-activations.

    Raises
    ------
    InputError
        There is no twin, it shares activation modules with the model, its own differ, or the model has none
        or one that cannot borrow.
    """
    if not isinstance(twin, nn.Module):
        raise InputError(
            f"twin is a {type(twin).__name__}; give the network whose gates are used, of the model's "
            "architecture"
        )
    gates, lent = _gates_of(model), _gates_of(twin)
    known = listed((f"nn.{kind.__name__}" for kind in GATE_CLASSES), 10)
    for name, module in model.named_modules():
        if isinstance(module, (*GATE_CLASSES, *OTHER_GATES)) and name not in gates:
            raise InputError(
                f"activation {name!r} is a {type(module).__name__}, whose derivative cannot be borrowed; "
                f"take one of {known}"
            )
    if not gates:
        raise InputError(
            f"{type(model).__name__} has no activation module ({known}); build it with modules, because "
            "activation functions cannot be replaced"
        )
    for name in dict.fromkeys((*gates, *lent)):
        mine, other = (type(g[name]).__name__ if name in g else "nothing" for g in (gates, lent))
        if mine != other:
            raise InputError(
                f"gate {name!r} is {mine} in the model and {other} in the twin; give a twin of the same "
                "architecture"
            )
        if gates[name] is lent[name]:
            raise InputError(f"model and twin share the gate {name!r}; give a twin with modules of its own")
    lenders = lend_gates(twin, lent)
    for name, gate in gates.items():
        change_class(gate, GATE_CLASSES[type(gate)])
        assert isinstance(gate, BorrowedGateLayer)
        gate.borrow_from(lenders[name], name)


def _gates_of(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if type(module) in GATE_CLASSES}
