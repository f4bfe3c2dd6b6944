"""Train three conditions on the digits with three seeds each, and measure them: python study.py FOLDER."""

import shutil
import sys
from pathlib import Path

import fadiag
from fadiag.training import make_config, train

SHARED = {
    "data": {"name": "digits"},
    "train": {"epochs": 5, "batch_size": 50},
    "model": {"hidden": [64, 64, 64]},
    "record": {
        "every": 29,
        "probe_samples": 128,
        "redraws": 19,
        "gate_draws": 10,
        "error_fa": True,
    },
}
CONDITIONS = {
    "bp": {"rule": "bp", "optimizer": {"learning_rate": 0.03}},
    "fa": {"rule": "fa", "optimizer": {"learning_rate": 0.03}},
    "fa+muon": {
        "rule": "fa",
        "optimizer": {
            "name": "muon",
            "learning_rate": 0.03,
            "rest": {"learning_rate": 0.01},
        },
    },
}

if __name__ == "__main__":
    out = Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    stores = []
    for condition, own in CONDITIONS.items():
        for seed in range(3):
            seeds = {"init": seed, "data": seed, "feedback": seed}
            config = make_config(
                {**SHARED, **own, "condition": condition, "seeds": seeds}
            )
            stores.append(train(config, out / f"{condition}-{seed}.zarr", device="cpu"))
    fadiag.save_results(fadiag.analyze(stores, spectra="error"), out / "results.zarr")
