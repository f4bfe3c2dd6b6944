"""Write and open a report: CPU seconds and bytes for 20 runs of 50 layers and 100 steps.

    python tests/benchmarks/bench_report.py [RESULTS ...]

Results given by their paths are reported too. Opening is timed in headless Chromium, if there is one.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fadiag.report import write_report  # noqa: E402
from fadiag.results import load_results  # noqa: E402
from tests.report.chromium import BROWSERS, opened, shutil  # noqa: E402
from tests.results.synthetic_results import synthetic  # noqa: E402

CONDITIONS = ("bp", "fa", "fa+bn", "fa+muon")


def large(seeds: int = 5, layers: int = 50, steps: int = 100) -> xr.DataTree:
    """Return made-up results of four conditions, with noise, so that nothing compresses too well."""
    rng = np.random.default_rng(0)
    small = synthetic(CONDITIONS, tuple(range(seeds)), layers=tuple(f"layer{i:02d}" for i in range(layers)))
    groups = {"/": small.to_dataset()}
    recorded = np.linspace(0, 400, steps).round().astype(int)
    for name, node in small.children.items():
        stream = node.to_dataset().interp(step=recorded).assign_coords(step=recorded)
        for key, array in stream.data_vars.items():
            noise = 1 + 0.02 * rng.standard_normal(array.shape) * ("_null_" not in key)
            stream[key] = (array * noise).assign_attrs(node[key].attrs)
        groups[f"/{name}"] = stream
    return xr.DataTree.from_dict(groups)


def main() -> None:
    cases = {"20 x 50 x 100": large(), **{path: load_results(path) for path in sys.argv[1:]}}
    with tempfile.TemporaryDirectory() as folder:
        for name, results in cases.items():
            path, seconds = Path(folder) / "report.html", []
            for _ in range(3):
                start = time.process_time()
                write_report(results, path)
                seconds.append(time.process_time() - start)
            print(
                f"{name}: {min(seconds):.2f} s of CPU (of three), {path.stat().st_size / 1e6:.2f} MB", end=""
            )
            if any(map(shutil.which, BROWSERS)):
                with opened(Path(folder) / "profile") as page:
                    start = time.perf_counter()
                    page.open(path)
                    print(f", opened in {time.perf_counter() - start:.2f} s", end="")
            print()


if __name__ == "__main__":
    main()
