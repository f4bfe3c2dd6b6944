"""Made-up results that also hold what is recorded or kept on request only."""

import numpy as np

from tests.results.synthetic_results import PROBE, synthetic

#: The singular values of a run are `DECAY` ** index, of the runs of BP and of all others.
DECAY = {True: 0.9, False: 0.5}
VALUES = 12
LESS = {"wt": 3.0, "b": -2.0}


def kept(results=None):
    """Return results with spectra at the first and the last step, and with ranks for the two-by-two table.

    The rank of error_bp is 3 above the own one, that of error_fa 2 below.
    """
    results = synthetic() if results is None else results
    probe = results["probe"].to_dataset()
    conditions = [str(v) for v in probe["condition"].values]
    decay = np.array([DECAY[name == "bp"] for name in conditions]).reshape(-1, 1, 1, 1)
    ends = np.unique(probe["step"].values[[0, -1]])
    shape = (probe.sizes["run"], probe.sizes["layer"], len(ends), VALUES)
    spectrum = np.broadcast_to(decay ** np.arange(VALUES), shape).copy()
    spectrum *= 1 + probe["seed"].values.reshape(-1, 1, 1, 1) if "seed" in probe.coords else 1
    dims = ("run", "layer", "spectrum_step", "singular_value")
    probe = probe.assign_coords(spectrum_step=ends, singular_value=np.arange(1, VALUES + 1))
    probe = probe.assign(error_spectrum_raw=(dims, spectrum, PROBE))
    for rank in ("effective_rank", "participation_ratio"):
        own = probe[f"error_{rank}_raw"]
        probe[f"error_bp_{rank}_raw"] = (own + LESS["wt"]).assign_attrs(PROBE)
        probe[f"error_fa_{rank}_raw"] = (own + LESS["b"]).assign_attrs(PROBE)
    results["probe"] = probe
    return results
