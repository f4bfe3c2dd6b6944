"""Test paired differences of several layers jointly, by sign flips and the largest t (max-T)."""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.statistics.p_value import at_or_above
from fadiag.spectra.validate import Floats, as_count, as_sample

__all__ = ["FEWEST", "MaxT", "max_t_sign_flip"]

#: With fewer than six pairs, the smallest two-sided p-value of a sign-flip test, 2 / 2^n, is above 0.05.
FEWEST = 6
#: Up to this number of pairs all flips are enumerated, so the test is exact and needs no draws.
_ALL = 12
#: Two flips are a tie if their means differ by less than this share of the differences' size.
_ROUNDING = 1e-12


class MaxT(NamedTuple):
    """Statistic and family-wise p-value of each layer.

    Examples
    --------
    >>> found = max_t_sign_flip(np.arange(1.0, 7.0)[:, None], np.random.default_rng(0))
    >>> isinstance(found, MaxT), found.flips
    (True, 64)
    """

    t: Floats
    p: Floats
    flips: int


def max_t_sign_flip(differences: ArrayLike, rng: np.random.Generator, draws: int = 9999) -> MaxT:
    """Return two-sided p-values of paired differences, corrected jointly over layers (Westfall and Young).

    Each flip changes the sign of a run's whole row, which preserves the dependence between layers. Up to 12
    runs all flips are used. With more runs, ``draws`` random flips are used, and p = (1 + #) / (draws + 1).

    Parameters
    ----------
    differences : array_like (runs, layers)
        One paired difference per run and layer; at least six runs.
    rng : numpy.random.Generator
        Used for more than 12 runs.
    draws : int
        Number of random flips for more than 12 runs.

    Returns
    -------
    MaxT

    Raises
    ------
    InputError
        The input has fewer than six runs: the test could never reject at 5 %. Report intervals instead.

    References
    ----------
    P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> shift = np.column_stack([np.arange(1.0, 7.0), [1.0, -1.0, 2.0, -2.0, 1.0, -1.0]])
    >>> max_t_sign_flip(shift, np.random.default_rng(0)).p
    array([0.0625, 1.    ])
    """
    d = as_sample(differences, "differences", ndim=2)
    runs = len(d)
    if runs < FEWEST or d.shape[1] == 0:
        raise InputError(
            f"differences has shape {d.shape}; a sign-flip test needs at least {FEWEST} paired runs and one "
            "layer (below, give the paired t interval only)"
        )
    if runs <= _ALL:
        flips = np.array(list(product((1.0, -1.0), repeat=runs)))
    else:
        count = as_count(draws, "draws", 99)
        flips = np.concatenate([np.ones((1, runs)), rng.choice([-1.0, 1.0], (count, runs))])
    peak = np.abs(d).max(axis=0)
    d = np.divide(d, peak, out=np.zeros_like(d), where=peak > 0)
    share = _share(flips, d)
    # The flips include the unflipped row, which gives the "1 +" of the p-value.
    p = at_or_above(share.max(axis=1), share[0], tie=_ROUNDING) / len(flips)
    # If all differences agree, t is infinite. The bound makes it a very large finite number.
    t = share[0] * np.sqrt((runs - 1) / np.maximum(1 - share[0] ** 2, 1e-14))
    return MaxT(t * np.sign(d.mean(axis=0)), p, len(flips))


def _share(flips: Floats, d: Floats) -> Floats:
    """Return |mean| / root mean square of each flip and layer.

    Flips do not change the sum of squares. So |t| is an increasing function of this share, the same in every
    layer, and both order the flips alike. The share's rounding error is only that of the mean, even if t
    divides by nearly zero or the differences cancel. So ties remain ties.
    """
    size = np.sqrt(np.square(d).mean(axis=0))
    mean = np.abs(flips @ d) / len(d)
    return np.asarray(np.divide(mean, size, out=np.zeros_like(mean), where=size > 0))
