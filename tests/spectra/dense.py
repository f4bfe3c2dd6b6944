"""Dense definitions and matrices with a known spectrum, for the tests of several modules."""

import numpy as np

RANKS = {
    "stable_rank": lambda s: (s**2).sum() / s.max() ** 2,
    "participation_ratio": lambda s: (s**2).sum() ** 2 / (s**4).sum(),
    "effective_rank_energy": lambda s: np.exp(-sum(p * np.log(p) for p in s**2 / (s**2).sum() if p > 0)),
    "effective_rank": lambda s: np.exp(-sum(q * np.log(q) for q in s / s.sum() if q > 0)),
}


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_spectrum(s: np.ndarray, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (orthogonal(rows, len(s), rng) * s) @ orthogonal(columns, len(s), rng).T
