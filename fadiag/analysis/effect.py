"""Sort a comparison by effect."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["by_effect"]


def by_effect(comparison: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of a comparison, the largest effect first.

    Metrics have different units. So the effect is the difference in half-widths of its interval: beyond 1 the
    interval excludes 0. Among rows with the same pairs of runs, the order is that of Cohen's d of the pairs.
    Rows without an interval come last.

    Parameters
    ----------
    comparison : pandas.DataFrame
        From `fadiag.compare`.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = {"variable": ["loss", "rank"], "difference": [9.0, -2.0]}
    >>> rows |= {"low": [0.0, -3.0], "high": [18.0, -1.0]}
    >>> by_effect(pd.DataFrame(rows))["variable"].tolist()
    ['rank', 'loss']
    """
    difference = comparison["difference"].to_numpy(np.float64)
    half = (comparison["high"] - comparison["low"]).to_numpy(np.float64) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.where(difference == 0, 0.0, np.abs(difference) / half)
    effect[np.isnan(half)] = -1
    return comparison.iloc[np.argsort(-effect, kind="stable")]
