"""List the learning rules, one file each; to add a rule, add a file and an entry in `RULES`."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from fadiag.rules.catalog.borrowed_gates import BORROWED_GATES, BorrowedGateLayer
from fadiag.rules.catalog.bp import BP
from fadiag.rules.catalog.brsf import BRSF
from fadiag.rules.catalog.dfa import DFA
from fadiag.rules.catalog.drtp import DRTP
from fadiag.rules.catalog.fa import FA
from fadiag.rules.catalog.frozen import FROZEN
from fadiag.rules.catalog.frsf import FRSF
from fadiag.rules.catalog.kp import KP
from fadiag.rules.catalog.rank_limited import RANK_LIMITED
from fadiag.rules.catalog.usf import USF
from fadiag.rules.layers.gates import GATES
from fadiag.rules.layers.kinds import Kind, combined, layer_classes
from fadiag.rules.rule import ConvertedModule, Rule

__all__ = ["GATE_CLASSES", "INTERVENTIONS", "LAYER_CLASSES", "RULES"]

#: All rules, in the order of error messages.
RULES: tuple[Rule, ...] = (BP, FA, DFA, DRTP, USF, FRSF, BRSF, KP, FROZEN)

#: Changes of backpropagation that ask what a part of it does. They need arguments of their own.
INTERVENTIONS: tuple[Rule, ...] = (RANK_LIMITED, BORROWED_GATES)

#: For each rule, the class that replaces each kind of layer.
LAYER_CLASSES: Mapping[str, Mapping[Kind, type[ConvertedModule]]] = MappingProxyType(
    {rule.name: layer_classes(rule, __name__) for rule in (*RULES, RANK_LIMITED)}
)
#: The class that replaces each kind of gate under "borrowed_gates".
GATE_CLASSES: Mapping[type[nn.Module], type[ConvertedModule]] = MappingProxyType(
    {gate: combined(BorrowedGateLayer, gate, BORROWED_GATES.name, __name__) for gate in GATES}
)
# Pickle finds a class by its module and name.
globals().update({made.__name__: made for classes in LAYER_CLASSES.values() for made in classes.values()})
globals().update({made.__name__: made for made in GATE_CLASSES.values()})
