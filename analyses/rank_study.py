"""Test the claim that the last hidden layer's error has a lower rank under Feedback Alignment than under BP.

``fadiag demo`` runs a small version of this study; here you choose the data set. The decision rule was fixed
before the first run, in `fadiag.training.demo_study`: primary metric ``error_participation_ratio_centered``,
primary layer ``fc3``, runs paired by seed, the last recorded step. All other figures are secondary.

    python analyses/rank_study.py --out rank-digits
    python analyses/rank_study.py --data fashion-mnist --data-dir FOLDER --out rank-fashion
    python analyses/rank_study.py --quick --out rank-quick     # two seeds, two conditions: a quick trial
"""

import argparse
from dataclasses import replace
from pathlib import Path

import fadiag
from fadiag.figures import FIGURES, caption, save
from fadiag.report import write_report
from fadiag.training import demo_study, run_study


def main(data: str, data_dir: Path | None, out: Path, seeds: int | None, quick: bool) -> None:
    study = demo_study(data, data_dir)
    if quick:
        conditions = {name: config for name, config in study.conditions.items() if name in {"bp", "fa"}}
        study = replace(study, conditions=conditions, seeds=(0, 1))
    elif seeds is not None:
        study = replace(study, seeds=tuple(range(seeds)))
    stores = run_study(
        study, out / "runs", progress=lambda done, total, name: print(f"{done}/{total} {name}")
    )
    results = fadiag.analyze(stores, output=out / "results.zarr")
    pictures = out / "figures"
    pictures.mkdir(exist_ok=True)
    for figure in FIGURES:
        drawn = figure.draw(results)
        save(drawn, pictures / f"{figure.name}.pdf")
        print(f"{figure.title}: {caption(drawn)}")
    print(write_report(results, out / "report.html"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits", choices=["digits", "fashion-mnist", "cifar10"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, help="number of seeds, three by default; six allow a p-value")
    parser.add_argument("--quick", action="store_true", help="two seeds of BP and FA only")
    arguments = parser.parse_args()
    main(arguments.data, arguments.data_dir, arguments.out, arguments.seeds, arguments.quick)
