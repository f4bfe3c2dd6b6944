"""Build the optimizers of the reference trainer, and choose the layers of each."""

from fadiag.training.optimizers.build import build_optimizers, rate_factor, set_rates
from fadiag.training.optimizers.groups import matrix_layers
from fadiag.training.optimizers.learned_feedback import clip_gradients, learned_feedback
from fadiag.training.optimizers.muon import Muon, newton_schulz, polar_factor
from fadiag.training.optimizers.normalized_sgd import NormalizedSGD

__all__ = [
    "Muon",
    "NormalizedSGD",
    "build_optimizers",
    "clip_gradients",
    "learned_feedback",
    "matrix_layers",
    "newton_schulz",
    "polar_factor",
    "rate_factor",
    "set_rates",
]
