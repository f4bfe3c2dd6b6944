"""Ranks by a plain singular value decomposition, and one number of results."""

import numpy as np


def spectrum(matrix):
    """Return the singular values."""
    return np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)


def participation(matrix):
    """Return the participation ratio."""
    s = spectrum(matrix)
    return (s**2).sum() ** 2 / (s**4).sum()


def entropy_rank(weights):
    """Return exp of the entropy of weights."""
    p = weights[weights > 0] / weights.sum()
    return np.exp(-(p * np.log(p)).sum())


def at(results, variable, layer="fc2", step=10, run=0):
    """Return one number of results."""
    return float(results[variable].isel(run=run).sel(layer=layer, step=step))
