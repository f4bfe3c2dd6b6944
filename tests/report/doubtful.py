"""Results without any doubt, and for each rule of the alerts the same with one doubt."""

import numpy as np
import xarray as xr

from fadiag.results.left_out import LeftOut, to_attribute
from fadiag.results.recorded import to_recorded_attribute
from tests.results.synthetic_results import synthetic


def sound(seeds=range(6)):
    """Return results of six seeds with everything that a rule looks at, and no doubt."""
    results = synthetic(("bp", "fa"), tuple(seeds), spread=0.1)
    runs = [str(run) for run in results["probe"]["run"].values]
    results.attrs["k"] = "classes - 1"
    results.attrs |= to_recorded_attribute({run: {"status": "complete"} for run in runs})
    probe, state = results["probe"].to_dataset(), results["state"].to_dataset()
    rank = probe["error_participation_ratio_raw"]
    probe["modulator_effective_rank_raw"] = probe["modulator_effective_rank_raw"].clip(max=8.5)
    probe["error_overlap"].attrs = {**probe["error_overlap"].attrs, "k": 9}
    probe["error_effective_samples"] = 3 * rank
    probe["error_participation_ratio_raw_at_ceiling"] = 0 * rank
    state["update_trustworthy"] = 1 + 0 * rank
    checks = (("run", "layer"), np.full((len(runs), probe.sizes["layer"]), "passed", object))
    results["probe"] = probe.assign_coords(
        error_bp_check=checks, probe_mode=("run", np.full(len(runs), "eval", object))
    )
    results["state"] = state
    return results


def _changed(stream, name, change):
    results = sound()
    dataset = results[stream].to_dataset().copy(deep=True)
    array = dataset[name]
    change(array.values)
    results[stream] = dataset
    return results


def _set(stream, name, value, last=slice(None)):
    def change(values):
        values[0, 1, last] = value

    return _changed(stream, name, change)


def _check(verdict):
    def change(values):
        values[0, 1] = verdict

    return _changed("probe", "error_bp_check", change)


def _killed():
    results = sound()
    results.attrs |= to_recorded_attribute({"bp-seed0": {"status": "killed"}})
    return results


def _left_out():
    results = sound()
    results.attrs |= to_attribute([LeftOut("bp-seed0", "is NaN", "probe", "fc1", metric="error_cosine")])
    return results


def _mode(values):
    values[0] = "train"


def _short():
    def change(values):
        values[0, :, -1] = np.nan

    return _changed("probe", "error_effective_rank_raw", change)


def _edges():
    results = sound()
    probe = results["probe"].to_dataset()
    at_edge = np.where(probe["condition"].values == "fa", "yes", "no").astype(object)
    results["probe"] = probe.assign_coords(rate_at_edge=("run", at_edge))
    return results


#: Name of a rule -> results with the doubt.
DOUBTS = {
    "dead": lambda: _set("probe", "error_participation_ratio_raw", 0.0),
    "ceiling": lambda: _set("probe", "error_participation_ratio_raw_at_ceiling", 1.0),
    "classes": lambda: _set("probe", "modulator_effective_rank_raw", 9.0),
    "samples": lambda: _set("probe", "error_effective_samples", 31.0),
    "rounding": lambda: _set("state", "update_trustworthy", 0.0),
    "status": _killed,
    "left out": _left_out,
    "short": _short,
    "edges": _edges,
    "seeds": lambda: sound(range(5)),
    "unchecked": lambda: _check("off"),
    "unclear": lambda: _check("inconclusive"),
    "failed": lambda: _check("failed"),
    "unlike": lambda: _changed("probe", "probe_mode", _mode),
}
#: Name of a rule -> its one alert, with the place.
SAID = {
    "dead": "The error is zero at the last step (layer fc2; run bp-seed0)",
    "ceiling": "The made up, is within 1 % of min(N, width), its largest value (layer fc2; run bp-seed0)",
    "classes": "The modulator's effective rank is at classes - 1 = 9 (layer fc2; run bp-seed0)",
    "samples": "The error's participation ratio is near N_eff, the number of samples that carry it "
    "(layer fc2; run bp-seed0)",
    "rounding": "Updates are below the rounding floor of the weights (layer fc2; run bp-seed0)",
    "status": "A run ended as killed (runs bp-seed0)",
    "left out": "The analysis left something out (run bp-seed0: error_cosine of layer 'fc1' is NaN)",
    "short": "Runs have no value of the primary metric at step 400, where others have one (bp-seed0)",
    "edges": "The best learning rate is at the edge of the search (conditions fa)",
    "seeds": "There are fewer than 6 seeds, too few for a p-value (seeds of fa: 5, bp: 5)",
    "unchecked": "error_bp of layer 'fc2' was not checked: check='off' (runs bp-seed0; stream probe)",
    "unclear": "error_bp of layer 'fc2' may or may not be the derivative of the loss: the check was "
    "inconclusive (runs bp-seed0; stream probe)",
    "failed": "error_bp of layer 'fc2' is not the derivative of the loss, and was left out "
    "(runs bp-seed0; stream probe)",
    "unlike": "Runs differ in probe mode (train, eval)",
}


def asked(results: xr.DataTree):
    from fadiag.report.question import ask

    return ask(results)
