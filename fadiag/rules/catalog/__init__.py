"""List the learning rules, one file each; to add a rule, add a file and an entry in `RULES`."""

from collections.abc import Mapping
from types import MappingProxyType

from fadiag.rules.catalog.bp import BP
from fadiag.rules.catalog.brsf import BRSF
from fadiag.rules.catalog.dfa import DFA
from fadiag.rules.catalog.drtp import DRTP
from fadiag.rules.catalog.fa import FA
from fadiag.rules.catalog.frozen import FROZEN
from fadiag.rules.catalog.frsf import FRSF
from fadiag.rules.catalog.kp import KP
from fadiag.rules.catalog.usf import USF
from fadiag.rules.layers.kinds import Kind, layer_classes
from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["LAYER_CLASSES", "RULES"]

#: All rules, in the order of error messages.
RULES: tuple[Rule, ...] = (BP, FA, DFA, DRTP, USF, FRSF, BRSF, KP, FROZEN)

#: For each rule, the class that replaces each kind of layer.
LAYER_CLASSES: Mapping[str, Mapping[Kind, type[FeedbackLayer]]] = MappingProxyType(
    {rule.name: layer_classes(rule, __name__) for rule in RULES}
)
# Pickle finds a class by its module and name.
globals().update({made.__name__: made for classes in LAYER_CLASSES.values() for made in classes.values()})
