"""Measure the steps that Muon would make of recorded gradients: their rank, and where they point."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fadiag import spectra
from fadiag.store import open_run, run_info
from fadiag.studies.rounding.steps import FLOOR, Floats, Placebo, Space, placebo_of, steps_of

__all__ = ["DRAWS", "rows_of_gradient", "rows_of_store"]

Row = dict[str, Any]
#: Draws of the placebo, and its interval.
DRAWS = 20
_ENDS = (0.025, 0.975)
#: A part of a smaller share of a step's energy is float64 rounding, and has no direction.
_NOTHING = 1e-14


def rows_of_store(path: Path, *, draws: int = DRAWS) -> Iterator[Row]:
    """Yield a row for each recorded step, layer of Muon, source and method.

    The source ``gradient`` is the gradient of the probe's batch, for which the store also has that of
    backpropagation. The source ``momentum`` is what Muon orthogonalized at that step, of training batches; it
    is compared with the same gradient of backpropagation.

    Parameters
    ----------
    path : Path
        A run with Muon, with the probe signals ``gradient`` and ``gradient_bp`` and the state signals
        ``gradient`` and ``momentum``.
    draws : int
        Draws of the placebo.
    """
    tree, info = open_run(path), run_info(path)
    meta, config = info.manifest["meta"], info.manifest["config"]
    for layer in str(meta["optimizer_layers"]).split():
        probe = _of_layer(tree, "probe", layer)
        state = _of_layer(tree, "state", layer)
        for step in probe["step"].values.tolist():
            exact = _matrix(probe["gradient_bp"], step)
            found = {"gradient": _matrix(probe["gradient"], step)}
            if step in state["step"].values and not state["momentum"].sel(step=step).isnull().any():
                share = config["optimizer"]["momentum"]
                gradient, momentum = (_matrix(state[name], step) for name in ("gradient", "momentum"))
                found["momentum"] = share * momentum + (1 - share) * gradient
            for source, matrix in found.items():
                rng = np.random.default_rng([int(meta["seed"]), step])
                common = {"seed": meta["seed"], "step": step, "layer": layer, "source": source}
                for row in rows_of_gradient(matrix, exact, rng, draws=draws):
                    yield common | row


def _of_layer(run: xr.DataTree, stream: str, layer: str) -> xr.Dataset:
    return next(
        node.to_dataset() for node in run.children[stream].children.values() if node.attrs["name"] == layer
    )


def _matrix(array: xr.DataArray, step: int) -> Floats:
    values = np.asarray(array.sel(step=step).values, np.float64)
    return values.reshape(len(values), -1)


def rows_of_gradient(
    gradient: Floats, exact: Floats, rng: np.random.Generator, *, draws: int = DRAWS
) -> Iterator[Row]:
    """Yield a row for each method: the rank of its step, and its cosines with the gradient and that of BP.

    ``exact`` is the gradient of backpropagation. What a step has outside is all of it but its projection on
    the gradient's column and row space, those of singular values above 1e-6 of the largest. What rounding
    added is its difference from the step in float64; of the placebo it is the random directions.
    """
    space = Space.of(gradient)
    of_gradient = {
        "rows": gradient.shape[0],
        "columns": gradient.shape[1],
        "floor": FLOOR,
        "gradient_numerical_rank": space.rank,
        "gradient_effective_rank": float(spectra.effective_rank_of_spectrum(space.spectrum)),
        "gradient_effective_rank_energy": float(spectra.effective_rank_energy_of_spectrum(space.spectrum)),
        "gradient_cosine_bp": spectra.matrix_cosine(gradient, exact).item(),
        "bp_outside_share": _of_part(space.outside(exact), exact, exact, "outside")["outside_share"],
    }
    steps = steps_of(gradient, space)
    for method, step in steps.items():
        found = _directions(step, space, gradient, exact)
        if method in ("bf16", "float32"):
            found |= _of_part(step - steps["float64"], step, exact, "rounding")
        yield of_gradient | {"method": method} | _ranks(step) | found
    target = float(spectra.effective_rank_energy(steps["bf16"]))
    placebo = placebo_of(space, target, rng)
    drawn = [placebo.directions(rng) for _ in range(draws)]
    each = [_of_placebo(placebo, directions, space, gradient, exact) for directions in drawn]
    row = of_gradient | {"method": "placebo", "draws": draws, "placebo_scale": placebo.scale}
    yield row | _ranks(placebo.step(drawn[0])) | _summary(each)


def _ranks(step: Floats) -> Row:
    spectrum = spectra.singular_values(step)
    return {
        "effective_rank": float(spectra.effective_rank_of_spectrum(spectrum)),
        "effective_rank_energy": float(spectra.effective_rank_energy_of_spectrum(spectrum)),
    }


def _directions(step: Floats, space: Space, gradient: Floats, exact: Floats) -> Row:
    return {
        "cosine_gradient": spectra.matrix_cosine(step, gradient).item(),
        "cosine_bp": spectra.matrix_cosine(step, exact).item(),
        **_of_part(space.outside(step), step, exact, "outside"),
    }


def _of_part(part: Floats, step: Floats, exact: Floats, name: str) -> Row:
    """Return the share of a part of a step, and its cosine with the exact gradient if it is not rounding."""
    share = float((part**2).sum() / (step**2).sum())
    cosine = spectra.matrix_cosine(part, exact).item() if share > _NOTHING else None
    return {f"{name}_share": share, f"{name}_cosine_bp": cosine}


def _of_placebo(placebo: Placebo, directions: Floats, space: Space, gradient: Floats, exact: Floats) -> Row:
    """Return the same of one draw; the cosines of its random part do not depend on its scale."""
    step = placebo.step(directions)
    found = _directions(step, space, gradient, exact)
    for name, part in (("outside", space.outside(directions)), ("rounding", directions)):
        found |= {
            f"{name}_share": placebo.scale**2 * float((part**2).sum() / (step**2).sum()),
            f"{name}_cosine_bp": spectra.matrix_cosine(part, exact).item(),
        }
    return found


def _summary(each: list[Row]) -> Row:
    """Return the mean of draws and the ends of their central 95 %."""
    row: Row = {}
    for name in each[0]:
        values = [one[name] for one in each]
        row[name] = float(np.mean(values))
        row |= dict(zip((f"{name}_low", f"{name}_high"), np.quantile(values, _ENDS).tolist(), strict=True))
    return row
