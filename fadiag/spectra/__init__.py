"""Compute ranks, alignments, subspaces, nulls and statistics of credit signals from plain arrays.

Matrices are (..., rows, columns) with samples as rows. Leading axes are batch axes. Results are float64.
These functions do not use stores, steps or networks.
"""

from fadiag.spectra.alignment.cosine import angle as angle
from fadiag.spectra.alignment.cosine import cosine as cosine
from fadiag.spectra.alignment.cosine import matrix_cosine as matrix_cosine
from fadiag.spectra.alignment.direct import AlignmentMatrix as AlignmentMatrix
from fadiag.spectra.alignment.direct import alignment_matrix as alignment_matrix
from fadiag.spectra.alignment.direct import direct_weight_cosine as direct_weight_cosine
from fadiag.spectra.alignment.linear_cka import linear_cka_debiased as linear_cka_debiased
from fadiag.spectra.alignment.path_alignment import path_alignment as path_alignment
from fadiag.spectra.alignment.pseudo_backprop import PINV_RCOND as PINV_RCOND
from fadiag.spectra.alignment.pseudo_backprop import pseudo_backprop as pseudo_backprop
from fadiag.spectra.alignment.right_basis import right_basis as right_basis
from fadiag.spectra.alignment.subspace import overlap as overlap
from fadiag.spectra.alignment.subspace import overlap_of_bases as overlap_of_bases
from fadiag.spectra.alignment.subspace import principal_angles as principal_angles
from fadiag.spectra.alignment.subspace import principal_angles_of_bases as principal_angles_of_bases
from fadiag.spectra.linalg.center import centered as centered
from fadiag.spectra.linalg.singular import singular_values as singular_values
from fadiag.spectra.ranks.entropy_rank import effective_rank as effective_rank
from fadiag.spectra.ranks.entropy_rank import effective_rank_energy as effective_rank_energy
from fadiag.spectra.ranks.entropy_rank import (
    effective_rank_energy_of_spectrum as effective_rank_energy_of_spectrum,
)
from fadiag.spectra.ranks.entropy_rank import effective_rank_of_spectrum as effective_rank_of_spectrum
from fadiag.spectra.ranks.marchenko import MarchenkoPastur as MarchenkoPastur
from fadiag.spectra.ranks.marchenko import marchenko_pastur as marchenko_pastur
from fadiag.spectra.ranks.participation import effective_samples as effective_samples
from fadiag.spectra.ranks.participation import participation_ratio as participation_ratio
from fadiag.spectra.ranks.participation import participation_ratio_debiased as participation_ratio_debiased
from fadiag.spectra.ranks.participation import (
    participation_ratio_of_spectrum as participation_ratio_of_spectrum,
)
from fadiag.spectra.ranks.stable import stable_rank as stable_rank
from fadiag.spectra.ranks.stable import stable_rank_of_spectrum as stable_rank_of_spectrum
from fadiag.spectra.statistics.cosine_null import cosine_null_p as cosine_null_p
from fadiag.spectra.statistics.cosine_null import cosine_null_quantile as cosine_null_quantile
from fadiag.spectra.statistics.draws import permuted_cosines as permuted_cosines
from fadiag.spectra.statistics.draws import sign_flipped as sign_flipped
from fadiag.spectra.statistics.intervals import Interval as Interval
from fadiag.spectra.statistics.intervals import paired_t_interval as paired_t_interval
from fadiag.spectra.statistics.intervals import t_interval as t_interval
from fadiag.spectra.statistics.intervals import t_quantile as t_quantile
from fadiag.spectra.statistics.intervals import welch_interval as welch_interval
from fadiag.spectra.statistics.onsets import KaplanMeier as KaplanMeier
from fadiag.spectra.statistics.onsets import Onset as Onset
from fadiag.spectra.statistics.onsets import kaplan_meier as kaplan_meier
from fadiag.spectra.statistics.onsets import onset as onset
from fadiag.spectra.statistics.onsets import onset_threshold as onset_threshold
from fadiag.spectra.statistics.overlap_null import OverlapMoments as OverlapMoments
from fadiag.spectra.statistics.overlap_null import overlap_moments as overlap_moments
from fadiag.spectra.statistics.p_value import at_or_above as at_or_above
from fadiag.spectra.statistics.p_value import p_value as p_value
from fadiag.spectra.statistics.random_effects import CrossedInterval as CrossedInterval
from fadiag.spectra.statistics.random_effects import crossed_interval as crossed_interval
from fadiag.spectra.statistics.sign_flip import MaxT as MaxT
from fadiag.spectra.statistics.sign_flip import max_t_sign_flip as max_t_sign_flip
from fadiag.spectra.updates import ROUNDING_LIMIT as ROUNDING_LIMIT
from fadiag.spectra.updates import exploration as exploration
from fadiag.spectra.updates import polar_factor as polar_factor
from fadiag.spectra.updates import rounding_floor as rounding_floor
from fadiag.spectra.updates import update_loss as update_loss

__all__ = [
    "PINV_RCOND",
    "ROUNDING_LIMIT",
    "AlignmentMatrix",
    "CrossedInterval",
    "Interval",
    "KaplanMeier",
    "MarchenkoPastur",
    "MaxT",
    "Onset",
    "OverlapMoments",
    "alignment_matrix",
    "angle",
    "at_or_above",
    "centered",
    "cosine",
    "cosine_null_p",
    "cosine_null_quantile",
    "crossed_interval",
    "direct_weight_cosine",
    "effective_rank",
    "effective_rank_energy",
    "effective_rank_energy_of_spectrum",
    "effective_rank_of_spectrum",
    "effective_samples",
    "exploration",
    "kaplan_meier",
    "linear_cka_debiased",
    "marchenko_pastur",
    "matrix_cosine",
    "max_t_sign_flip",
    "onset",
    "onset_threshold",
    "overlap",
    "overlap_moments",
    "overlap_of_bases",
    "p_value",
    "paired_t_interval",
    "participation_ratio",
    "participation_ratio_debiased",
    "participation_ratio_of_spectrum",
    "path_alignment",
    "permuted_cosines",
    "polar_factor",
    "principal_angles",
    "principal_angles_of_bases",
    "pseudo_backprop",
    "right_basis",
    "rounding_floor",
    "sign_flipped",
    "singular_values",
    "stable_rank",
    "stable_rank_of_spectrum",
    "t_interval",
    "t_quantile",
    "update_loss",
    "welch_interval",
]


def __dir__() -> list[str]:
    return sorted(__all__)
