"""A study of finished runs: the demo's 18 runs are in the pool, and the study is asked again.

Prints seconds of wall time of the whole command, in new processes: with all outputs there, with the results
but without tables, figures and report, and with nothing but the pool. The target is 10 s for the first.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(out: Path, pool: Path) -> float:
    """Return the wall time of the command."""
    begun = time.perf_counter()
    words = ["study", "demo", "-o", out, "--pool", pool]
    subprocess.run([sys.executable, "-m", "fadiag", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main(folder: Path) -> None:
    pool = folder / "pool"
    print(f"first call, makes what the pool lacks  {seconds(folder / 'a', pool):6.1f} s")
    print(f"all outputs are there                  {seconds(folder / 'a', pool):6.1f} s   (target 10)")
    (folder / "a" / "provenance.json").unlink()
    print(f"results are there, outputs are not     {seconds(folder / 'a', pool):6.1f} s")
    print(f"a new folder with the same pool        {seconds(folder / 'b', pool):6.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a folder to keep, so that runs are made once")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        main(given or Path(temporary))
