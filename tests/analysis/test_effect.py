"""A comparison sorted by effect."""

import numpy as np
import pandas as pd

from fadiag.analysis import by_effect, compare
from fadiag.results import select
from tests.results.synthetic_results import synthetic


def test_rows_without_an_interval_are_last_and_certain_ones_first() -> None:
    rows = {
        "variable": ["none", "zero", "small", "exact", "large"],
        "difference": [9.0, 0.0, 1.0, 0.1, -4.0],
        "low": [np.nan, 0.0, -1.0, 0.1, -5.0],
        "high": [np.nan, 0.0, 3.0, 0.1, -3.0],
    }
    assert by_effect(pd.DataFrame(rows))["variable"].tolist() == ["exact", "large", "small", "zero", "none"]


def test_the_order_is_that_of_cohens_d_of_the_pairs() -> None:
    tree = synthetic(("bp", "fa"))
    noisy = tree["probe"].to_dataset()
    rng = np.random.default_rng(0)
    tree["probe"] = noisy.map(lambda array: array + 0.1 * rng.standard_normal(array.shape))
    found = by_effect(compare(select(tree, condition="bp"), select(tree, condition="fa")))
    probe = tree["probe"].to_dataset().isel(step=-1)
    sizes = []
    for row in found[found["stream"] == "probe"].to_dict("records"):
        values = probe[row["variable"]].sel(layer=row["layer"]).values
        pairs = values[3:] - values[:3]
        if pairs.std(ddof=1) > 1e-9:
            sizes.append(abs(pairs.mean()) / pairs.std(ddof=1))
    assert len(sizes) > 10
    assert sizes == sorted(sizes, reverse=True)
