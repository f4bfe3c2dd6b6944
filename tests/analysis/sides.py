"""The two sides of a comparison: results with known final values."""

import numpy as np
import xarray as xr


def results(finals, seeds, *, samples=64, unfolding="samples", version=1):
    """Return results whose runs end with these values, at the last step but one."""
    values = np.stack([np.zeros(len(finals)), finals, np.full(len(finals), np.nan)], axis=-1)[:, None]
    attrs = {"definition_version": version, "samples": samples}
    probe = xr.Dataset(
        {
            "error_cosine": (("run", "layer", "step"), values, attrs),
            "error_cosine_null_low": (("run", "layer", "step"), values, attrs),
        },
        {"run": [f"r{s}" for s in seeds], "seed": ("run", seeds), "layer": ["fc"], "step": [0, 1, 2]},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"unfolding": unfolding}), "/probe": probe})


A = np.array([1.0, 2.0, 4.0])


B = np.array([1.5, 2.4, 4.7])


def told(tree, **values):
    """Return results with a coordinate along run, such as the condition."""
    return xr.DataTree.from_dict(
        {
            "/": tree.dataset,
            "/probe": tree["probe"].to_dataset().assign_coords({k: ("run", v) for k, v in values.items()}),
        }
    )
