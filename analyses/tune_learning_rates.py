"""Tune the learning rate of every condition of the rank study, and print the whole curves.

    python analyses/tune_learning_rates.py --data digits

Every condition gets the same budget: the same grid and the same seeds, which are not those of the study. The
score is the accuracy after the last epoch on the last fifth of the training images. The test images are not
used. A rate is excluded if any seed's loss is not finite. The script chooses the smallest rate within one
standard error of the best. It flags an optimum at the grid's edge, since the true one may lie outside.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from msgspec.structs import replace

from fadiag.training import Config, DivergedError, SeedConfig, condition_configs, demo_base, train
from fadiag.training.workers import run_each, worker_pool

METHODS = ("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen")
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SEEDS = (100, 101, 102)


def configurations(base: Config) -> Iterator[tuple[str, float, Config]]:
    """Yield condition, rate and configuration of every run, which records only its first and last step."""
    base = replace(
        base,
        data=replace(base.data, held_out="validation"),
        record=replace(base.record, every=10**9, redraws=0, gate_draws=0),
    )
    for rate in RATES:
        for condition, config in condition_configs(base, dict.fromkeys(METHODS, rate)).items():
            for seed in SEEDS:
                yield condition, rate, replace(config, seeds=SeedConfig(init=seed, data=seed, feedback=seed))


def score(config: Config) -> float | None:
    """Return the validation accuracy after the last epoch, or None if the run diverged."""
    latest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                config,
                Path(folder) / "run.zarr",
                device="cpu",
                progress=lambda done, steps, scalars: latest.update(scalars),
            )
        except DivergedError:
            return None
    return latest["validation_accuracy"]


def best_and_chosen(curve: Mapping[float, Sequence[float | None]]) -> tuple[float, float]:
    """Return the rate of the best mean, and the smallest rate within one standard error of it.

    Only rates at which every seed stayed finite count. If a curve is flat over decades, as under batch norm,
    the best of three seeds is chance. Then the smallest good rate is the one furthest from divergence.
    """
    means = {rate: fmean(scores) for rate, some in curve.items() if len(scores := _finite(some)) == len(some)}
    if not means:
        raise SystemExit("every rate of the grid diverged; add smaller rates")
    best = max(means, key=means.__getitem__)
    error = stdev(_finite(curve[best])) / len(curve[best]) ** 0.5
    return best, min(rate for rate, mean in means.items() if mean >= means[best] - error)


def table(curves: Mapping[str, Mapping[float, Sequence[float | None]]]) -> str:
    """Draw the curves as a Markdown table: mean and standard deviation over seeds, in percent."""
    lines = [
        f"| learning rate | {' | '.join(curves)} |",
        f"|---{'|---' * len(curves)}|",
    ]
    picks = {condition: best_and_chosen(curve) for condition, curve in curves.items()}
    for rate in RATES:
        cells = [_cell(curve[rate], rate == picks[condition][1]) for condition, curve in curves.items()]
        lines.append(f"| {rate:g} | {' | '.join(cells)} |")
    lines.append("")
    for condition, (best, chosen) in picks.items():
        edge = "; **at an edge of the grid**" if {best, chosen} & {RATES[0], RATES[-1]} else ""
        lines.append(f"- {condition}: {chosen:g} (best mean at {best:g}{edge})")
    return "\n".join(lines)


def _finite(scores: Sequence[float | None]) -> list[float]:
    return [one for one in scores if one is not None]


def _cell(scores: Sequence[float | None], chosen: bool) -> str:
    finite = _finite(scores)
    if len(finite) < len(scores):
        return f"diverged ({len(scores) - len(finite)} of {len(scores)})"
    text = f"{100 * fmean(finite):.1f} ± {100 * stdev(finite):.1f}"
    return f"**{text}**" if chosen else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    curves: dict[str, dict[float, list[float | None]]] = {
        condition: {rate: [] for rate in RATES} for condition in METHODS
    }
    runs = {str(i): run for i, run in enumerate(configurations(demo_base(options.data, options.data_dir)))}
    with worker_pool(options.jobs) as pool:
        for name, result in run_each(pool, score, {name: (config,) for name, (_, _, config) in runs.items()}):
            condition, rate, _ = runs[name]
            curves[condition][rate].append(result)
    print(table(curves))


if __name__ == "__main__":
    main()
