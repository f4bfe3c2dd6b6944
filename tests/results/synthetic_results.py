"""Made-up results in the layout of fadiag.analysis, with known finals."""

import numpy as np
import xarray as xr

CONDITIONS = ("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen")
LAYERS = ("fc1", "fc2", "fc3", "out")
#: Enough for a test that looks at the text around the figures only.
SMALL = {"conditions": ("bp", "fa"), "layers": ("fc1", "out")}
STEPS = np.arange(0, 401, 50)
PROBE = {
    "long_name": "made up",
    "units": "1",
    "formula": "tr(G)² / |G|²",
    "source": "definition",
    "definition_version": 1,
    "unfolding": "samples",
    "samples": 256,
    "probe_mode": "eval",
    "split": "test",
}

#: Accuracy and the error's participation ratio at the last hidden layer that the runs of seed 0 end with.
ACCURACY = dict(zip(CONDITIONS, (0.97, 0.90, 0.95, 0.94, 0.96, 0.85), strict=True))
RANK = dict(zip(CONDITIONS, (30.0, 15.0, 26.0, 24.0, 28.0, 12.0), strict=True))


def synthetic(conditions=CONDITIONS, seeds=(0, 1, 2), *, nulls=True, spread=1.0, layers=LAYERS):
    """Return results whose curves saturate, with a seed effect of known size (0, 1, 2 times spread).

    Of other layers than four, those between the first and the last repeat the second.
    """
    runs = [(m, s) for m in conditions for s in seeds]
    rise = 1 - np.exp(-STEPS / 100)
    rise = rise / rise[-1]
    shape = (len(runs), len(LAYERS), len(STEPS))
    probe = {}

    def apart(i, seed):
        """Differences between conditions vary over seeds, so that they have an interval."""
        return spread * 0.001 * seed * (5 * i % 7)

    def put(name, end, start=1.0):
        values = np.empty(shape)
        for i, (condition, seed) in enumerate(runs):
            for j in range(len(LAYERS)):
                last = end(condition, j) + spread * 0.02 * seed * (1 + (i % 3)) * end("bp", j)
                last += apart(i, seed) * end("bp", j)
                values[i, j] = start + (last - start) * rise
        probe[name] = (("run", "layer", "step"), values, PROBE)

    put("error_participation_ratio_raw", lambda m, j: RANK.get(m, 20.0) * (3 - j if j < 3 else 0.3))
    put("modulator_participation_ratio_raw", lambda m, j: 7.0 if m == "bp" else 5.0)
    put("error_effective_rank_raw", lambda m, j: 4 * RANK.get(m, 20.0) + 5 * (3 - j))
    put("modulator_effective_rank_raw", lambda m, j: 8.8 if m == "bp" else 8.0)
    put("error_cosine", lambda m, j: 1.0 if m == "bp" or j == 3 else 0.5 - 0.1 * (2 - j), start=0.0)
    put("error_overlap", lambda m, j: 1.0 if m == "bp" or j == 3 else 0.7 - 0.1 * (2 - j), start=0.2)
    put("weight_feedback_cosine", lambda m, j: 0.3 + 0.1 * j, start=0.0)
    for rank in ("effective_rank", "participation_ratio"):
        for signal, end in (("gradient", 6.0), ("momentum", 9.0), ("update", 12.0)):
            put(
                f"{signal}_{rank}_raw",
                lambda m, j, end=end: end + j + (50 if "muon" in m and end == 12 else 0),
            )
    state = {
        name: probe.pop(name)
        for name in list(probe)
        if name.startswith(("weight_", "gradient_", "momentum_", "update_"))
    }
    for name in ("update_effective_rank_raw", "update_participation_ratio_raw"):
        state[name][1][..., -1] = np.nan  # the last state has no update
    bp = [i for i, (m, _) in enumerate(runs) if m == "bp"]
    weights = state["weight_feedback_cosine"][1]
    weights[bp], weights[:, 0] = np.nan, np.nan
    if nulls:
        for name, half in (("error_cosine", 0.2), ("error_overlap", 0.3)):
            center = 0.0 if name == "error_cosine" else 0.4
            for end, value in (("low", center - half), ("high", center + half)):
                probe[f"{name}_null_{end}"] = (("run", "layer", "step"), np.full(shape, value), PROBE)
        for end, value in (("low", -0.05), ("high", 0.05)):
            state[f"weight_feedback_cosine_null_{end}"] = (
                ("run", "layer", "step"),
                np.where(np.isnan(weights), np.nan, value),
                {"long_name": "null"},
            )
        rank = probe["error_participation_ratio_raw"][1]
        for end, factor in (("low", 0.9), ("high", 1.1)):
            probe[f"error_participation_ratio_raw_gate_null_{end}"] = (
                ("run", "layer", "step"),
                rank * factor,
                PROBE,
            )
    accuracy = np.array(
        [
            0.1 + (ACCURACY.get(m, 0.9) + spread * 0.005 * s + apart(i, s) / 10 - 0.1) * rise
            for i, (m, s) in enumerate(runs)
        ]
    )
    coords = {
        "run": ("run", np.array([f"{m}-seed{s}" for m, s in runs], object)),
        "condition": ("run", np.array([m for m, _ in runs], object)),
        "rule": ("run", np.array(["bp" if m == "bp" else "fa" for m, _ in runs], object)),
        "seed": ("run", np.array([s for _, s in runs])),
        "step": STEPS,
    }
    layered = {**coords, "layer": ("layer", np.array(LAYERS, object))}
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset(
                attrs={
                    "fadiag_results": 3,
                    "created": "2026-11-24T12:00:00+00:00",
                    "versions": "fadiag 0.1.0, numpy 2.4",
                }
            ),
            "/log": xr.Dataset({"test_accuracy": (("run", "step"), accuracy)}, coords, {"kind": "log"}),
            "/probe": xr.Dataset(probe, layered, {"kind": "probe"}),
            "/state": xr.Dataset(state, layered, {"kind": "state"}),
        }
    )
    if layers != LAYERS:
        like = [0, *[1] * (len(layers) - 2), 3]
        for stream in ("probe", "state"):
            tree[stream] = (
                tree[stream].to_dataset().isel(layer=like).assign_coords(layer=np.array(layers, object))
            )
    return tree


def shorter(results, condition, steps):
    """Return results in which the runs of a condition have values at their first steps only."""
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset()
        ended = (dataset["condition"] == condition) & (dataset["step"] > dataset["step"][steps - 1])
        results[stream] = dataset.where(~ended)
    return results
