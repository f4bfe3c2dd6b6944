"""Array in, array out: ranks, alignment and subspaces of credit signals.

Matrices are (..., rows, columns), rows are samples; leading axes are batch axes; results are float64.
Nothing here knows of stores, steps or networks.
"""

from fadiag.spectra.alignment import angle as angle
from fadiag.spectra.alignment import cosine as cosine
from fadiag.spectra.alignment import matrix_cosine as matrix_cosine
from fadiag.spectra.center import centered as centered
from fadiag.spectra.entropy_rank import effective_rank as effective_rank
from fadiag.spectra.entropy_rank import effective_rank_energy as effective_rank_energy
from fadiag.spectra.entropy_rank import effective_rank_energy_of_spectrum as effective_rank_energy_of_spectrum
from fadiag.spectra.entropy_rank import effective_rank_of_spectrum as effective_rank_of_spectrum
from fadiag.spectra.marchenko import MarchenkoPastur as MarchenkoPastur
from fadiag.spectra.marchenko import marchenko_pastur as marchenko_pastur
from fadiag.spectra.participation import effective_samples as effective_samples
from fadiag.spectra.participation import participation_ratio as participation_ratio
from fadiag.spectra.participation import participation_ratio_debiased as participation_ratio_debiased
from fadiag.spectra.participation import participation_ratio_of_spectrum as participation_ratio_of_spectrum
from fadiag.spectra.singular import singular_values as singular_values
from fadiag.spectra.stable import stable_rank as stable_rank
from fadiag.spectra.stable import stable_rank_of_spectrum as stable_rank_of_spectrum
from fadiag.spectra.subspace import overlap as overlap
from fadiag.spectra.subspace import overlap_of_bases as overlap_of_bases
from fadiag.spectra.subspace import principal_angles as principal_angles
from fadiag.spectra.subspace import principal_angles_of_bases as principal_angles_of_bases
from fadiag.spectra.subspace import right_basis as right_basis

__all__ = [
    "MarchenkoPastur",
    "angle",
    "centered",
    "cosine",
    "effective_rank",
    "effective_rank_energy",
    "effective_rank_energy_of_spectrum",
    "effective_rank_of_spectrum",
    "effective_samples",
    "marchenko_pastur",
    "matrix_cosine",
    "overlap",
    "overlap_of_bases",
    "participation_ratio",
    "participation_ratio_debiased",
    "participation_ratio_of_spectrum",
    "principal_angles",
    "principal_angles_of_bases",
    "right_basis",
    "singular_values",
    "stable_rank",
    "stable_rank_of_spectrum",
]
