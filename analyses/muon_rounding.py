"""Orthogonalize the same gradients in several precisions and exactly, to see what rounding adds to Muon.

Run it: ``python analyses/muon_rounding.py --data-dir FOLDER -o rounding``, about ten minutes on one core. It
trains the condition bf16 of muon_rounding.toml, and writes steps.csv, means.csv and the figure rounding.pdf.
``--profile ci`` takes seconds, on the digits.
"""

import argparse
from pathlib import Path

from fadiag.studies import load_study
from fadiag.studies.rounding.figure import draw_rounding
from fadiag.studies.rounding.measure import DRAWS
from fadiag.studies.rounding.runs import measure_rounding

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("muon_rounding"), help="the folder to write")
    parser.add_argument("--data-dir", help="the folder of the data set's files")
    parser.add_argument("--profile", default="cpu", help="a profile of muon_rounding.toml")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of the placebo")
    given = parser.parse_args()
    folder = [f"base.data.folder={Path(given.data_dir).absolute()}"] if given.data_dir else []
    study = load_study(Path(__file__).with_suffix(".toml"), profile=given.profile, overrides=folder)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = measure_rounding(study, given.out, draws=given.draws, progress=print)
    for path in draw_rounding(rows, given.out / "rounding"):
        print(path)
