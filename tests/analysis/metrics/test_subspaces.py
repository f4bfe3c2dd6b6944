"""Overlap and principal angles of leading subspaces."""

from collections.abc import Callable

import numpy as np
import scipy.linalg
import xarray as xr

import fadiag


def test_the_dimension_that_was_compared_is_told(make_run: Callable[..., xr.DataTree]) -> None:
    # Layers of 12, 10 and 4 outputs on 16 samples.
    found = fadiag.analyze(make_run(), k=11)["probe/error_overlap_dimension"]
    assert found.isel(run=0, step=0).values.tolist() == [11, 10, 4]


def pair(tree: xr.DataTree, layer: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    at = tree[f"probe/{layer}"].sel(step=step)
    return at["error"].values.astype(np.float64), at["error_bp"].values.astype(np.float64)


def test_principal_angles_are_those_between_the_leading_directions(
    make_run: Callable[..., xr.DataTree],
) -> None:
    tree = make_run()
    found = fadiag.analyze(tree)["probe"].to_dataset().isel(run=0).sel(layer="fc2", step=10)
    x, y = (np.linalg.svd(m)[2][:3].T for m in pair(tree, "fc2", 10))
    angles = np.degrees(scipy.linalg.subspace_angles(x, y))
    np.testing.assert_allclose(found["error_principal_angle_largest"], angles[0], rtol=1e-6)
    np.testing.assert_allclose(found["error_principal_angle_smallest"], angles[-1], rtol=1e-6)
    overlap = np.mean(np.cos(np.radians(angles)) ** 2)
    np.testing.assert_allclose(found["error_overlap"], overlap, rtol=1e-6)


def test_a_signal_with_too_few_directions_has_no_angles(
    make_run: Callable[..., xr.DataTree], edit: Callable[..., xr.DataTree]
) -> None:
    tree = make_run()
    line = np.outer(np.arange(1.0, 17), np.ones(10))
    tree = edit(tree, "probe/fc2/error", 1, line)
    found = fadiag.analyze(tree)["probe"].to_dataset().isel(run=0).sel(layer="fc2")
    for name in ("error_principal_angle_smallest", "error_principal_angle_largest"):
        assert np.isnan(found[name].values).tolist() == [False, True, False, False]
        assert "has fewer than k directions" in found[name].attrs["not_a_number"]
    assert np.isfinite(found["error_overlap"]).all()


def test_the_overlap_by_chance_has_a_mean_and_a_spread(make_run: Callable[..., xr.DataTree]) -> None:
    found = fadiag.analyze(make_run())["probe"].to_dataset().isel(run=0, step=0).sel(layer="fc2")
    moments = fadiag.spectra.overlap_moments(10, 3)
    assert float(found["error_overlap_chance"]) == moments.mean == 0.3
    assert float(found["error_overlap_chance_std"]) == moments.std
